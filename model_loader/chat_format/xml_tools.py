"""Tools as the templates of Qwen3-Coder, Qwen3-Coder-Next and Qwen3.5 have them: calls as XML between markers.

    <|im_start|>assistant\\n{text}\\n\\n<tool_call>\\n<function={name}>\\n...</function>\\n</tool_call><|im_end|>\\n

The texts are those of the chat templates of Qwen/Qwen3-Coder-30B-A3B-Instruct, which lists tools as XML behind the
system message, and of Qwen/Qwen3.5-4B, which lists them as JSON before it, keeps reasoning and trims all that is said.
Markers are placed and recognised by their ids, as in `json_tools`.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from model_loader.chat_format.answer_reader import AnswerReader
from model_loader.chat_format.call_reader import CALL_END, CALL_START, CallReader
from model_loader.chat_format.chatml import ChatML, Opening
from model_loader.chat_format.detokenizer import Vocabulary
from model_loader.chat_format.json_tools import RESULT_END, RESULT_START, signature
from model_loader.chat_format.messages import Message, Tool, ToolUse, check_conversation
from model_loader.chat_format.thoughts import keeps_thoughts, loop_start, thought_parts
from model_loader.chat_format.turns import Marker, Part, Turn, plain_turn, turns_with_results
from model_loader.chat_format.xml_calls import FUNCTION_START, parse_call, spelled, written_call

_LISTS_XML = "<function>\\n<name>"
"""In Jinja's spelling: how Qwen3-Coder's template lists a tool."""
_DEFAULT_SYSTEM = "You are Qwen, a helpful AI assistant that can interact with a computer to solve tasks."
_INTRODUCTION = "# Tools\n\nYou have access to the following functions:\n\n<tools>"
_RULES = """

If you choose to call a function ONLY reply in the following format with NO suffix:

<tool_call>
<function=example_function_name>
<parameter=example_parameter_1>
value_1
</parameter>
<parameter=example_parameter_2>
This is the value for the second parameter
that can span
multiple lines
</parameter>
</function>
</tool_call>

