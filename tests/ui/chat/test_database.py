"""Rows on the disk: what was acknowledged is there again, whatever happened to the process or to the file."""

import random
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest

from model_loader.errors import InvalidSetting
from model_loader.events import Usage
from tests.ui.chat.kill_target import Acknowledged, read_acknowledged
from ui.chat import database as database_module
from ui.chat.conversation import Conversation, ConversationRecord, Settings
from ui.chat.database import MIGRATIONS, Database
from ui.chat.message import StoredMessage, new_id
from ui.chat.receipt import Receipt

ALICE, BOB = "a" * 32, "b" * 32
ROOT = Path(__file__).parents[3]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "history.db"


def keep(database: Database, *texts: str, owner: str = ALICE) -> Conversation:
    conversation = Conversation(owner)
    for text in texts:
        answer = conversation.start_answer(conversation.add_user(text).id)
        conversation.grow(answer.id, f"About {text}")
        conversation.amend(answer.id, state="complete")
    changes = conversation.unsaved()
    assert changes is not None
    database.save(changes.record, changes.messages)
    return conversation


def test_everything_of_a_conversation_comes_back(place: Path) -> None:
    receipt = Receipt(
        "Qwen/Qwen3-4B", "abc", "bfloat16 on cuda:0", "12ab", "Be brief.", {"seed": 7}, ("x",), "Yes", False
    )
    question = StoredMessage("user", "你好 \U0001f600")
    answer = StoredMessage("assistant", "text", question.id, reasoning="why", reasoning_s=1.5, receipt=receipt,
                           usage=Usage(10, 5, 3, 0.1, 0.2, 0.3), finish_reason="length", left_out=2,
                           reads_from=question.id)  # fmt: skip
    settings = Settings("Be brief.", {"temperature": 0.2}, ("END",), "Sure", thinking=False)
    record = ConversationRecord(new_id(), ALICE, "A title", is_pinned=True, head=answer.id, settings=settings)
    first = Database(place)
    first.save(record, [question, answer])
    first.close()
    again = Database(place)
    assert again.find(ALICE, record.id) == replace(record, revision=1)
    found = again.messages(record.id)
    assert found[0] == question
    assert found[1] == replace(answer, receipt=replace(receipt, stop=["x"]))
    again.close()


def test_folder_and_file_are_for_this_user_alone(place: Path) -> None:
    database = Database(place)
    keep(database, "q")
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(one.stat().st_mode) for one in place.parent.iterdir()} == {0o600}
    database.close()


def test_a_foreign_conversation_is_treated_as_a_missing_one() -> None:
    database = Database.in_memory()
    hers = keep(database, "secret words")
    assert database.find(BOB, hers.id) is None
    assert database.listing(BOB, is_trash=False, limit=9) == []
    assert database.search(BOB, "secret", is_trash=False, limit=9) == []
    database.delete(BOB, hers.id)
    assert database.find(ALICE, hers.id) is not None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("fox", ["the quick fox"]),
        ("FOX quick", ["the quick fox"]),
        ("东京", ["东京有什么好玩的"]),
        ("東", []),
        ("有什么好", ["东京有什么好玩的"]),
        ("ラーメン", ["おいしいラーメンの作り方"]),
        ("100%", ['100% "sure" it\'s_so']),
        ('"sure"', ['100% "sure" it\'s_so']),
        ("it's_so", ['100% "sure" it\'s_so']),
        ("its_so", []),
        ("fox OR 东京", []),
        ("nowhere", []),
    ],
)
def test_a_search_finds_words_of_any_length_in_any_script(words: str, expected: list[str]) -> None:
    database = Database.in_memory()
    for text in ("the quick fox", "东京有什么好玩的", "おいしいラーメンの作り方", '100% "sure" it\'s_so'):
        keep(database, text)
    assert [one.record.title for one in database.search(ALICE, words, is_trash=False, limit=9)] == expected


def test_a_search_reads_answers_and_shows_where_it_found_the_words() -> None:
    database = Database.in_memory()
    conversation = Conversation(ALICE)
    answer = conversation.start_answer(conversation.add_user("q").id)
    conversation.grow(answer.id, "begin " * 20 + "needle " + "end " * 40)
    conversation.amend(answer.id, state="complete")
    changes = conversation.unsaved()
    assert changes is not None
    database.save(changes.record, changes.messages)
    (found,) = database.search(ALICE, "needle", is_trash=False, limit=9)
    assert "needle" in found.snippet
    assert len(found.snippet) < 110


