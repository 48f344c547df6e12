"""Attached files as rows of the same database as their messages: a table, its index of words, and how to read it.

In go messages with files, within a transaction of `Database`; out come the files of a conversation's messages. What
is read may have been damaged: a row that no longer makes sense is replaced by one that does.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from ui.chat.attachment import Attachment, FileKind, clean_name
from ui.chat.message import StoredMessage

SCHEMA = """
    CREATE TABLE attachments (
        number INTEGER PRIMARY KEY, message_id TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
        place INTEGER NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, num_bytes INTEGER NOT NULL, text TEXT NOT NULL,
        UNIQUE (message_id, place)
    );
    CREATE VIRTUAL TABLE attached_words USING fts5 (
        name, text, content = 'attachments', content_rowid = 'number', tokenize = 'trigram'
    );
    CREATE TRIGGER attachment_added AFTER INSERT ON attachments BEGIN
        INSERT INTO attached_words (rowid, name, text) VALUES (new.number, new.name, new.text);
    END;
    CREATE TRIGGER attachment_gone AFTER DELETE ON attachments BEGIN
        INSERT INTO attached_words (attached_words, rowid, name, text)
        VALUES ('delete', old.number, old.name, old.text);
    END;
"""
ATTACHMENTS_OF = (
    "SELECT message_id, attachments.name, kind, num_bytes, attachments.text FROM attachments "
    "JOIN messages ON messages.id = message_id WHERE conversation_id = ? ORDER BY message_id, place"
)
"""Rows for `read_attachments`, of one conversation."""


def save_attachments(connection: sqlite3.Connection, messages: Iterable[StoredMessage]) -> None:
    """Writes the files of messages that have been written; those of a message never change."""
    connection.executemany(
        "INSERT OR IGNORE INTO attachments (message_id, place, name, kind, num_bytes, text) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (message.id, place, one.name, one.kind, one.num_bytes, one.text)
            for message in messages
            for place, one in enumerate(message.attachments)
        ],
    )


def read_attachments(rows: Iterable[Sequence[Any]]) -> dict[str, tuple[Attachment, ...]]:
    """The files of each message that has some, by its id."""
    found: dict[str, tuple[Attachment, ...]] = {}
    for message_id, name, kind, num_bytes, text in rows:
        one = Attachment(
            clean_name(_text(name)),
            kind if kind in get_args(FileKind) else "text",
            _text(text),
            num_bytes if isinstance(num_bytes, int) and num_bytes >= 0 else 0,
        )
        found[message_id] = (*found.get(message_id, ()), one)
    return found


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
