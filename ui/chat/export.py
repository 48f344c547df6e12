"""A conversation as a file that leaves the program: JSON of the whole tree, Markdown of one branch, a zip of many.

What comes in is a record and its messages; what goes out is text or bytes, and a name for it that every system takes.
`reading` takes JSON and zip back. Nothing in a file says whose the conversation is: ids become numbers, owners stay
here.
"""

import io
import json
import re
import time
import unicodedata
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ui.chat.attachment import fenced
from ui.chat.conversation import ConversationRecord
from ui.chat.message import StoredMessage
from ui.chat.refusal import Refused

FORMAT = "qwen-chat"
VERSION = 1
"""Grows when a program that knows this version could misread a file."""
MAX_FILE_BYTES = 32 * 2**20
MAX_UNPACKED_BYTES = 256 * 2**20
"""What all files of an archive may take together."""
_MAX_NAME_CHARS = 48
_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")

Tree = tuple[ConversationRecord, Sequence[StoredMessage]]


def as_json(record: ConversationRecord, messages: Sequence[StoredMessage]) -> str:
    """The whole tree. Messages are numbered in their order, in which parents stand before their children."""
    numbers = {message.id: number for number, message in enumerate(messages, start=1)}
    head = numbers.get(record.head or "")
    about = {
        "title": record.title,
        "is_pinned": bool(record.is_pinned),
        "created": record.created,
        "used": record.used,
        "head": head,
        "settings": record.settings.as_json(),
    }
    rows = [_as_row(message, numbers) for message in messages]
    whole = {"format": FORMAT, "version": VERSION, "conversation": about, "messages": rows}
    return json.dumps(whole, ensure_ascii=False, indent=1, allow_nan=False)


def _as_row(message: StoredMessage, numbers: Mapping[str, int]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": numbers[message.id],
        "parent": numbers.get(message.parent_id or ""),
        "role": message.role,
        "state": "interrupted" if message.state == "streaming" else message.state,
        "created": message.created,
        "text": message.text,
    }
    if message.reasoning:
        row["reasoning"] = message.reasoning
    if message.attachments:
        row["attachments"] = [asdict(one) for one in message.attachments]
    facts = message.facts()
    if message.reads_from is not None:
        facts["reads_from"] = numbers.get(message.reads_from)
    return {**row, **{name: value for name, value in facts.items() if value is not None}}


def as_markdown(title: str, path: Sequence[StoredMessage], names: Mapping[str, str]) -> str:
    """The messages of one branch under headings.

    Args:
        names: what the two roles are called, and what thoughts are, by "user", "assistant" and "reasoning".
    """
    pieces = [f"# {' '.join(title.split())}"] if title.strip() else []
    for message in path:
        pieces.append(f"## {names[message.role]}")
        if message.reasoning:
            quoted = "\n".join(f"> {line}".rstrip() for line in message.reasoning.strip().split("\n"))
            pieces.append(f"> **{names['reasoning']}**\n>\n{quoted}")
        pieces += [f"**{one.name}** ({one.size})\n\n{fenced(one)}" for one in message.attachments]
        if message.text.strip():
            pieces.append(_closed(message.text.strip("\n")))
        if message.error:
            pieces.append(f"> {' '.join(message.error.split())}")
    return "\n\n".join(pieces) + "\n"


def as_zip(trees: Iterable[Tree], names: Mapping[str, str], untitled: str) -> bytes:
    """All of them in one archive, each as JSON and as Markdown of the branch that was on screen.

    Raises:
        Refused: there is nothing to write, or it would be larger than may be read again.
    """
    packed, unpacked, number = io.BytesIO(), 0, 0
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (record, messages) in enumerate(trees, start=1):
            title = record.title or untitled
            files = {"json": as_json(record, messages), "md": as_markdown(title, branch(record, messages), names)}
            for ending, text in files.items():
                data = text.encode("utf-8", "replace")
                unpacked += len(data)
                archive.writestr(_entry(f"{number:04d}-{slug(title)}.{ending}", record.used), data)
            if unpacked > MAX_UNPACKED_BYTES or packed.tell() > MAX_FILE_BYTES:
                raise Refused("export_too_large", MAX_FILE_BYTES)
    if not number:
        raise Refused("nothing_to_export")
    if packed.tell() > MAX_FILE_BYTES:
        raise Refused("export_too_large", MAX_FILE_BYTES)
    return packed.getvalue()


def branch(record: ConversationRecord, messages: Sequence[StoredMessage]) -> list[StoredMessage]:
    """The branch that is on screen, or the one through the newest message where none is."""
    by_id = {message.id: message for message in messages}
    at = by_id.get(record.head or "", messages[-1] if messages else None)
    path: list[StoredMessage] = []
    while at is not None:
        path.append(at)
        at = by_id.get(at.parent_id or "")
    return path[::-1]


def file_name(title: str, ending: str) -> str:
    """A file's name with a title in it: no folder, no reserved name, no sign that a shell or a system reads."""
    return f"qwen-chat-{slug(title)}.{ending}"


def slug(title: str) -> str:
    """Letters with their marks and digits of a title, joined by single dashes; "conversation" if there are none."""
    kept = (each if each.isalnum() or unicodedata.category(each).startswith("M") else " " for each in title)
    short = "-".join("".join(kept).split())[:_MAX_NAME_CHARS].rstrip("-")
    return short or "conversation"


def _entry(name: str, used: float) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, max(time.localtime(used)[:6], (1980, 1, 1, 0, 0, 0)))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o600 << 16
    return entry


def _closed(text: str) -> str:
    """The text with the code block closed that an answer which was cut left open."""
    fence = ""
    for line in text.split("\n"):
        found = _FENCE.match(line)
        if not fence:
            fence = found[1] if found else ""
        elif found and found[1].startswith(fence) and not line.strip(" `~"):
            fence = ""
    return f"{text}\n{fence}" if fence else text