def test_a_conversation_full_of_a_word_hides_no_other() -> None:
    database = Database.in_memory()
    keep(database, "the older fox")
    talkative = Conversation(ALICE)
    for number in range(100):
        answer = talkative.start_answer(talkative.add_user(f"fox {number}").id)
        talkative.amend(answer.id, state="complete")
    changes = talkative.unsaved()
    assert changes is not None
    database.save(changes.record, changes.messages)
    assert len(database.search(ALICE, "fox", is_trash=False, limit=9)) == 2


def test_deleted_words_are_found_no_more_and_are_not_left_in_the_file(place: Path) -> None:
    database = Database(place)
    keep(database, "unmistakable-secret")
    database.delete_owner(ALICE)
    database.overwrite_deleted()
    assert database.search(ALICE, "unmistakable", is_trash=False, limit=9) == []
    database.close()
    assert b"unmistakable" not in b"".join(one.read_bytes() for one in place.parent.iterdir())


def test_pinned_ones_come_first_then_those_used_last() -> None:
    database = Database.in_memory()
    old, new = keep(database, "old"), keep(database, "new")
    assert [one.record.id for one in database.listing(ALICE, is_trash=False, limit=9)] == [new.id, old.id]
    database.save(replace(old.record, is_pinned=True), [])
    assert [one.record.id for one in database.listing(ALICE, is_trash=False, limit=9)] == [old.id, new.id]


def test_what_is_old_or_in_the_trash_goes_and_pinned_ones_stay() -> None:
    database = Database.in_memory()
    old, pinned, trashed, new = (keep(database, text) for text in ("old", "pinned", "trashed", "new"))
    long_ago = time.time() - 100
    database.save(replace(old.record, used=long_ago), [])
    database.save(replace(pinned.record, used=long_ago, is_pinned=True), [])
    database.save(replace(trashed.record, deleted=long_ago), [])
    assert database.expire(time.time() - 50, time.time() - 50) == 2
    left = [one.record.title for one in database.listing(ALICE, is_trash=False, limit=9)]
    assert left == ["pinned", "new"]
    assert database.find(ALICE, new.id) is not None


def test_a_damaged_file_is_set_aside_and_never_deleted(place: Path) -> None:
    place.parent.mkdir()
    place.write_bytes(b"this is no database, " * 400)
    database = Database(place)
    assert database.set_aside is not None
    assert database.set_aside.read_bytes().startswith(b"this is no database")
    keep(database, "goes on")
    database.close()


def test_damage_inside_the_file_is_found_after_a_crash(place: Path) -> None:
    database = Database(place)
    for number in range(60):
        keep(database, f"question {number} " + "x" * 2000)
    database.close()
    with sqlite3.connect(place) as connection:  # as if the program had been killed
        connection.execute("INSERT OR REPLACE INTO facts VALUES ('open', '1')")
    connection.close()
    content = bytearray(place.read_bytes())
    content[8192 : len(content) - 8192 : 512] = b"\xff" * len(content[8192 : len(content) - 8192 : 512])
    place.write_bytes(bytes(content))
    again = Database(place)
    assert again.set_aside is not None
    assert again.set_aside.read_bytes() == bytes(content)
    again.close()


def test_a_file_of_a_newer_program_is_refused_and_left_alone(place: Path) -> None:
    Database(place).close()
    with sqlite3.connect(place) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = place.read_bytes()
    with pytest.raises(InvalidSetting, match="newer version"):
        Database(place)
    assert place.read_bytes() == before


def test_an_older_file_is_migrated_and_keeps_its_conversations(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Database(place)
    conversation = keep(old, "kept")
    old.close()
    added = "ALTER TABLE conversations ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey'"
    monkeypatch.setattr(database_module, "MIGRATIONS", (*database_module.MIGRATIONS, added))
    new = Database(place)
    assert new.find(ALICE, conversation.id) is not None
    assert new._read("PRAGMA user_version") == [(len(database_module.MIGRATIONS),)]
    assert new._read("SELECT colour FROM conversations") == [("grey",)]
    new.close()


def test_a_migration_that_fails_changes_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Database(place)
    conversation = keep(old, "kept")
    old.close()
    broken = "ALTER TABLE conversations ADD COLUMN colour TEXT; INSERT INTO nowhere VALUES (1)"
    with monkeypatch.context() as patch:
        patch.setattr(database_module, "MIGRATIONS", (*database_module.MIGRATIONS, broken))
        with pytest.raises(InvalidSetting, match="nowhere"):
            Database(place)
    again = Database(place)
    assert again.find(ALICE, conversation.id) is not None
    again.close()


def test_a_folder_that_cannot_be_written_to_is_told_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidSetting, match="--no-history"):
        Database(tmp_path / "file" / "history.db")
    with pytest.raises(InvalidSetting, match="--no-history"):
        Database(tmp_path)


