"""Tools as the templates of Qwen2.5, QwQ and Qwen3 have them: signatures and calls as JSON between markers.

    <|im_start|>system\\n{system}\\n\\n# Tools ... <tools>\\n{signature}\\n</tools> ...<|im_end|>\\n
    <|im_start|>assistant\\n{text}\\n<tool_call>\\n{"name": ..., "arguments": ...}\\n</tool_call><|im_end|>\\n
    <|im_start|>user\\n<tool_response>\\n{result}\\n</tool_response><|im_end|>\\n

The texts are those of the chat templates of Qwen/Qwen2.5-7B-Instruct, Qwen/QwQ-32B and Qwen/Qwen3-0.6B, character for
character. The markers that a tokenizer has (Qwen2.5 has those of calls, Qwen3 those of results too) are placed and
recognised by their ids, so neither a question nor a result can forge them.
"""

import json
from collections.abc import Sequence

from model_loader.chat_format.answer_reader import AnswerReader
from model_loader.chat_format.call_reader import CALL_END, CALL_START, CallReader
from model_loader.chat_format.chatml import ChatML, Opening
from model_loader.chat_format.detokenizer import Vocabulary
from model_loader.chat_format.json_calls import parse_call
from model_loader.chat_format.messages import Message, Tool, ToolUse, check_conversation
from model_loader.chat_format.thoughts import keeps_thoughts, loop_start, thought_parts
from model_loader.chat_format.turns import Marker, Part, Turn, plain_turn, turns_with_results

RESULT_START = Marker("<tool_response>")
RESULT_END = Marker("</tool_response>")
_INTRODUCTION = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_TEMPLATE_ALWAYS_PARTS = "\\n\\n# Tools"
"""In Jinja's spelling: templates before Qwen3's have an empty line above the tools even without a system message."""


class JsonTools:
    """The dialect of one checkpoint."""

    supports_tools = True
    writes_json = True

    def __init__(self, chat_format: ChatML, vocabulary: Vocabulary, chat_template: str) -> None:
        self._format = chat_format
        self._vocabulary = vocabulary
        self._keeps_thoughts = keeps_thoughts(chat_template)
        self._head = f"{chat_format.default_system}\n\n" if _TEMPLATE_ALWAYS_PARTS in chat_template else ""

    @staticmethod
    def is_in(chat_template: str) -> bool:
        """Whether a template has this dialect; those of `xml_tools` share its markers and write XML between them."""
        return CALL_START in chat_template and "<function=" not in chat_template

    def turns(self, messages: Sequence[Message], tools: ToolUse) -> list[Turn]:
        """As `Dialect` says; results that follow one another share a turn."""
        check_conversation(messages)
        turns: list[Turn] = []
        rest = list(messages)
        if tools.offered:
            system = rest.pop(0) if rest[0].role == "system" else None
            turns.append(self._system_turn(system, tools.offered))
        start = loop_start(rest) if self._keeps_thoughts else len(rest)

        def spoken(place: int, message: Message) -> tuple[Part, ...]:
            return _spoken(message, keeps_thoughts=place >= start)

        return turns + turns_with_results(rest, spoken, plain_turn, _result, "\n")

    def beginnings(self, messages: Sequence[Message], tools: ToolUse, opening: Opening) -> list[tuple[Part, ...]]:
        """As `Dialect` says. The space behind the last colon is left to the model, whose tokens begin with it."""
        line_end = "\n" if opening.text else ""
        return [(line_end, Marker(CALL_START), f'\n{{"name": "{tool.name}", "arguments":') for tool in tools.demanded]

    def reader(
        self, messages: Sequence[Message], tools: ToolUse, stop: Sequence[str], opening: Opening
    ) -> AnswerReader:
        """As `Dialect` says."""
        if not tools.offered:
            return AnswerReader(self._format, self._vocabulary, stop, opening)
        return CallReader(self._format, self._vocabulary, parse_call, stop, opening, is_parallel=tools.is_parallel)

    def _system_turn(self, system: Message | None, tools: Sequence[Tool]) -> Turn:
        head = self._head if system is None else f"{system.content}\n\n"
        signatures = "".join(f"\n{signature(tool)}" for tool in tools)
        start, end = Marker(CALL_START), Marker(CALL_END)
        return Turn(
            "system",
            (
                f"{head}{_INTRODUCTION}{signatures}\n</tools>\n\n"
                "For each function call, return a json object with function name and arguments within ",
                start,
                end,
                " XML tags:\n",
                start,
                '\n{"name": <function-name>, "arguments": <args-json-object>}\n',
                end,
            ),
            joins_newline=True,
        )


def signature(tool: Tool) -> str:
    """As the `tojson` filter of transformers writes the tool of an OpenAI request; what is not given is left out."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    given = {key: value for key, value in function.items() if value not in ("", None)}
    return json.dumps({"type": "function", "function": given}, ensure_ascii=False)


def _spoken(message: Message, *, keeps_thoughts: bool) -> tuple[Part, ...]:
    parts: list[Part] = [message.content]
    if keeps_thoughts and message.reasoning:
        parts = [*thought_parts(message.reasoning.strip("\n")), message.content.lstrip("\n")]
    for number, call in enumerate(message.tool_calls):
        parts += [
            "\n" if number or message.content else "",
            Marker(CALL_START),
            f'\n{{"name": "{call.name}", "arguments": {call.arguments}}}\n',
            Marker(CALL_END),
        ]
    return tuple(parts)


def _result(message: Message) -> tuple[Part, ...]:
    return RESULT_START, f"\n{message.content}\n", RESULT_END
