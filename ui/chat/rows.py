"""A conversation's rows as values, and values as rows.

What is read may have been damaged by a disk or changed by another program: whatever still makes sense is taken, and a
value that does not is replaced by the one it had in the beginning. Nothing is written because of that.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from model_loader.engine.request import SAMPLING_RANGES
from ui.chat.attachment import Attachment
from ui.chat.conversation import ConversationRecord, Settings
from ui.chat.message import MessageState, StoredMessage, StoredRole, read_facts
from ui.chat.script_watch import AnswerLanguage

RECORD_COLUMNS = (
    "id, owner, title, is_pinned, created, used, deleted, head, put_away_head, settings, num_bytes, revision"
)
MESSAGE_COLUMNS = "id, parent_id, role, state, text, reasoning, facts, created"


def record_row(record: ConversationRecord) -> tuple[Any, ...]:
    """The row of a record, its revision left out."""
    settings = json.dumps(record.settings.as_json(), ensure_ascii=False)
    return (record.id, record.owner, record.title, int(record.is_pinned), record.created, record.used, record.deleted,
            record.head, record.put_away_head, settings, record.num_bytes)  # fmt: skip


def read_record(row: Sequence[Any]) -> ConversationRecord:
    """The record of a row of `RECORD_COLUMNS`."""
    id_, owner, title, is_pinned, created, used, deleted, head, put_away_head, settings, num_bytes, revision = row
    return ConversationRecord(
        id_,
        owner,
        _text(title),
        bool(is_pinned),
        _number(created),
        _number(used),
        None if deleted is None else _number(deleted),
        head,
        put_away_head,
        read_settings(settings),
        int(_number(num_bytes)),
        int(_number(revision)),
    )


def message_row(message: StoredMessage, conversation_id: str) -> tuple[Any, ...]:
    """The row of a message, as `Database.save` writes it."""
    facts = json.dumps(message.facts(), ensure_ascii=False)
    return (message.id, message.parent_id, message.role, message.state, conversation_id, message.text,
            message.reasoning, facts, message.created)  # fmt: skip


def read_messages(
    rows: Sequence[Sequence[Any]], attachments: Mapping[str, tuple[Attachment, ...]]
) -> list[StoredMessage]:
    """The messages of rows of `MESSAGE_COLUMNS` with their files, parents before children.

    One that a crash cut off is "interrupted"; one whose parent is gone begins a branch of its own; one that nobody can
    have said is left out.
    """
    messages: dict[str, StoredMessage] = {}
    for id_, parent_id, role, state, text, reasoning, facts, created in rows:
        if role not in get_args(StoredRole):
            continue
        known: MessageState = state if state in get_args(MessageState) else "complete"
        message = StoredMessage(
            role,
            _text(text),
            parent_id if parent_id in messages else None,
            id_,
            "interrupted" if known == "streaming" else known,
            _text(reasoning),
            created=_number(created),
            attachments=attachments.get(id_, ()),
            **_facts(facts),
        )
        messages[id_] = message
    return list(messages.values())


def with_known_heads(record: ConversationRecord, messages: Sequence[StoredMessage]) -> ConversationRecord:
    """The record with heads that are among its messages: where the head is gone, the last message."""
    known = {message.id for message in messages}
    head = record.head if record.head in {None, *known} else messages[-1].id if messages else None
    put_away = record.put_away_head if record.put_away_head in known else None
    return replace(record, head=head, put_away_head=put_away)


def read_settings(text: Any) -> Settings:
    """Settings from the text that `Settings.as_json` became."""
    values = _json_object(text)
    sampling = values.get("sampling")
    checks: Mapping[str, bool] = {
        "system": isinstance(values.get("system"), str),
        "sampling": isinstance(sampling, dict) and set(sampling) <= set(SAMPLING_RANGES),
        "stop": isinstance(values.get("stop"), list) and all(isinstance(each, str) for each in values["stop"]),
        "prefill": isinstance(values.get("prefill"), str),
        "thinking": isinstance(values.get("thinking"), bool),
        "language": values.get("language") in get_args(AnswerLanguage),
        "stops_loops": isinstance(values.get("stops_loops"), bool),
    }
    return Settings.read({name: value for name, value in values.items() if checks.get(name, False)})


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _number(value: Any) -> float:
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return value if is_number else 0.0


def _json_object(text: Any) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _facts(text: Any) -> dict[str, Any]:
    try:
        return read_facts(_json_object(text))
    except (TypeError, AttributeError):
        return {}
