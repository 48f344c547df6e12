"""Tools as Qwen-1 was taught them in 2023: ReAct prompting (Yao et al. 2022, arXiv:2210.03629) inside ChatML.

    <|im_start|>user\\n{instruction}\\n\\nQuestion: {question}<|im_end|>\\n
    <|im_start|>assistant\\nThought: ...\\nAction: {name}\\nAction Input: {arguments}\\nObservation: {result}\\nThought:

Texts, the mapping of messages and the parsing are those of QwenLM/Qwen, openai_api.py (December 2023), character for
character; react_demo.py differs in its last line alone. The results of calls stand inside the assistant's turn, so a
prompt that ends with one leaves that turn open. Everything here is text: a result may write `Thought:` itself, as it
could then.
"""

import json
from collections.abc import Sequence

from model_loader.chat_format.answer_reader import AnswerReader
from model_loader.chat_format.chatml import ChatML, Opening
from model_loader.chat_format.detokenizer import Vocabulary
from model_loader.chat_format.messages import Message, Tool, ToolUse, check_conversation
from model_loader.chat_format.react_calls import ReactCallReader
from model_loader.chat_format.turns import Part, Turn, plain_turns
from model_loader.errors import InvalidSetting
from model_loader.events import ToolCall

TOOL_DESC = (
    "{name_for_model}: Call this tool to interact with the {name_for_human} API."
    " What is the {name_for_human} API useful for? {description_for_model} Parameters: {parameters}"
)
REACT_INSTRUCTION = """Answer the following questions as best you can. You have access to the following APIs:

{tools_text}

Use the following format:

Question: the input question you must answer
Thought: you should always think about what to do
Action: the action to take, should be one of [{tools_name_text}]
Action Input: the input to the action
Observation: the result of the action
... (this Thought/Action/Action Input/Observation can be repeated zero or more times)
Thought: I now know the final answer
Final Answer: the final answer to the original input question

Begin!"""


class ReactTools:
    """The dialect of Qwen-1. One answer makes one call at most: the model stops where it waits for the result."""

    supports_tools = True
    writes_json = False

    def __init__(self, chat_format: ChatML, vocabulary: Vocabulary) -> None:
        self._format = chat_format
        self._vocabulary = vocabulary

    def turns(self, messages: Sequence[Message], tools: ToolUse) -> list[Turn]:
        """As `Dialect` says; without tools, now and before, it is plain ChatML."""
        if not _has_tools(messages, tools):
            return plain_turns(messages)
        check_conversation(messages)
        has_system = messages[0].role == "system"
        system = _stripped(messages[0].content) if has_system else self._format.default_system
        said = _merged(messages[1:] if has_system else messages, has_tools=bool(tools.offered))
        if tools.offered:
            at = _instructed(said)
            said[at] = ("user", f"{_instruction(tools.offered)}\n\nQuestion: {said[at][1]}")
        turns = [Turn("system", (system,)), *(Turn(role, (text,)) for role, text in said)]
        if messages[-1].role == "tool":
            turns[-1] = Turn("assistant", turns[-1].parts, is_open=True)
        return turns

    def beginnings(self, messages: Sequence[Message], tools: ToolUse, opening: Opening) -> list[tuple[Part, ...]]:
        """As `Dialect` says: a thought that is left empty, then the call."""
        thought = "" if messages[-1].role == "tool" else "Thought:"
        return [(f"{thought} \nAction: {tool.name}\nAction Input:",) for tool in tools.demanded]

    def reader(
        self, messages: Sequence[Message], tools: ToolUse, stop: Sequence[str], opening: Opening
    ) -> AnswerReader:
        """As `Dialect` says."""
        is_open = messages[-1].role == "tool"
        if opening.text and (tools.offered or is_open):
            raise InvalidSetting(
                "An answer that has begun cannot go on with tools: a model of the first generation thinks aloud before "
                "it answers. Leave out the beginning, or the tools."
            )
        if not tools.offered and not is_open:
            return AnswerReader(self._format, self._vocabulary, stop, opening)
        return ReactCallReader(self._format, self._vocabulary, stop, allows_calls=bool(tools.offered))


def _has_tools(messages: Sequence[Message], tools: ToolUse) -> bool:
    return bool(tools.offered) or any(message.tool_calls or message.role == "tool" for message in messages)


def _instruction(tools: Sequence[Tool]) -> str:
    descriptions = [
        TOOL_DESC.format(
            name_for_model=tool.name,
            name_for_human=tool.name,
            description_for_model=tool.description,
            parameters=json.dumps(tool.parameters or {}, ensure_ascii=False),
        )
        for tool in tools
    ]
    names = ", ".join(tool.name for tool in tools)
    return REACT_INSTRUCTION.format(tools_text="\n\n".join(descriptions), tools_name_text=names).rstrip()


def _merged(messages: Sequence[Message], *, has_tools: bool) -> list[tuple[str, str]]:
    """Role and text of each turn: an assistant's words, calls and their results become one text.

    Of several calls in one message each is written before its result, as the model would have made them.
    """
    said: list[tuple[str, str]] = []
    waiting: list[ToolCall] = []

    def add(text: str) -> None:
        role, before = said[-1] if said else ("", "")
        if role == "assistant":
            said[-1] = (role, f"{before}\n{text}")
        else:
            said.append(("assistant", _stripped(text)))

    for before, message in zip([None, *messages], messages, strict=False):
        content = _stripped(message.content)
        if message.role == "tool":
            if waiting and before is not None and before.role == "tool":
                add(_written(waiting.pop(0), ""))
            add(f"Observation: {content}")
            continue
        while waiting:
            add(_written(waiting.pop(0), ""))
        if message.role == "user":
            said.append(("user", content))
        elif message.tool_calls:
            first, *waiting = message.tool_calls
            add(_written(first, content))
        else:
            add(f"Thought: I now know the final answer.\nFinal Answer: {content}" if has_tools else content)
    if messages[-1].role == "tool":
        add("Thought:")
    return [(role, _stripped(text)) for role, text in said]


def _written(call: ToolCall, thought: str) -> str:
    thought = thought if thought.startswith("Thought:") else f"Thought: {thought}"
    return f"{thought}\nAction: {call.name}\nAction Input: {call.arguments}"


def _instructed(said: Sequence[tuple[str, str]]) -> int:
    """Which user's turn carries the instruction: the last one that has an answer, or the last one of all."""
    questions = [at for at, (role, _) in enumerate(said) if role == "user"]
    if not questions:
        raise InvalidSetting("The conversation has no question; tools need one user message at least.")
    last = questions[-1]
    if last == len(said) - 1 and len(questions) > 1 and said[last - 1][0] == "assistant":
        return questions[-2]
    return last


def _stripped(text: str) -> str:
    """As texts were in Qwen-1's training data."""
    return text.lstrip("\n").rstrip()
