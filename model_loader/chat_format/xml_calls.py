"""Calls of tools that are written as XML, in the manner of Qwen3-Coder and Qwen3.5.

    <function={name}>\\n<parameter={key}>\\n{value}\\n</parameter>\\n</function>

A value is bare text: whether `5` is a number only the tool's schema tells. Both directions are here: what a template
makes of arguments, and arguments of what a model writes. A value may hold any text but `</parameter>` followed by
another tag of a call.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from model_loader.chat_format.json_calls import refuse_constant
from model_loader.chat_format.messages import Tool
from model_loader.errors import InvalidSetting
from model_loader.events import ToolCall

FUNCTION_START, FUNCTION_END = "<function=", "</function>"
PARAMETER_START, PARAMETER_END = "<parameter=", "</parameter>"
_PYTHON_WORDS = {"True": True, "False": False, "None": None}
"""As the templates themselves write them, and so the model."""
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object", list: "array"}
_MAX_DEPTH = 8


def written_call(call: ToolCall) -> str:
    """A call as the templates write it.

    Raises:
        InvalidSetting: its arguments are no JSON object.
    """
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidSetting(
            f"A call of {call.name} has the arguments {call.arguments!r:.100}, which are no JSON object. Send back "
            "what the model wrote."
        )
    parameters = "".join(
        f"{PARAMETER_START}{key}>\n{spelled(value)}\n{PARAMETER_END}\n" for key, value in arguments.items()
    )
    return f"{FUNCTION_START}{call.name}>\n{parameters}{FUNCTION_END}"


def spelled(value: Any) -> str:
    """A value as Jinja writes it into text: objects and lists as JSON, everything else as Python does."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def parse_call(text: str, tools: Sequence[Tool]) -> ToolCall | None:
    """The call that is written in a text; None if it is none. The tools say of which type an argument is."""
    text = text.strip()
    name, is_closed, rest = text.removeprefix(FUNCTION_START).partition(">")
    if not text.startswith(FUNCTION_START) or not is_closed or not name or "\n" in name:
        return None
    schema = next((tool.parameters for tool in tools if tool.name == name), None) or {}
    properties = schema.get("properties")
    arguments: dict[str, Any] = {}
    for pair in _parameters(rest):
        if pair is None:
            return None
        key, value = pair
        described = properties.get(key) if isinstance(properties, dict) else None
        arguments[key] = _read_value(value, _types_of(described, schema, _MAX_DEPTH))
    written = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(name, written.encode("utf-8", "backslashreplace").decode("utf-8"))  # JSON's own escapes


def _parameters(text: str) -> Iterator[tuple[str, str] | None]:
    """Names and values up to the function's end; None where the text is written in another way."""
    at = _skip_space(text, 0)
    while not text.startswith(FUNCTION_END, at):
        key_end = text.find(">", at)
        value_end = _value_end(text, key_end + 1)
        if not text.startswith(PARAMETER_START, at) or key_end < 0 or value_end < 0:
            yield None
            return
        value = text[key_end + 1 : value_end]
        yield text[at + len(PARAMETER_START) : key_end], value.removeprefix("\n").removesuffix("\n")
        at = _skip_space(text, value_end + len(PARAMETER_END))
    if text[at + len(FUNCTION_END) :]:
        yield None


def _value_end(text: str, start: int) -> int:
    """Where a value's end tag is: the first one that another tag of the call follows; -1 if there is none."""
    end = text.find(PARAMETER_END, start)
    while end >= 0:
        following = _skip_space(text, end + len(PARAMETER_END))
        if text.startswith((PARAMETER_START, FUNCTION_END), following):
            return end
        end = text.find(PARAMETER_END, following)
    return -1


def _skip_space(text: str, at: int) -> int:
    while text[at : at + 1].isspace():
        at += 1
    return at


def _types_of(described: Any, schema: Mapping[str, Any], depth: int) -> frozenset[str]:
    """The types that a schema allows, as far as it names them; `schema` is the whole one, for references into it."""
    if not isinstance(described, dict) or depth == 0:
        return frozenset()
    named = described.get("type", ())
    types = {named} if isinstance(named, str) else {each for each in named if isinstance(each, str)}
    if isinstance(described.get("enum"), list):
        types |= {_TYPES.get(type(value), "null") for value in described["enum"]}
    branches = [described.get("anyOf"), described.get("oneOf"), described.get("allOf")]
    nested = [each for branch in branches if isinstance(branch, list) for each in branch]
    if isinstance(reference := described.get("$ref"), str):
        nested.append(_referred(reference, schema))
    return frozenset(types).union(*(_types_of(each, schema, depth - 1) for each in nested))


def _referred(reference: str, schema: Mapping[str, Any]) -> Any:
    found: Any = schema
    for name in reference.removeprefix("#").strip("/").split("/"):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _read_value(text: str, types: frozenset[str]) -> Any:
    """A value of one of the types; the text itself where a string is allowed, or where it is nothing else."""
    if not types or "string" in types:
        return None if text in ("null", "None") and "null" in types else text
    if text in _PYTHON_WORDS:
        return _PYTHON_WORDS[text]
    try:
        return json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        return text
