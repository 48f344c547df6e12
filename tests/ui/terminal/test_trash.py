"""Conversations are put into the trash by their number in the list, and come back from it."""

from pathlib import Path

import pytest

from tests.ui.terminal.test_commands import Room
from ui.chat.database import Database
from ui.terminal.chat_talk import OWNER


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """Three conversations, of which the one about birds goes on."""
    room = Room(history=tmp_path / "history.db")
    for question in ("about cats", "about\x1b[2J dogs", "about birds"):
        room.run(":clh")
        room.ask(question)
    return room


def titles(said: str) -> list[str]:
    return [line.split("  ")[-1] for line in said.splitlines()[:-1]]


def test_a_deleted_conversation_is_in_the_trash_until_it_is_restored(room: Room, tmp_path: Path) -> None:
    assert titles(room.run(":open")) == ["about birds", "about dogs", "about cats"]
    assert room.run(":delete 2") == "about dogs is in the trash for 30 days; :restore brings it back.\n"
    assert "about cats is in the trash" in room.run(":delete 3")  # the numbers on screen stay
    for entry in (":open 2", ":delete 2"):
        assert "That conversation is no longer there" in room.run(entry)
    assert titles(room.run(":open")) == ["about birds"]
    in_file = Database(tmp_path / "history.db")
    assert [one.record.title for one in in_file.listing(OWNER, is_trash=False, limit=9)] == ["about birds"]
    in_file.close()
    listed = titles(room.run(":restore"))
    assert sorted(listed) == ["about cats", "about dogs"]
    assert "about cats is back" in room.run(f":restore {listed.index('about cats') + 1}")
    assert titles(room.run(":restore")) == ["about dogs"]
    room.run(":open cats")
    assert "about cats: 2 messages" in room.run(":open 1")
    room.conversations.close()


def test_the_conversation_that_goes_on_makes_room_for_a_new_one(room: Room) -> None:
    room.run(":conf temperature=0.1")
    assert "about birds is in the trash" in room.run(":delete 1")
    assert room.texts() == []
    assert room.talk.settings.sampling["temperature"] == 0.1
    assert room.ask("about fish") == "about about fish"
    assert titles(room.run(":open"))[0] == "about fish"
    room.conversations.close()


@pytest.mark.parametrize(
    ("entry", "answer"),
    [
        (":delete", "as in :delete 2"),
        (":delete all", "as in :delete 2"),
        (":delete 0", "There is no number 0; :open lists"),
        (":delete 99999999999999999999", "There is no number"),
        (":restore", "The trash is empty."),
        (":restore 1", "The trash is empty."),
        (":restore birds", "as in :restore 1"),
    ],
)
def test_other_numbers_delete_nothing(room: Room, entry: str, answer: str) -> None:
    assert answer in room.run(entry)
    assert len(titles(room.run(":open"))) == 3
    room.conversations.close()


@pytest.mark.parametrize("entry", [":delete 1", ":restore"])
def test_a_base_model_keeps_nothing_to_delete(entry: str) -> None:
    assert "A base model keeps no conversations" in Room(is_base=True).run(entry)
