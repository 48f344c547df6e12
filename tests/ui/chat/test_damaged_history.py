"""A history that a disk, a crash or another program has damaged: what is readable is shown, nothing is deleted."""

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from model_loader.errors import InvalidSetting
from ui.chat.conversation import Conversation, Settings
from ui.chat.conversations import Conversations
from ui.chat.database import Database

ALICE = "a" * 32
HEADER = b"SQLite format 3\0"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def write(place: Path, *questions: str) -> list[str]:
    """A file with one answered conversation for each question; returns their ids."""
    store = Conversations(lambda _id: False, database=Database(place))
    made: list[Conversation] = []
    for question in questions:
        conversation = store.create(ALICE)
        answer = conversation.start_answer(conversation.add_user(question).id)
        conversation.grow(answer.id, f"about {question}")
        conversation.amend(answer.id, state="complete")
        conversation.settings = Settings(system="Be kind.", stop=("END",))
        assert store.save(conversation)
        made.append(conversation)
    store.close()
    return [conversation.id for conversation in made]


def change(place: Path, statement: str, *values: Any) -> None:
    with sqlite3.connect(place) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(statement, values)
    connection.close()


@pytest.mark.parametrize(
    "content",
    [
        b"\0" * 8192,
        b"\xff\xfe" + "{}".encode("utf-16"),
        b"[]" * 300,
        b'{"version": 999}' * 60,
        HEADER + b"\0" * 600,
        HEADER + os.urandom(8192),
        b"PK\x03\x04" + b"x" * 600,
    ],
    ids=["zeros", "utf-16", "list", "object", "header", "random", "zip"],
)
def test_a_file_that_is_no_history_is_set_aside_whole_and_a_new_one_begun(place: Path, content: bytes) -> None:
    place.write_bytes(content)
    database = Database(place)
    assert database.set_aside is not None
    assert database.set_aside.read_bytes() == content
    database.close()
    assert write(place, "goes on")


def test_an_empty_file_is_a_new_history(place: Path) -> None:
    place.write_bytes(b"")
    assert write(place, "begins")


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_file_that_was_cut_is_either_read_or_set_aside(place: Path, share: float) -> None:
    (first, *_others) = write(place, *(f"question {number} " + "x" * 3000 for number in range(20)))
    whole = place.read_bytes()
    place.write_bytes(whole[: int(share * len(whole))])
    change_open = place.with_name("history.db-wal")
    assert not change_open.exists()
    store = Conversations(lambda _id: False, database=Database(place))
    aside = store.database.set_aside
    if aside is None:
        found = store.find(ALICE, first)
        assert found is None or found.path()
    else:
        assert aside.read_bytes() == whole[: int(share * len(whole))]
    assert isinstance(store.listing(ALICE), list)
    store.close()


@pytest.mark.parametrize("kind", ["folder", "fifo", "/dev/null", "/dev/full", "/dev/zero"])
def test_what_is_no_file_is_refused_with_the_remedy_and_left_alone(tmp_path: Path, kind: str) -> None:
    place = Path(kind) if kind.startswith("/dev") else tmp_path / kind
    if kind == "folder":
        place.mkdir()
    if kind == "fifo":
        os.mkfifo(place)
    with pytest.raises(InvalidSetting, match="--no-history"):
        Database(place)
    assert place.exists()


def test_a_link_to_a_file_is_followed(tmp_path: Path, place: Path) -> None:
    real = tmp_path / "elsewhere.db"
    place.symlink_to(real)
    write(place, "kept")
    assert place.is_symlink()
    assert real.stat().st_size > 0


DAMAGE = {
    "settings are no JSON": ("UPDATE conversations SET settings = '{'", ()),
    "settings are a list": ("UPDATE conversations SET settings = '[]'", ()),
    "settings are nested too deep": ("UPDATE conversations SET settings = ?", ("[" * 100_000,)),
    "settings are of the wrong kind": (
        "UPDATE conversations SET settings = ?",
        ('{"sampling": 5, "stop": 7, "system": [], "prefill": {}, "thinking": "yes"}',),
    ),
    "settings name what there is not": ("UPDATE conversations SET settings = ?", ('{"sampling": {"evil": 1}}',)),
    "facts are no JSON": ("UPDATE messages SET facts = 'x'", ()),
    "facts are of the wrong kind": ("UPDATE messages SET facts = ?", ('{"usage": 5, "receipt": "x"}',)),
    "usage has other fields": ("UPDATE messages SET facts = ?", ('{"usage": {"evil": 1}}',)),
    "the head is unknown": ("UPDATE conversations SET head = 'nowhere'", ()),
    "what was put away is unknown": ("UPDATE conversations SET put_away_head = 'nowhere'", ()),
    "a parent is unknown": ("UPDATE messages SET parent_id = 'nowhere' WHERE role = 'assistant'", ()),
    "a message is its own parent": ("UPDATE messages SET parent_id = id WHERE role = 'assistant'", ()),
    "a time is far away": ("UPDATE conversations SET used = 9e999, created = -9e999", ()),
    "a time is a word": ("UPDATE conversations SET used = 'yesterday'", ()),
    "a state is unknown": ("UPDATE messages SET state = 'evil' WHERE role = 'assistant'", ()),
    "a system message was slipped in": ("UPDATE messages SET role = 'system' WHERE role = 'assistant'", ()),
    "a text is bytes": ("UPDATE messages SET text = ? WHERE role = 'assistant'", (b"\xff\xfe\x00",)),
    "a title is a number": ("UPDATE conversations SET title = 7", ()),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_value_hides_nothing_else(place: Path, name: str) -> None:
    damaged, whole = write(place, "damaged", "whole")
    statement, values = DAMAGE[name]
    condition = f"{'conversation_id' if 'messages' in statement else 'id'} = '{damaged}'"
    change(place, f"{statement} {'AND' if 'WHERE' in statement else 'WHERE'} {condition}", *values)
    store = Conversations(lambda _id: False, database=Database(place))
    assert {one.record.id for one in store.listing(ALICE)} == {damaged, whole}
    kept = store.find(ALICE, whole)
    assert kept is not None
    assert [one.text for one in kept.path()] == ["whole", "about whole"]
    assert kept.settings == Settings(system="Be kind.", stop=("END",))
    found = store.find(ALICE, damaged)
    assert found is not None
    assert "damaged" in [found.find(each).text for each in found._messages]  # type: ignore[union-attr]
    assert all(one.role in ("user", "assistant") for one in found.path())
    found.bring_back()
    found.add_user("it goes on")
    assert store.save(found)
    assert found.path()[-1].text == "it goes on"
    store.close()
