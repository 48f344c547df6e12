"""What an assistant has thought in earlier turns, as far as prompts repeat it.

Templates of thinking models keep the reasoning that led to calls of tools while the model works on the last question,
and leave out all that was thought before it.
"""

from collections.abc import Sequence

from model_loader.chat_format.chatml import THINK_END, THINK_START
from model_loader.chat_format.messages import Message
from model_loader.chat_format.turns import Marker, Part

_RESULT_START, _RESULT_END = "<tool_response>", "</tool_response>"


def keeps_thoughts(chat_template: str) -> bool:
    """Whether a template repeats the reasoning of the turns behind the last question, as Qwen3's and Qwen3.5's do."""
    return "reasoning_content" in chat_template and "last_query_index" in chat_template


def loop_start(messages: Sequence[Message]) -> int:
    """The place behind the last question. A user's message that is written like a tool's result counts as none."""
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        said = message.content.strip()
        if message.role == "user" and not (said.startswith(_RESULT_START) and said.endswith(_RESULT_END)):
            return place + 1
    return len(messages)


def thought_parts(reasoning: str) -> tuple[Part, ...]:
    """A whole block of reasoning, as it stands before an answer."""
    return Marker(THINK_START), f"\n{reasoning}\n", Marker(THINK_END), "\n\n"