<IMPORTANT>
Reminder:
- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested within \
<tool_call></tool_call> XML tags
- Required parameters MUST be specified
- You may provide optional reasoning for your function call in natural language BEFORE the function call, but NOT after
- If there is no function call available, answer the question like normal with your current knowledge and do not tell \
the user about function calls
</IMPORTANT>"""
_THINKS_ONLY_IF_GIVEN = re.compile(r"last_query_index\s+and\s+reasoning_content")
"""Otherwise a block of reasoning stands in every turn behind the last question, empty if need be."""


class XmlTools:
    """The dialect of one checkpoint."""

    supports_tools = True
    writes_json = False

    def __init__(self, chat_format: ChatML, vocabulary: Vocabulary, chat_template: str) -> None:
        self._format = chat_format
        self._vocabulary = vocabulary
        self._is_coder = _LISTS_XML in chat_template
        self._default_system = _DEFAULT_SYSTEM if _DEFAULT_SYSTEM in chat_template else chat_format.default_system
        self._keeps_thoughts = keeps_thoughts(chat_template)
        self._always_thinks = _THINKS_ONLY_IF_GIVEN.search(chat_template) is None

    @staticmethod
    def is_in(chat_template: str) -> bool:
        """Whether a template has this dialect."""
        return CALL_START in chat_template and FUNCTION_START in chat_template

    def turns(self, messages: Sequence[Message], tools: ToolUse) -> list[Turn]:
        """As `Dialect` says; results that follow one another share a turn.

        Raises:
            InvalidSetting: no prompt can be made of the messages; the arguments of a call are no JSON object.
        """
        check_conversation(messages)
        turns: list[Turn] = []
        rest = list(messages)
        if tools.offered:
            system = rest.pop(0).content if rest[0].role == "system" else None
            turns.append(self._system_turn(system, tools.offered))
        start = loop_start(rest) if self._keeps_thoughts else len(rest)

        def spoken(place: int, message: Message) -> tuple[Part, ...]:
            return self._spoken(message, keeps_thoughts=place >= start)

        return turns + turns_with_results(rest, spoken, self._said, self._result, "" if self._is_coder else "\n")

    def beginnings(self, messages: Sequence[Message], tools: ToolUse, opening: Opening) -> list[tuple[Part, ...]]:
        """As `Dialect` says."""
        line_ends = "\n\n" if opening.text else ""
        return [(line_ends, Marker(CALL_START), f"\n{FUNCTION_START}{tool.name}>\n") for tool in tools.demanded]

    def reader(
        self, messages: Sequence[Message], tools: ToolUse, stop: Sequence[str], opening: Opening
    ) -> AnswerReader:
        """As `Dialect` says."""
        if not tools.offered:
            return AnswerReader(self._format, self._vocabulary, stop, opening)
        return CallReader(
            self._format,
            self._vocabulary,
            partial(parse_call, tools=tools.offered),
            stop,
            opening,
            num_newlines=2,
            is_parallel=tools.is_parallel,
        )

    def _system_turn(self, system: str | None, tools: Sequence[Tool]) -> Turn:
        rules = [Marker(part) if part in (CALL_START, CALL_END) else part for part in _pieces(_RULES)]
        if self._is_coder:
            listed = "".join(map(_listed, tools))
            head = self._default_system if system is None else system
            return Turn("system", (f"{head}\n\n{_INTRODUCTION}{listed}\n</tools>", *rules), joins_newline=True)
        listed = "".join(f"\n{signature(tool)}" for tool in tools)
        said = (system or "").strip()
        return Turn("system", (f"{_INTRODUCTION}{listed}\n</tools>", *rules, f"\n\n{said}" if said else ""))

    def _spoken(self, message: Message, *, keeps_thoughts: bool) -> tuple[Part, ...]:
        is_trimmed = bool(message.tool_calls) or not self._is_coder
        content = message.content.strip() if is_trimmed else message.content
        reasoning = message.reasoning.strip()
        parts: list[Part] = []
        if keeps_thoughts and (reasoning or self._always_thinks):
            parts += thought_parts(reasoning)
        parts.append(content)
        for number, call in enumerate(message.tool_calls):
            line_ends = "\n" if number else "\n\n" if content else ""
            parts += [line_ends, Marker(CALL_START), f"\n{written_call(call)}\n", Marker(CALL_END)]
        return tuple(parts)

    def _said(self, message: Message) -> Turn:
        return plain_turn(message) if self._is_coder else Turn(message.role, (message.content.strip(),))

    def _result(self, message: Message) -> tuple[Part, ...]:
        if self._is_coder:
            return RESULT_START, f"\n{message.content}\n", RESULT_END, "\n"
        return RESULT_START, f"\n{message.content.strip()}\n", RESULT_END


def _pieces(text: str) -> list[str]:
    """A text cut before and behind the markers of calls."""
    return re.split(f"({re.escape(CALL_START)}|{re.escape(CALL_END)})", text)


def _listed(tool: Tool) -> str:
    """A tool as Qwen3-Coder's template lists it."""
    parameters = tool.parameters or {}
    properties = parameters.get("properties")
    lines = ["<function>", f"<name>{tool.name}</name>"]
    if tool.description:
        lines.append(f"<description>{tool.description.strip()}</description>")
    lines.append("<parameters>")
    for name, fields in properties.items() if isinstance(properties, dict) else ():
        lines += ["<parameter>", f"<name>{name}</name>", *_described(fields), "</parameter>"]
    lines += [*_extra(parameters, ("type", "properties")), "</parameters>", "</function>"]
    return "".join(f"\n{line}" for line in lines)


def _described(fields: Any) -> list[str]:
    if not isinstance(fields, dict):
        return []
    lines = [f"<type>{fields['type']}</type>"] if "type" in fields else []
    if "description" in fields:
        lines.append(f"<description>{str(fields['description']).strip()}</description>")
    return lines + _extra(fields, ("name", "type", "description"))


def _extra(fields: Mapping[str, Any], handled: Sequence[str]) -> list[str]:
    """What a schema says besides."""
    return [f"<{key}>{spelled(value)}</{key}>" for key, value in fields.items() if key not in handled]