def test_two_processes_may_write_the_same_file(place: Path) -> None:
    one, other = Database(place), Database(place)
    hers = keep(one, "from the first")
    keep(other, "from the second")
    assert {found.record.title for found in one.listing(ALICE, is_trash=False, limit=9)} == {
        "from the first",
        "from the second",
    }
    assert other.revision(hers.id) == 1
    one.close()
    other.close()


@pytest.mark.parametrize("seed", range(12))
def test_a_kill_at_any_moment_loses_nothing_that_was_acknowledged(place: Path, seed: int) -> None:
    acknowledged = kill_while_writing(place, random.Random(seed).uniform(0.02, 0.6))
    check_nothing_is_missing(place, acknowledged)


def kill_while_writing(place: Path, after_s: float) -> Acknowledged:
    """Starts a program that writes conversations, kills it that long after its first line; returns what it said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.ui.chat.kill_target", str(place)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    said = first + process.stdout.read()
    process.stdout.close()
    process.wait()
    return read_acknowledged(said)


def check_nothing_is_missing(place: Path, acknowledged: Acknowledged) -> None:
    """Raises AssertionError if the file is damaged or an acknowledged text is not in it."""
    assert acknowledged.questions
    database = Database(place)
    assert database.set_aside is None
    assert database._read("PRAGMA integrity_check") == [("ok",)]
    for message_id, conversation_id, length in acknowledged.questions:
        (found,) = (one for one in database.messages(conversation_id) if one.id == message_id)
        assert len(found.text) >= length
        assert found.state != "streaming"
    database.close()


def test_every_setting_survives_the_disk(place: Path) -> None:
    settings = Settings("Be brief.", {"temperature": 0.1, "seed": 5}, ("END",), "Sure: ", True, "ja", False)
    assert all(getattr(settings, each.name) != each.default for each in fields(Settings))
    database = Database(place)
    conversation = Conversation(ALICE)
    conversation.settings = settings
    conversation.add_user("q")
    changes = conversation.unsaved()
    assert changes is not None
    database.save(changes.record, changes.messages)
    database.save_preset(ALICE, "mine", settings)
    found = database.find(ALICE, conversation.id)
    assert found is not None
    assert found.settings == settings
    assert database.presets(ALICE) == {"mine": settings}


@pytest.mark.parametrize("version", [2, 3])
def test_a_text_that_is_saved_again_is_found(place: Path, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    message = StoredMessage("user", "a needle")
    record = ConversationRecord(new_id(), ALICE, "t", head=message.id)
    with monkeypatch.context() as older:
        older.setattr(database_module, "MIGRATIONS", MIGRATIONS[:version])
        database = Database(place)
        database.save(record, [message])
        database.save(record, [message])
        database.close()
    database = Database(place)
    assert len(database.search(ALICE, "needle", is_trash=False, limit=9)) == 1
    database.delete(ALICE, record.id)
    assert database.search(ALICE, "needle", is_trash=False, limit=9) == []


def test_nothing_of_deleted_words_is_left_in_the_index(place: Path) -> None:
    database = Database(place)
    keep(database, "zqxjkvbp and more")
    database.delete_owner(ALICE)
    database.overwrite_deleted()
    left = b"".join(block for (block,) in database._writing.execute("SELECT block FROM words_data"))
    assert b"zqx" not in left
    assert b"kvb" not in left


def test_an_answer_that_a_crash_cut_off_is_found_even_after_a_quick_restart(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = StoredMessage("assistant", "a needle", state="streaming")
    crashed = Database(place)
    crashed.save(ConversationRecord(new_id(), ALICE, "t", head=message.id, used=time.time()), [message])
    Database(place).close()  # at once: another program might still be writing it
    monkeypatch.setattr(database_module, "_CRASHED_AFTER_S", -1.0)
    assert len(Database(place).search(ALICE, "needle", is_trash=False, limit=9)) == 1
    crashed.close()


def test_a_snippet_is_around_the_word_in_a_text_that_changes_its_length_in_lower_case() -> None:
    database = Database.in_memory()
    message = StoredMessage("user", "Straße " * 400 + "needle and more")
    database.save(ConversationRecord(new_id(), ALICE, "t", head=message.id), [message])
    (found,) = database.search(ALICE, "needle", is_trash=False, limit=9)
    assert "needle" in found.snippet
