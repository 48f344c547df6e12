"""Files with conversations, read back: JSON and zip as `export` makes them, and the HTML page with JSON inside.

What comes in are bytes from anywhere; what goes out are records and messages with new ids, or an `ImportRefused` that
names the place and what stands there. Nothing in a file is trusted: every field is one that is known, of its type and
in its range. Texts stay texts: no role but the two is taken, and control tokens in them are letters. No name from a
file ever becomes a path. It stores nothing.
"""

import io
import json
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeGuard, get_args

from model_loader.engine.request import Sampling
from model_loader.errors import InvalidSetting
from model_loader.events import FinishReason, Usage
from ui.chat.attachment import MAX_CHARS, MAX_FILES, Attachment, FileKind, clean_name
from ui.chat.conversation import ConversationRecord, Settings
from ui.chat.export import FORMAT, MAX_FILE_BYTES, MAX_UNPACKED_BYTES, VERSION, Tree
from ui.chat.message import MessageState, StoredMessage, StoredRole, new_id
from ui.chat.receipt import Receipt
from ui.chat.script_watch import AnswerLanguage

DATA_OPENING = '<script type="application/json" id="qwen-chat">'
DATA_CLOSING = "</script>"
"""Between these the HTML page holds the JSON."""
ImportReason = Literal[
    "empty", "too_large", "not_text", "not_json", "too_deep", "no_data", "not_ours", "newer", "too_many", "field",
    "message", "archive", "archive_empty",
]  # fmt: skip

_MAX_JSON_BYTES = 24 * 2**20
_MAX_MESSAGES = 50_000
_MAX_ENTRIES = 50_000
_ENTRY_SIGN = b"PK\1\2"
_MAX_SIGNS = 2 * _MAX_ENTRIES
"""The sign may also stand in what is packed."""
_MAX_TEXT_CHARS = 2**20
_MAX_TITLE_CHARS = 80
_MAX_SHORT_CHARS = 4_000
_MAX_STOPS = 16
_MAX_FOUND_CHARS = 40
_LATEST_S = 4_102_444_800.0  # the year 2100
_MAX_COUNT = 2**40


class ImportRefused(Exception):
    """A file that is not imported; nothing has changed.

    Attributes:
        reason: which rule it broke.
        figures: where, and what was found there, for the sentence that a front end makes of it.
        file: the file of an archive that broke it; "" if it is no archive.
    """

    def __init__(self, reason: ImportReason, **figures: Any) -> None:
        self.reason: ImportReason = reason
        self.figures = figures
        self.file = ""
        super().__init__(" ".join([reason, *(f"{name}={value}" for name, value in figures.items())]))


def read_file(data: bytes) -> Iterator[Tree]:
    """The conversations in a file, each read when it is asked for; ids are new and the owner is nobody.

    Raises (where it is read):
        ImportRefused: with the rule that was broken.
    """
    if not data:
        raise ImportRefused("empty")
    if len(data) > MAX_FILE_BYTES:
        raise ImportRefused("too_large", limit=f"{MAX_FILE_BYTES:,}")
    if data.startswith(b"PK"):
        yield from _read_zip(data)
    else:
        yield _read_text(data)


def _read_zip(data: bytes) -> Iterator[Tree]:
    left, is_empty = MAX_UNPACKED_BYTES, True
    if data.count(_ENTRY_SIGN) > _MAX_SIGNS:  # before anything is made of each
        raise ImportRefused("too_many", limit=f"{_MAX_ENTRIES:,}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > _MAX_ENTRIES:
                raise ImportRefused("too_many", limit=f"{_MAX_ENTRIES:,}")
            for entry in entries:
                if entry.is_dir() or not entry.filename.lower().endswith(".json"):
                    continue
                is_empty = False
                try:
                    content = _unpack(archive, entry, min(left, _MAX_JSON_BYTES))
                    left -= len(content)
                    yield _read_text(content)
                except ImportRefused as refused:
                    refused.file = entry.filename[-_MAX_FOUND_CHARS:]
                    raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError):
        raise ImportRefused("archive") from None  # damaged, encrypted, or packed in a way nobody uses
    if is_empty:
        raise ImportRefused("archive_empty")


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    """At most `limit` bytes are ever unpacked, whatever the archive says of itself.

    Python unpacks other methods than these two in pieces of any size.
    """
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NotImplementedError
    with archive.open(entry) as packed:
        content = packed.read(limit + 1)
    if len(content) > limit:
        raise ImportRefused("too_large", limit=f"{limit:,}")
    return content


