"""A disk that refuses and a clock that jumps, while answers are written."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scripted_model import Script, ScriptedLoad, ScriptedModel
from tests.ui.chat.test_answer import Room, eventually
from ui.chat.answers import Answers
from ui.chat.conversations import Conversations
from ui.chat.database import Database

ALICE = "a" * 32
DAY_S = 86_400.0


class FailingDisk:
    """A connection whose writes fail while `words` says why; reading goes on."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.words: str | None = None

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if self.words is not None and statement.startswith(("BEGIN", "COMMIT", "INSERT", "UPDATE", "DELETE")):
            raise sqlite3.OperationalError(self.words)
        return self._connection.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class Desk:
    """Conversations on a disk that can be made to fail, and a scripted model that answers in them."""

    def __init__(self, place: Path) -> None:
        database: Any = Database(place)
        self.disk = FailingDisk(database._writing)
        database._writing = self.disk
        self.store = Conversations(lambda _id: True, database=database)
        load: Any = ScriptedLoad(ScriptedModel(Script(answer="one two three", tokens_per_s=200)))
        self.answers = Answers(load, lambda _one: True, 10.0, self.store.save)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "history.db")
    yield desk
    desk.disk.words = None
    desk.store.close()


@pytest.mark.parametrize(
    "words",
    ["disk I/O error", "database or disk is full", "attempt to write a readonly database", "database is locked"],
)
def test_an_answer_is_shown_whole_while_the_disk_refuses_and_saved_when_it_does_not(
    desk: Desk, tmp_path: Path, words: str
) -> None:
    conversation = desk.store.create(ALICE)
    desk.disk.words = words
    assert desk.answers.ask(conversation, "hello").wait(5)
    assert [one.text for one in conversation.path()] == ["hello", "one two three"]
    assert desk.store.problem == words
    assert desk.answers.ask(conversation, "and more").wait(5)
    desk.disk.words = None
    desk.store.save_all()
    assert desk.store.problem is None
    reader = Database(tmp_path / "history.db")
    assert [one.text for one in reader.messages(conversation.id)] == [one.text for one in conversation.path()]
    reader.close()


def test_a_disk_that_failed_in_the_middle_of_a_save_leaves_the_old_state_whole(desk: Desk, tmp_path: Path) -> None:
    conversation = desk.store.create(ALICE)
    assert desk.answers.ask(conversation, "before").wait(5)
    execute = desk.disk._connection.execute

    class DiesAtCommit(FailingDisk):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if statement == "COMMIT":
                raise sqlite3.OperationalError("disk I/O error")
            return execute(statement, *values)

    desk.store.database._writing = DiesAtCommit(desk.disk._connection)  # type: ignore[assignment]
    conversation.add_user("lost?")
    assert not desk.store.save(conversation)
    reader = Database(tmp_path / "history.db")
    assert [one.text for one in reader.messages(conversation.id)] == ["before", "one two three"]
    reader.close()
    desk.store.database._writing = desk.disk  # type: ignore[assignment]
    desk.store.save_all()
    assert [one.text for one in desk.store.database.messages(conversation.id)][-1] == "lost?"


def test_the_thread_that_saves_outlives_whatever_the_disk_says(desk: Desk) -> None:
    desk.store.start_saving()
    conversation = desk.store.create(ALICE)
    desk.disk.words = "disk I/O error"
    conversation.add_user("kept")
    eventually(lambda: desk.store.problem is not None)
    desk.disk.words = None
    eventually(lambda: desk.store.problem is None)
    assert desk.store.database.messages(conversation.id)[0].text == "kept"


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S, 20 * 365 * DAY_S])
def test_a_clock_that_jumps_ends_no_answer_and_keeps_none_alive(monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    room = Room(Script(answer=" ".join(f"word{at}" for at in range(60)), tokens_per_s=100), linger_s=0.4)
    answer = room.answers.ask(room.conversation, "hello")
    eventually(lambda: room.last.text != "")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    assert answer.wait(5)
    assert room.last.state == "complete"
    room.model.script = Script(answer=" ".join(f"word{at}" for at in range(2000)), tokens_per_s=100)
    room.answers.ask(room.conversation, "again")
    room.num_viewers = 0
    eventually(lambda: room.last.state == "interrupted", 3)


def test_a_clock_that_was_set_back_leaves_conversations_listed_and_usable(
    monkeypatch: pytest.MonkeyPatch, desk: Desk
) -> None:
    early = desk.store.create(ALICE)
    assert desk.answers.ask(early, "before").wait(5)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - DAY_S)
    late = desk.store.create(ALICE)
    assert desk.answers.ask(late, "after").wait(5)
    assert {one.record.id for one in desk.store.listing(ALICE)} == {early.id, late.id}
    desk.store._expire()
    assert len(desk.store.listing(ALICE)) == 2
