"""Calls of tools that are written as JSON objects with a name and arguments."""

import json
from typing import Any

from model_loader.events import ToolCall

_SPACE = " \t\r\n"


def parse_call(text: str) -> ToolCall | None:
    """The call that a JSON object describes; None if it is not one. Arguments that are left out are an empty object."""
    try:
        fields = _fields(text)
    except (ValueError, RecursionError):
        return None
    name, _ = fields.get("name", (None, ""))
    arguments, written = fields.get("arguments", ({}, "{}"))
    if not isinstance(name, str) or not name.isprintable() or not name or not isinstance(arguments, dict):
        return None
    return ToolCall(name, written)


def _fields(text: str) -> dict[str, tuple[Any, str]]:
    """The members of a JSON object: each value, and how it is written.

    Raises:
        ValueError: it is no object, or not JSON.
    """
    decoder = json.JSONDecoder(parse_constant=refuse_constant)
    fields: dict[str, tuple[Any, str]] = {}
    at = _expect(text, 0, "{")
    while text[at : at + 1] != "}":
        key, end = decoder.raw_decode(text, at)
        if not isinstance(key, str):
            raise ValueError("a key is no string")
        start = _expect(text, end, ":")
        value, end = decoder.raw_decode(text, start)
        fields[key] = (value, text[start:end])
        at = _skip(text, end)
        if text[at : at + 1] != "}":
            at = _expect(text, at, ",")
            if text[at : at + 1] == "}":
                raise ValueError("a comma too many")
    if text[at + 1 :].strip(_SPACE):
        raise ValueError("something follows the object")
    return fields


def _expect(text: str, at: int, character: str) -> int:
    """The place of what follows a character, with the space around it skipped."""
    at = _skip(text, at)
    if text[at : at + 1] != character:
        raise ValueError(f"{character} is missing at {at}")
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _SPACE:
        at += 1
    return at


def refuse_constant(name: str) -> Any:
    """For `json`: NaN and Infinity are no JSON, and ValueError says so."""
    raise ValueError(f"{name} is not JSON")