def _read_text(data: bytes) -> Tree:
    if len(data) > _MAX_JSON_BYTES:
        raise ImportRefused("too_large", limit=f"{_MAX_JSON_BYTES:,}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ImportRefused("not_text") from None
    if text.lstrip()[:1] == "<":
        _page, opening, rest = text.partition(DATA_OPENING)
        text, closing, _page = rest.partition(DATA_CLOSING)
        if not opening or not closing:
            raise ImportRefused("no_data")
    try:
        whole = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ImportRefused("not_json", line=f"{error.lineno:,}") from None
    except ValueError:  # NaN, or a number with thousands of digits
        raise ImportRefused("not_json", line="?") from None
    except RecursionError:
        raise ImportRefused("too_deep") from None
    return _read_whole(whole)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _read_whole(whole: Any) -> Tree:
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise ImportRefused("not_ours")
    version = whole.get("version")
    if not _is_whole(version) or version < 1:
        raise ImportRefused("field", name="version", found=_shown(version))
    if version > VERSION:
        raise ImportRefused("newer", version=_shown(version), known=VERSION)
    at: _Place = _Place(0)
    at.check_names(whole, {"format", "version", "conversation", "messages"})
    rows = at.take(whole, "messages", _list)
    if len(rows) > _MAX_MESSAGES:
        raise ImportRefused("too_many", limit=f"{_MAX_MESSAGES:,}")
    messages: list[StoredMessage] = []
    ids: dict[int, str] = {}
    for number, row in enumerate(rows, start=1):
        place = _Place(number)
        message = _read_message(place, place.row(row), ids)
        ids[row["id"]] = message.id
        messages.append(message)
    return _read_record(at, at.take(whole, "conversation", _dict), ids, messages), messages


def _read_record(
    at: "_Place", about: dict[str, Any], ids: Mapping[int, str], messages: list[StoredMessage]
) -> ConversationRecord:
    at.check_names(about, {"title", "is_pinned", "created", "used", "head", "settings"})
    settings = at.take(about, "settings", _dict, default={})
    head = at.take(about, "head", lambda value: None if value is None else ids[_number(value)], default=None)
    return ConversationRecord(
        new_id(),
        owner="",
        title=" ".join(at.take(about, "title", _text, default="").split())[:_MAX_TITLE_CHARS],
        is_pinned=at.take(about, "is_pinned", _flag, default=False),
        created=at.take(about, "created", _seconds),
        used=at.take(about, "used", _seconds),
        head=head,
        settings=Settings.read(at.each(settings, _SETTINGS)),
        num_bytes=sum(message.num_bytes for message in messages),
    )


def _read_message(at: "_Place", row: dict[str, Any], ids: Mapping[int, str]) -> StoredMessage:
    at.check_names(row, {"id", "parent", "reads_from", *_MESSAGE})
    at.take(row, "id", lambda value: _fresh(_number(value), ids))
    known: Callable[[Any], str | None] = lambda value: None if value is None else ids[_number(value)]  # noqa: E731
    given = {name: row[name] for name in _MESSAGE if name in row}
    for name in ("role", "state", "created", "text"):
        at.take(row, name, _MESSAGE[name])
    message = StoredMessage(
        **at.each(given, _MESSAGE),
        parent_id=at.take(row, "parent", known, default=None),
        reads_from=at.take(row, "reads_from", known, default=None),
    )
    if message.attachments and message.role != "user":
        raise at.refused("attachments", row["attachments"])
    return replace(message, state="interrupted") if message.state == "streaming" else message


@dataclass(frozen=True)
class _Place:
    """Where in a file something is read: in a message by its place, or, with 0, in what stands around them."""

    message: int

    def take(self, row: Mapping[str, Any], name: str, read: Callable[[Any], Any], **missing: Any) -> Any:
        """The field as `read` makes it of what is given, or `default`."""
        if name not in row and "default" in missing:
            return missing["default"]
        try:
            return read(row[name])
        except (ValueError, KeyError, TypeError, InvalidSetting):
            raise self.refused(name, row.get(name)) from None

    def each(self, row: Mapping[str, Any], reads: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
        """All fields that are there."""
        self.check_names(row, set(reads))
        return {name: self.take(row, name, reads[name]) for name in row}

    def check_names(self, row: Mapping[str, Any], known: set[str]) -> None:
        """Refuses a field that nobody knows: to leave it out in silence would lose it."""
        for name in row:
            if name not in known:
                raise self.refused(_shown(name), row[name])

    def row(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.refused("messages", value)
        return value

    def refused(self, name: str, found: Any) -> ImportRefused:
        """What to raise about a field."""
        if self.message:
            return ImportRefused("message", message=f"{self.message:,}", name=name, found=_shown(found))
        return ImportRefused("field", name=name, found=_shown(found))


# What a field may hold. Each function gives the value to keep and raises ValueError, KeyError or TypeError.


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else type(value).__name__ if isinstance(value, dict | list) else repr(value)
    short = " ".join(text.encode("utf-8", "replace").decode().split())
    return short if len(short) <= _MAX_FOUND_CHARS else short[:_MAX_FOUND_CHARS] + "…"


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _check(is_right: bool) -> None:
    if not is_right:
        raise ValueError


def _dict(value: Any) -> dict[str, Any]:
    _check(isinstance(value, dict))
    return dict(value)


def _list(value: Any) -> list[Any]:
    _check(isinstance(value, list))
    return list(value)


def _flag(value: Any) -> bool:
    _check(isinstance(value, bool))
    return bool(value)


def _number(value: Any) -> int:
    _check(_is_whole(value) and 0 <= value <= _MAX_COUNT)
    return int(value)


def _seconds(value: Any) -> float:
    _check(isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LATEST_S)
    _check(math.isfinite(value))
    return float(value)


def _fresh(number: int, ids: Mapping[int, str]) -> int:
    _check(number not in ids)
    return number


def _text(value: Any) -> str:
    _check(isinstance(value, str) and len(value) <= _MAX_TEXT_CHARS)
    return str(value).encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def _short(value: Any) -> str:
    _check(isinstance(value, str) and len(value) <= _MAX_SHORT_CHARS)
    return _text(value)


def _one_of(options: Any) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        _check(isinstance(value, str) and value in get_args(options))
        return value

    return read


def _maybe(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _stops(value: Any) -> tuple[str, ...]:
    _check(isinstance(value, list) and len(value) <= _MAX_STOPS)
    return tuple(map(_short, value))


def _sampling(value: Any) -> dict[str, Any]:
    Sampling(**_dict(value))  # raises for a name or a value that is none
    return dict(value)


def _usage(value: Any) -> Usage:
    given = _dict(value)
    read: dict[str, Any] = {
        name: (_flag if name == "is_estimate" else _seconds if name.endswith("_s") else _number)(given[name])
        for name in given
    }
    return Usage(**read)


def _receipt(value: Any) -> Receipt:
    given = _dict(value)
    _check(set(given) <= set(_RECEIPT))
    return Receipt.read({name: _RECEIPT[name](each) for name, each in given.items()})


def _file(value: Any) -> Attachment:
    given = _dict(value)
    read = {name: _FILE[name](each) for name, each in given.items()}
    return Attachment(**read)


def read_files(value: Any) -> tuple[Attachment, ...]:
    """The files of a message from what JSON holds of them; raises ValueError, KeyError or TypeError."""
    files = tuple(map(_file, _list(value)))
    _check(len(files) <= MAX_FILES and sum(len(one.text) for one in files) <= MAX_CHARS)
    return files


_FILE: dict[str, Callable[[Any], Any]] = {
    "name": lambda value: clean_name(_short(value)),
    "kind": _one_of(FileKind),
    "text": _text,
    "num_bytes": _number,
}
_RECEIPT: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("checkpoint", "revision", "precision", "template_hash", "prefill"), _short),
    "system": _text,
    "sampling": _sampling,
    "stop": _stops,
    "thinking": _maybe(_flag),
}
_SETTINGS: dict[str, Callable[[Any], Any]] = {
    "system": _text,
    "sampling": _sampling,
    "stop": _stops,
    "prefill": _short,
    "thinking": _maybe(_flag),
    "language": _maybe(_one_of(AnswerLanguage)),
    "stops_loops": _maybe(_flag),
}
_MESSAGE: dict[str, Callable[[Any], Any]] = {
    "role": _one_of(StoredRole),
    "text": _text,
    "state": _one_of(MessageState),
    "created": _seconds,
    "reasoning": _text,
    "reasoning_s": _seconds,
    "error": _short,
    "error_class": _short,
    "fault_id": _short,
    "usage": _usage,
    "finish_reason": _one_of(FinishReason),
    "left_out": _number,
    "loops_at": _number,
    "loops_in_reasoning": _flag,
    "drifted_from": _one_of(AnswerLanguage),
    "drifted_at": _number,
    "is_edited": _flag,
    "receipt": _receipt,
    "attachments": read_files,
}
