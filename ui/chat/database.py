"""Conversations as rows of one SQLite file.

In go records and messages; out come the same again, whatever happened in between: each call is one transaction that
is on the disk when it returns. A file that is damaged is set aside and never deleted; one of a newer program is
refused. `Database.in_memory()` is the same without a file. It knows no limits, no screens and no models.
"""

import contextlib
import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_loader.errors import InvalidSetting
from ui.chat import attachment_rows
from ui.chat.attachment_rows import ATTACHMENTS_OF, read_attachments, save_attachments
from ui.chat.conversation import ConversationRecord, Settings
from ui.chat.message import StoredMessage
from ui.chat.rows import (
    MESSAGE_COLUMNS,
    RECORD_COLUMNS,
    message_row,
    read_messages,
    read_record,
    read_settings,
    record_row,
)
from ui.chat.search import like, search_texts

_SCHEMA = """
    CREATE TABLE conversations (
        id TEXT PRIMARY KEY, owner TEXT NOT NULL, title TEXT NOT NULL, is_pinned INTEGER NOT NULL,
        created REAL NOT NULL, used REAL NOT NULL, deleted REAL, head TEXT, put_away_head TEXT, settings TEXT NOT NULL,
        num_bytes INTEGER NOT NULL, revision INTEGER NOT NULL
    );
    CREATE INDEX of_owner ON conversations (owner, deleted, is_pinned DESC, used DESC);
    CREATE TABLE messages (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, parent_id TEXT, role TEXT NOT NULL, state TEXT NOT NULL,
        conversation_id TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
        text TEXT NOT NULL, reasoning TEXT NOT NULL, facts TEXT NOT NULL, created REAL NOT NULL
    );
    CREATE INDEX of_conversation ON messages (conversation_id, number);
    CREATE TABLE presets (
        owner TEXT NOT NULL, name TEXT NOT NULL, settings TEXT NOT NULL, PRIMARY KEY (owner, name)
    ) WITHOUT ROWID;
    CREATE VIRTUAL TABLE words USING fts5 (text, content = 'messages', content_rowid = 'number', tokenize = 'trigram');
    CREATE TRIGGER message_added AFTER INSERT ON messages WHEN new.state <> 'streaming' BEGIN
        INSERT INTO words (rowid, text) VALUES (new.number, new.text);
    END;
    CREATE TRIGGER message_gone AFTER DELETE ON messages WHEN old.state <> 'streaming' BEGIN
        INSERT INTO words (words, rowid, text) VALUES ('delete', old.number, old.text);
    END;
    CREATE TRIGGER message_was AFTER UPDATE ON messages WHEN old.state <> 'streaming' BEGIN
        INSERT INTO words (words, rowid, text) VALUES ('delete', old.number, old.text);
    END;
    CREATE TRIGGER message_is AFTER UPDATE ON messages WHEN new.state <> 'streaming' BEGIN
        INSERT INTO words (rowid, text) VALUES (new.number, new.text);
    END;
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_ONE_TRIGGER = """
    DROP TRIGGER message_was;
    DROP TRIGGER message_is;
    UPDATE messages SET state = 'interrupted' WHERE state = 'streaming';
    INSERT INTO words (words) VALUES ('rebuild');
    CREATE TRIGGER message_changed AFTER UPDATE ON messages BEGIN
        INSERT INTO words (words, rowid, text)
        SELECT 'delete', old.number, old.text WHERE old.state <> 'streaming';
        INSERT INTO words (rowid, text) SELECT new.number, new.text WHERE new.state <> 'streaming';
    END;
