"""A conversation as a file: Markdown to read, or JSON that can be loaded again.

What comes in are messages and a path; what goes out is a file that is whole or not there, for this user alone. What
is loaded is a stranger's: every value is checked before anything is made of it.
"""

import json
import os
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from model_loader.engine.request import SAMPLING_RANGES, Sampling
from model_loader.errors import InvalidSetting
from ui.chat.conversation import Settings
from ui.chat.message import MessageState, StoredMessage
from ui.chat.reading import read_files
from ui.terminal.conf import changed_settings
from ui.terminal.safe_text import escaped, safe, safe_line, storable

_FORMAT = "qwen-chat conversation"
_VERSION = 1
_MAX_BYTES = 32 * 2**20
_MAX_MESSAGES = 10_000
_STATES = tuple(state for state in get_args(MessageState) if state != "streaming")


class TranscriptError(Exception):
    """A file cannot be written or is no conversation; `str()` says why and may be shown."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a file holds.

    Attributes:
        messages: one branch, beginning with a question.
    """

    title: str
    settings: Settings
    messages: tuple[StoredMessage, ...]


def path_of(text: str) -> Path:
    """The file that a user names; quotes around the name are no part of it.

    Raises:
        TranscriptError: there is no name.
    """
    name = text.strip()
    if len(name) > 1 and name[0] == name[-1] and name[0] in "'\"":
        name = name[1:-1]
    if not name or "\0" in name:
        raise TranscriptError("Give the file's name after the command.")
    try:
        return Path(name).expanduser()
    except RuntimeError as error:  # no such user's home
        raise TranscriptError(f"{safe_line(name)}: {error}") from None


def as_markdown(title: str, turns: Sequence[tuple[str, str]]) -> str:
    """A document to read: who said what under headings."""
    parts = [f"# {safe_line(title)}"] if title else []
    for who, text in turns:
        parts += [f"## {who}", safe(text).strip("\n")]
    return "\n\n".join(parts) + "\n"


def as_json(title: str, settings: Settings, messages: Sequence[StoredMessage]) -> str:
    """What `read_transcript` reads."""
    said = [
        {"role": one.role, "text": one.text, "state": one.state}
        | ({"reasoning": one.reasoning} if one.reasoning else {})
        | ({"attachments": [asdict(each) for each in one.attachments]} if one.attachments else {})
        for one in messages
    ]
    whole = {"format": _FORMAT, "version": _VERSION, "title": title, "settings": settings.as_json(), "messages": said}
    return escaped(json.dumps(whole, ensure_ascii=False, indent=1)) + "\n"


def write_file(path: Path, text: str) -> None:
    """Writes a file, or leaves what was there.

    Raises:
        TranscriptError: that cannot be done.
    """
    try:
        if path.exists() and not path.is_file():
            raise TranscriptError(f"{safe_line(str(path))} is no file that can be written.")
        number, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
        try:
            with os.fdopen(number, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise TranscriptError(f"{safe_line(str(path))} cannot be written: {error.strerror or error}.") from None


def read_transcript(path: Path, defaults: Sampling) -> Transcript:
    """What `as_json` has written.

    Raises:
        TranscriptError: the file cannot be read or holds anything else.
    """
    name = safe_line(str(path))
    try:
        whole = json.loads(read_bytes(path).decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise TranscriptError(f"{name} is no JSON in UTF-8; give a file that :save has written as .json.") from None
    if not isinstance(whole, dict) or whole.get("format") != _FORMAT:
        raise TranscriptError(f"{name} is no conversation of this program; give one that :save has written as .json.")
    if whole.get("version") != _VERSION:
        raise TranscriptError(
            f"{name} has version {safe_line(repr(whole.get('version')), 20)} of the format; this program reads "
            f"{_VERSION}. Update the program."
        )
    try:
        messages = _messages(whole.get("messages"))
        title, settings = whole.get("title", ""), _settings(whole.get("settings", {}), defaults)
        if not isinstance(title, str):
            raise InvalidSetting("its title is no text")
    except InvalidSetting as error:
        raise TranscriptError(f"{name} is damaged: {safe_line(str(error))}") from None
    return Transcript(storable(title), settings, messages)


def read_bytes(path: Path, max_bytes: int = _MAX_BYTES) -> bytes:
    """What a file holds.

    Raises:
        TranscriptError: it cannot be read, is none, or is too large.
    """
    name = safe_line(str(path))
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe without a writer would block
        with os.fdopen(number, "rb") as file:
            facts = os.fstat(number)
            if not stat.S_ISREG(facts.st_mode):
                raise TranscriptError(f"{name} is no file.")
            if facts.st_size > max_bytes:
                raise TranscriptError(f"{name} has {facts.st_size:,} bytes; {max_bytes:,} are read at most.")
            return file.read(max_bytes)
    except OSError as error:
        raise TranscriptError(f"{name} cannot be read: {error.strerror or error}.") from None


def _messages(values: Any) -> tuple[StoredMessage, ...]:
    if not isinstance(values, list) or not values:
        raise InvalidSetting("it has no messages")
    if len(values) > _MAX_MESSAGES:
        raise InvalidSetting(f"it has {len(values):,} messages, and {_MAX_MESSAGES:,} are read at most")
    messages = tuple(_message(number, value) for number, value in enumerate(values, start=1))
    if messages[0].role != "user":
        raise InvalidSetting("it does not begin with a question")
    return messages


def _message(number: int, value: Any) -> StoredMessage:
    if not isinstance(value, dict):
        raise InvalidSetting(f"message {number} is no object")
    role, text, reasoning = value.get("role"), value.get("text"), value.get("reasoning", "")
    state = value.get("state", "complete")
    if role not in ("user", "assistant"):
        raise InvalidSetting(f"message {number} has the role {role!r}; there are user and assistant")
    if not isinstance(text, str) or not isinstance(reasoning, str):
        raise InvalidSetting(f"message {number} has no text")
    if state not in _STATES:
        raise InvalidSetting(f"message {number} has the state {state!r}")
    try:
        files = read_files(value.get("attachments", []))
    except (ValueError, KeyError, TypeError):
        raise InvalidSetting(f"message {number} has files that this program does not know") from None
    if files and role != "user":
        raise InvalidSetting(f"message {number} is an answer and has files")
    return StoredMessage(role, storable(text), state=state, reasoning=storable(reasoning), attachments=files)


def _settings(values: Any, defaults: Sampling) -> Settings:
    """Settings as far as this program knows them; another model's defaults are no reason to refuse."""
    if not isinstance(values, dict):
        raise InvalidSetting("its settings are no object")
    system, sampling = values.get("system"), values.get("sampling", {})
    prefill, thinking = values.get("prefill", ""), values.get("thinking")
    if not isinstance(sampling, dict) or not set(sampling) <= set(SAMPLING_RANGES):
        raise InvalidSetting("its sampling has other settings than this program")
    if not isinstance(system, str | None) or not isinstance(prefill, str) or not isinstance(thinking, bool | None):
        raise InvalidSetting("a setting has a value of another kind")
    known = Settings(None if system is None else storable(system), prefill=storable(prefill), thinking=thinking)
    return changed_settings(known, {**sampling, "stop": values.get("stop", ())}, defaults)
