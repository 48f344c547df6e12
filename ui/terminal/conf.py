"""The settings that `:conf` shows and changes: those of `Sampling`, and the texts that end an answer.

What comes in is what stands after `:conf`; what goes out is a new `Settings`, or one sentence that names key, value
and range. Values are Python literals and are never evaluated.
"""

import ast
import difflib
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from model_loader.engine.request import SAMPLING_RANGES, Sampling
from model_loader.errors import InvalidSetting
from ui.chat.conversation import Settings

_KEYS = (*SAMPLING_RANGES, "stop")
_MAX_CHARS = 4_000
"""Longer literals could exhaust the parser's stack."""
_MAX_STOPS = 16
_MAX_STOP_CHARS = 200
_QUOTES, _OPEN, _CLOSED = "'\"", "([{", ")]}"


def read_changes(text: str) -> dict[str, Any]:
    """The values behind `key=value key=value`.

    Raises:
        InvalidSetting: a key is none, is there twice, or a value is no literal.
    """
    if len(text) > _MAX_CHARS:
        raise InvalidSetting(f"The settings have {len(text):,} characters; give {_MAX_CHARS:,} at most.")
    changes: dict[str, Any] = {}
    for pair in _pairs(text):
        key, equals, literal = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            raise InvalidSetting(f"{pair!r} is no setting; write key=value, such as temperature=0.7.")
        check_key(key)
        if key in changes:
            raise InvalidSetting(f"{key} is there twice; give it once.")
        changes[key] = read_value(key, literal)
    return changes


def check_key(key: str) -> None:
    """
    Raises:
        InvalidSetting: there is no such setting; the message names the nearest and all.
    """
    if key not in _KEYS:
        nearest = difflib.get_close_matches(key, _KEYS, n=1)
        guess = f"; did you mean {nearest[0]}" if nearest else ""
        raise InvalidSetting(f"{key!r} is no setting{guess}? The settings are {', '.join(_KEYS)}.")


def changed_settings(settings: Settings, changes: Mapping[str, Any], defaults: Sampling) -> Settings:
    """Settings with some values replaced, all or none of them.

    Raises:
        InvalidSetting: a value is outside its range.
    """
    changes = dict(changes)
    stop = _stop_texts(changes.pop("stop")) if "stop" in changes else settings.stop
    given = {**settings.sampling, **changes}
    defaults.changed(**given)  # raises for a value out of range
    kept = {name: value for name, value in given.items() if value is not None and value != getattr(defaults, name)}
    return replace(settings, sampling=kept, stop=stop)


def model_settings(settings: Settings) -> Settings:
    """The model's own sampling; system prompt and seed stay."""
    seed = settings.sampling.get("seed")
    return replace(settings, sampling={} if seed is None else {"seed": seed}, stop=())


def setting_lines(settings: Settings, defaults: Sampling) -> list[str]:
    """One line for each setting: its value, its range, and the model's own value where it differs."""
    lines = []
    for name, allowed in SAMPLING_RANGES.items():
        own = getattr(defaults, name)
        value = settings.sampling.get(name, own)
        line = f"{name:<20}{value!s:<22}{allowed.low:,} to {allowed.high:,}"
        lines.append(line if own in (value, None) else f"{line}; the model's own is {own}")
    stop = ", ".join(map(repr, settings.stop)) or "none"
    return [*lines, f"{'stop':<20}{stop:<22}texts that end an answer"]


def _pairs(text: str) -> list[str]:
    """The text cut at spaces that are inside neither quotes nor brackets."""
    pairs, start, depth, quote, is_escaped = [], 0, 0, "", False
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote and not is_escaped else quote
            is_escaped = char == "\\" and not is_escaped
        elif char in _QUOTES:
            quote, is_escaped = char, False
        elif char in _OPEN:
            depth += 1
        elif char in _CLOSED:
            depth -= 1
        elif char.isspace() and depth <= 0:
            pairs.append(text[start:at])
            start = at + 1
    pairs.append(text[start:])
    return [pair for pair in pairs if pair.strip()]


def read_value(key: str, literal: str) -> Any:
    """The value that a literal stands for.

    Raises:
        InvalidSetting: it is none; the message names what the key takes.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's opinion of backslashes
            return ast.literal_eval(literal.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        if key == "stop":
            wanted = "a text or a list of texts in quotes, such as stop='END'"
        else:
            wanted = f"a number from {SAMPLING_RANGES[key].low:,} to {SAMPLING_RANGES[key].high:,}"
        raise InvalidSetting(f"{key} is {literal!r}; give {wanted}.") from None


def _stop_texts(value: Any) -> tuple[str, ...]:
    texts = () if value is None else (value,) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) and text for text in texts):
        raise InvalidSetting(f"stop is {value!r}; give a text or a list of texts, none of them empty.")
    if len(texts) > _MAX_STOPS or any(len(text) > _MAX_STOP_CHARS for text in texts):
        raise InvalidSetting(f"stop takes {_MAX_STOPS} texts of {_MAX_STOP_CHARS} characters at most.")
    return tuple(re.sub("[\ud800-\udfff]", "\ufffd", text) for text in texts)
