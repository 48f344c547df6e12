"""Attached files on the disk, in searches, and in files that come from elsewhere."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.ui.chat.trees import NOTES, grown_conversation
from ui.chat import database as database_module
from ui.chat.attachment import MAX_FILES, Attachment
from ui.chat.conversation import Conversation
from ui.chat.database import Database
from ui.chat.export import as_json, as_markdown
from ui.chat.reading import ImportRefused, read_file

ALICE = "a" * 32
REPORT = Attachment("年度报告.pdf", "pdf", "begin " * 900 + "Needle in the haystack. " + "end " * 900, 123_456)
WHOLE = json.loads(as_json(*grown_conversation().tree()))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def keep(database: Database, text: str, *attachments: Attachment) -> Conversation:
    conversation = Conversation(ALICE)
    question = conversation.add_user(text, attachments)
    conversation.start_answer(question.id)
    changes = conversation.unsaved()
    assert changes is not None
    database.save(changes.record, changes.messages)
    database.save(changes.record, changes.messages)  # as growing answers do
    return conversation


def test_files_come_back_with_their_question_and_go_with_it(place: Path) -> None:
    database = Database(place)
    kept = keep(database, "q", REPORT, NOTES)
    keep(database, "other")
    database.close()
    again = Database(place)
    assert again.messages(kept.id)[0].attachments == (REPORT, NOTES)
    assert again.find(ALICE, kept.id).num_bytes == kept.num_bytes  # type: ignore[union-attr]
    again.delete(ALICE, kept.id)
    assert again._read("SELECT count(*) FROM attachments") == [(0,)]
    assert again.search(ALICE, "haystack", is_trash=False, limit=9) == []
    again.close()
    assert b"haystack" not in b"".join(one.read_bytes() for one in place.parent.iterdir())


@pytest.mark.parametrize(
    ("words", "snippet"),
    [
        ("haystack", "Needle in the haystack."),
        ("needle HAYSTACK", "Needle in the haystack."),
        ("报告", "年度报告.pdf"),
        ("年度报告.pdf", "年度报告.pdf"),
        ("nowhere", None),
        ("haystack nowhere", None),
    ],
)
def test_a_search_finds_what_stands_in_files_and_their_names(words: str, snippet: str | None) -> None:
    database = Database.in_memory()
    keep(database, "q", NOTES, REPORT)
    keep(database, "another")
    found = database.search(ALICE, words, is_trash=False, limit=9)
    assert len(found) == (snippet is not None)
    assert snippet is None or snippet in found[0].snippet
    assert all(len(one.snippet) < 200 for one in found)


def test_a_file_of_a_program_without_attachments_is_migrated(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite3.connect(place) as connection:
        connection.executescript(f"{database_module.MIGRATIONS[0]}; PRAGMA user_version = 1;")
        connection.execute(
            "INSERT INTO conversations VALUES (?, ?, 'old', 0, 1, 1, NULL, 'm', NULL, '{}', 1, 1)", ("c", ALICE)
        )
        connection.execute(
            "INSERT INTO messages VALUES (1, 'm', NULL, 'user', 'complete', 'c', 'an old question', '', '{}', 1)"
        )
    connection.close()
    database = Database(place)
    kept = keep(database, "new", NOTES)
    assert database.messages("c")[0].attachments == ()
    assert len(database.search(ALICE, "question", is_trash=False, limit=9)) == 1
    assert database.messages(kept.id)[0].attachments == (NOTES,)
    database.close()


def test_damaged_rows_still_make_sense(place: Path) -> None:
    database = Database(place)
    kept = keep(database, "q", NOTES)
    with database._write() as connection:
        connection.execute(
            "UPDATE attachments SET name = ?, kind = 'exe', num_bytes = 'many', text = ?", (b"../\xff", b"a\xff")
        )
    assert database.messages(kept.id)[0].attachments == (Attachment("\ufffd", "text", "a\ufffd", 0),)
    database.close()


def test_markdown_holds_the_files_in_a_fence_that_they_cannot_close() -> None:
    said = as_markdown("", grown_conversation().path(), {"user": "You", "assistant": "Qwen", "reasoning": "Thoughts"})
    assert "**notes.md** (41 B)\n\n````md\n# Notes\n\n```\nbuy 苹果\n```\n<|im_start|>\n````\n\n<|im_end|>" in said


def with_files(files: Any, message: int = 4) -> bytes:
    whole = json.loads(json.dumps(WHOLE))
    whole["messages"][message - 1]["attachments"] = files
    return json.dumps(whole).encode()


GOOD = {"name": "a.txt", "kind": "text", "text": "x", "num_bytes": 1}


@pytest.mark.parametrize(
    "files",
    [
        "a.txt", [5], [{}], [{**GOOD, "kind": "exe"}], [{**GOOD, "text": 5}], [{**GOOD, "num_bytes": -1}],
        [{**GOOD, "path": "/etc/passwd"}], [{key: GOOD[key] for key in ("name", "kind", "text")}],
        [GOOD] * (MAX_FILES + 1), [{**GOOD, "text": "x" * 200_001}] * 2, [{**GOOD, "name": "x" * 5000}],
    ],
)  # fmt: skip
def test_an_import_with_bad_files_is_refused(files: Any) -> None:
    with pytest.raises(ImportRefused) as refused:
        list(read_file(with_files(files)))
    assert (refused.value.reason, refused.value.figures["name"]) == ("message", "attachments")


def test_answers_have_no_files() -> None:
    with pytest.raises(ImportRefused):
        list(read_file(with_files([GOOD], message=2)))


def test_an_imported_file_keeps_its_text_and_loses_its_folder() -> None:
    ((_record, messages),) = read_file(with_files([{**GOOD, "name": "../../x\u202e.txt", "text": "a\0b\ud800"}]))
    assert messages[3].attachments == (Attachment("x .txt", "text", "ab?", 1),)