"""
"""Of two triggers SQLite ran the one that adds first: a text that was saved again was found no more."""
MIGRATIONS: tuple[str, ...] = (_SCHEMA, attachment_rows.SCHEMA, _ONE_TRIGGER)
"""What makes version n + 1 of version n. Add to the end; never change one that has been in a release."""
_BUSY_S = 5.0
_CRASHED_AFTER_S = 60.0
_MERGED_PAGES = 500
"""Of an index of words, at a time."""


@dataclass(frozen=True, slots=True)
class Found:
    """A conversation in a list: its record, and where a search found something."""

    record: ConversationRecord
    snippet: str = ""


class Database:
    """One open file. Every method may be called from any thread; each raises `sqlite3.Error` if the disk does.

    Attributes:
        place: the file; None in memory.
        set_aside: where a damaged file was moved when this one was opened; None if all was well.
    """

    def __init__(self, place: Path | None) -> None:
        """
        Raises:
            InvalidSetting: the file cannot be opened, or a newer program made it.
        """
        self.place = place
        self.set_aside: Path | None = None
        self._write_lock, self._read_lock, self._search_lock = threading.RLock(), threading.RLock(), threading.RLock()
        if place is not None:
            _make_private(place)
        try:
            try:
                self._writing = self._open()
            except sqlite3.DatabaseError as error:
                if place is None or isinstance(error, sqlite3.OperationalError):
                    raise
                self.set_aside = _set_aside(place)
                _make_private(place)
                self._writing = self._open()
            self._reading = self._writing if place is None else _connect(place)
            self._searching = self._writing if place is None else _connect(place)
        except (sqlite3.Error, OSError) as error:
            raise InvalidSetting(
                f"--history {place}: {error}. Give a file in a folder that can be written to, or use --no-history."
            ) from None
        if place is None:
            self._read_lock = self._search_lock = self._write_lock

    @classmethod
    def in_memory(cls) -> "Database":
        """One that is gone when the program ends."""
        return cls(None)

    # Writing

    def save(self, record: ConversationRecord, messages: Sequence[StoredMessage]) -> int:
        """Writes a conversation's record and some of its messages; returns the conversation's new revision."""
        with self._write() as connection:
            marks = ", ".join("?" * 11)
            (revision,) = connection.execute(
                f"INSERT INTO conversations ({RECORD_COLUMNS}) VALUES ({marks}, 1) "
                "ON CONFLICT (id) DO UPDATE SET title = excluded.title, is_pinned = excluded.is_pinned, "
                "used = excluded.used, deleted = excluded.deleted, head = excluded.head, "
                "put_away_head = excluded.put_away_head, settings = excluded.settings, "
                "num_bytes = excluded.num_bytes, revision = revision + 1 "
                "WHERE owner = excluded.owner RETURNING revision",
                record_row(record),
            ).fetchone()
            connection.executemany(
                "INSERT INTO messages (id, parent_id, role, state, conversation_id, text, reasoning, facts, created) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state, "
                "text = excluded.text, reasoning = excluded.reasoning, facts = excluded.facts "
                "WHERE conversation_id = excluded.conversation_id",
                [message_row(message, record.id) for message in messages],
            )
            save_attachments(connection, messages)
        return int(revision)

    def delete(self, owner: str, conversation_id: str) -> None:
        """Deletes a conversation with its messages, for good."""
        with self._write() as connection:
            connection.execute("DELETE FROM conversations WHERE id = ? AND owner = ?", (conversation_id, owner))

    def delete_owner(self, owner: str) -> None:
        """Deletes everything of an owner, for good."""
        with self._write() as connection:
            connection.execute("DELETE FROM conversations WHERE owner = ?", (owner,))
            connection.execute("DELETE FROM presets WHERE owner = ?", (owner,))

    def overwrite_deleted(self) -> None:
        """Overwrites what was deleted: in the indexes of words as well, which else only mark it, and in the log.

        It takes a while, in proportion to all that is kept.
        """
        for index in ("words", "attached_words"):
            step, num_changes = -_MERGED_PAGES, 2
            while num_changes >= 2:  # as SQLite's manual has it; between the steps others may write
                with self._write() as connection:
                    before = connection.total_changes
                    connection.execute(f"INSERT INTO {index} ({index}, rank) VALUES ('merge', ?)", (step,))
                    step, num_changes = _MERGED_PAGES, connection.total_changes - before
        with self._write_lock, contextlib.suppress(sqlite3.OperationalError):  # a reader is in the way: later
            self._writing.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def expire(self, unused_since: float | None, deleted_before: float) -> int:
        """Deletes for good what was not used since a time (pinned ones stay), and what was put into the trash before
        another; returns how many conversations that were."""
        with self._write() as connection:
            number = connection.execute("DELETE FROM conversations WHERE deleted < ?", (deleted_before,)).rowcount
            if unused_since is not None:
                old = "DELETE FROM conversations WHERE used < ? AND is_pinned = 0"
                number += connection.execute(old, (unused_since,)).rowcount
        return int(number)

    def save_preset(self, owner: str, name: str, settings: Settings | None) -> None:
        """Keeps settings under a name; None forgets the name."""
        with self._write() as connection:
            connection.execute("DELETE FROM presets WHERE owner = ? AND name = ?", (owner, name))
            if settings is not None:
                row = (owner, name, json.dumps(settings.as_json()))
                connection.execute("INSERT INTO presets (owner, name, settings) VALUES (?, ?, ?)", row)

    # Reading

    def find(self, owner: str, conversation_id: str) -> ConversationRecord | None:
        """The owner's conversation; None if there is no such one or it is another owner's."""
        query = f"SELECT {RECORD_COLUMNS} FROM conversations WHERE id = ? AND owner = ?"
        rows = self._read(query, (conversation_id, owner))
        return read_record(rows[0]) if rows else None

    def revision(self, conversation_id: str) -> int:
        """How often the conversation has been written, by any process; 0 if it is not there."""
        rows = self._read("SELECT revision FROM conversations WHERE id = ?", (conversation_id,))
        return int(rows[0][0]) if rows else 0

    def messages(self, conversation_id: str) -> list[StoredMessage]:
        """All messages of a conversation, parents before children. One that a crash cut off is "interrupted"."""
        rows = self._read(
            f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE conversation_id = ? ORDER BY number", (conversation_id,)
        )
        return read_messages(rows, read_attachments(self._read(ATTACHMENTS_OF, (conversation_id,))))

    def listing(self, owner: str, *, is_trash: bool, limit: int, offset: int = 0) -> list[Found]:
        """The owner's conversations: the pinned ones, then those that were used last."""
        rows = self._read(
            f"SELECT {RECORD_COLUMNS} FROM conversations WHERE owner = ? AND deleted IS {'NOT ' * is_trash}NULL "
            "ORDER BY is_pinned DESC, used DESC LIMIT ? OFFSET ?",
            (owner, limit, offset),
        )
        return [Found(read_record(row)) for row in rows]

    def search(self, owner: str, text: str, *, is_trash: bool, limit: int) -> list[Found]:
        """The conversations with all words of a text in their title, one message or one file, used last first."""
        words = text.split()
        if not words:
            return self.listing(owner, is_trash=is_trash, limit=limit)
        state = f"owner = ? AND deleted IS {'NOT ' * is_trash}NULL"
        titled = " AND ".join(["title LIKE ? ESCAPE '\\'"] * len(words))
        by_title = self._look_for(
            f"SELECT {RECORD_COLUMNS} FROM conversations WHERE {state} AND {titled} "
            "ORDER BY is_pinned DESC, used DESC LIMIT ?",
            (owner, *map(like, words), limit),
        )
        found = {row[0]: Found(read_record(row)) for row in by_title}
        for conversation_id, snippet in search_texts(self._look_for, owner, words, state, limit):
            known = found.get(conversation_id)
            if known is None and (record := self.find(owner, conversation_id)) is not None:
                found[conversation_id] = Found(record, snippet)
        return sorted(found.values(), key=lambda one: (not one.record.is_pinned, -one.record.used))[:limit]

    def num_bytes(self, owner: str | None = None) -> int:
        """What the texts of an owner, or of everybody, take, in bytes of UTF-8."""
        total = "SELECT coalesce(sum(num_bytes), 0) FROM conversations"
        rows = self._read(total) if owner is None else self._read(f"{total} WHERE owner = ?", (owner,))
        return int(rows[0][0])

    def num_conversations(self, owner: str) -> int:
        """How many conversations the owner has, those in the trash included."""
        return int(self._read("SELECT count(*) FROM conversations WHERE owner = ?", (owner,))[0][0])

    def oldest(self) -> list[tuple[str, str]]:
        """Owner and id of all conversations that are not pinned, those that were used longest ago first."""
        return self._read("SELECT owner, id FROM conversations WHERE is_pinned = 0 ORDER BY used")

    def presets(self, owner: str) -> dict[str, Settings]:
        """The owner's settings by their names, in alphabetical order."""
        rows = self._read("SELECT name, settings FROM presets WHERE owner = ? ORDER BY name", (owner,))
        return {name: read_settings(settings) for name, settings in rows}

    def owner_key(self) -> bytes:
        """A secret of this file's, made when it is first asked for: ids of owners are derived with it."""
        with self._write() as connection:
            connection.execute("INSERT OR IGNORE INTO facts VALUES ('owner_key', ?)", (secrets.token_hex(32),))
            (key,) = connection.execute("SELECT value FROM facts WHERE name = 'owner_key'").fetchone()
        return bytes.fromhex(key)

    def close(self) -> None:
        """Closes the file in order. May be called twice."""
        with self._write_lock, self._read_lock, self._search_lock:
            with contextlib.suppress(sqlite3.Error):
                self._writing.execute("DELETE FROM facts WHERE name = 'open'")
            self._searching.close()
            self._reading.close()
            self._writing.close()

    def _open(self) -> sqlite3.Connection:
        connection = _connect(self.place)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > len(MIGRATIONS):
                raise InvalidSetting(
                    f"--history {self.place} was written by a newer version of this program (format {version}, this "
                    f"one knows {len(MIGRATIONS)}). Update the program, or give another file."
                )
            for number in range(version, len(MIGRATIONS)):
                connection.executescript(f"BEGIN; {MIGRATIONS[number]}; PRAGMA user_version = {number + 1}; COMMIT;")
            self._recover(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _recover(self, connection: sqlite3.Connection) -> None:
        """After a crash: is the file whole, and which answers were being written? Raises DatabaseError if it is not."""
        if connection.execute("SELECT 1 FROM facts WHERE name = 'open'").fetchone():
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
        connection.execute(
            "UPDATE messages SET state = 'interrupted' WHERE state = 'streaming' AND conversation_id IN "
            "(SELECT id FROM conversations WHERE used < ?)",
            (time.time() - _CRASHED_AFTER_S,),  # another program may be writing it
        )
        connection.execute("INSERT OR REPLACE INTO facts VALUES ('open', ?)", (str(os.getpid()),))

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._write_lock:
            self._writing.execute("BEGIN IMMEDIATE")
            try:
                yield self._writing
                self._writing.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk may have rolled back already
                    self._writing.execute("ROLLBACK")
                raise

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._read_lock:
            return self._reading.execute(query, values).fetchall()

    def _look_for(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """As `_read`, for what may take seconds: nobody else waits for it."""
        with self._search_lock:
            return self._searching.execute(query, values).fetchall()


def _connect(place: Path | None) -> sqlite3.Connection:
    connection = sqlite3.connect(
        ":memory:" if place is None else place, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # what was acknowledged survives a power cut
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # deleted texts are overwritten
    return connection


def _make_private(place: Path) -> None:
    """Folder and file for this user alone; SQLite gives its side files the same permissions."""
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(place, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise InvalidSetting(
            f"--history {place}: {error.strerror or error}. Give a file in a folder that can be written to, or use "
            "--no-history."
        ) from None


def _set_aside(place: Path) -> Path:
    """Renames a damaged file and what belongs to it; returns its new name."""
    aside = place.with_name(f"{place.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    for ending in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{place}{ending}").rename(f"{aside}{ending}")
    return aside
