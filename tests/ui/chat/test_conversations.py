"""Whose conversation is whose, and what goes when room is short."""

import sqlite3
import time
from pathlib import Path

import pytest

from ui.chat.conversation import Conversation, Settings
from ui.chat.conversations import Conversations
from ui.chat.database import Database
from ui.chat.refusal import Refused
from ui.chat.store_limits import StoreLimits

ALICE, BOB = "a" * 32, "b" * 32


def never_open(_conversation_id: str) -> bool:
    return False


def test_an_owner_finds_a_conversation_again() -> None:
    store = Conversations(never_open)
    conversation = store.create(ALICE)
    assert store.find(ALICE, conversation.id) is conversation


def test_another_owners_conversation_is_the_same_as_a_missing_one() -> None:
    store = Conversations(never_open)
    conversation = store.create(ALICE)
    assert store.find(BOB, conversation.id) is None
    assert store.find(BOB, "0" * 32) is None
    assert store.latest(BOB) is None


def test_the_latest_is_the_one_that_was_looked_at_last() -> None:
    store = Conversations(never_open)
    first, second = store.create(ALICE), store.create(ALICE)
    assert store.latest(ALICE) is second
    store.find(ALICE, first.id)
    assert store.latest(ALICE) is first


def test_the_oldest_conversation_goes_first() -> None:
    store = Conversations(never_open, StoreLimits(max_conversations_per_owner=2, drops_oldest=True))
    first, second, third = (store.create(ALICE) for _ in range(3))
    assert store.find(ALICE, first.id) is None
    assert store.find(ALICE, second.id) is second
    assert store.find(ALICE, third.id) is third


def test_an_open_conversation_never_goes() -> None:
    opened: set[str] = set()
    store = Conversations(opened.__contains__, StoreLimits(max_conversations_per_owner=2, drops_oldest=True))
    first, second = store.create(ALICE), store.create(ALICE)
    opened.add(first.id)
    store.create(ALICE)
    assert store.find(ALICE, first.id) is first
    assert store.find(ALICE, second.id) is None


def test_when_everything_is_open_a_new_one_is_refused_and_nothing_is_lost() -> None:
    store = Conversations(lambda _id: True, StoreLimits(max_conversations_per_owner=1, drops_oldest=True))
    conversation = store.create(ALICE)
    with pytest.raises(Refused, match="too_many"):
        store.create(ALICE)
    assert store.find(ALICE, conversation.id) is conversation
    assert store.latest(ALICE) is conversation


def test_a_new_conversation_stays_until_its_tab_has_said_that_it_shows_it() -> None:
    store = Conversations(never_open)
    first = store.create(ALICE)
    for number in range(100):  # as many tabs of others open at the same moment
        store.create(f"{number:032x}")
    assert store.find(ALICE, first.id) is first


def test_one_owner_does_not_push_out_another() -> None:
    store = Conversations(never_open, StoreLimits(max_conversations_per_owner=2, drops_oldest=True))
    hers = store.create(ALICE)
    for _ in range(10):
        store.create(BOB)
    assert store.find(ALICE, hers.id) is hers


def test_bytes_are_limited_for_an_owner() -> None:
    store = Conversations(never_open, StoreLimits(max_bytes_per_owner=100, drops_oldest=True))
    first, second = store.create(ALICE), store.create(ALICE)
    first.add_user("x" * 60)
    second.add_user("x" * 60)
    store.save_all()
    store.check_question(second, "more")
    assert store.find(ALICE, first.id) is None
    assert store.find(ALICE, second.id) is second


@pytest.mark.parametrize(("text", "reason"), [("", "empty"), (" \n\t", "empty"), ("x" * 65, "too_long")])
def test_a_question_that_cannot_be_taken_is_refused(text: str, reason: str) -> None:
    store = Conversations(never_open, StoreLimits(max_message_bytes=64))
    with pytest.raises(Refused) as refused:
        store.check_question(store.create(ALICE), text)
    assert refused.value.reason == reason


def test_the_limit_of_a_question_counts_bytes_not_characters() -> None:
    store = Conversations(never_open, StoreLimits(max_message_bytes=64))
    store.check_question(store.create(ALICE), "汉" * 21)
    with pytest.raises(Refused, match="too_long"):
        store.check_question(store.create(ALICE), "汉" * 22)


def test_a_full_conversation_takes_no_more_questions() -> None:
    store = Conversations(never_open, StoreLimits(max_conversation_bytes=10))
    conversation = store.create(ALICE)
    conversation.add_user("x" * 11)
    with pytest.raises(Refused, match="conversation_full"):
        store.check_question(conversation, "more")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def answered(store: Conversations, owner: str, question: str, answer: str = "yes") -> Conversation:
    conversation = store.create(owner)
    message = conversation.start_answer(conversation.add_user(question).id)
    conversation.grow(message.id, answer)
    conversation.amend(message.id, state="complete")
    assert store.save(conversation)
    return conversation


def texts(conversation: Conversation) -> list[str]:
    return [message.text for message in conversation.path()]


def test_conversations_survive_a_restart(place: Path) -> None:
    first = Conversations(never_open, database=Database(place))
    conversation = answered(first, ALICE, "Where is it?")
    conversation.settings = Settings(system="Be kind.")
    first.close()
    again = Conversations(never_open, database=Database(place))
    found = again.find(ALICE, conversation.id)
    assert found is not None
    assert texts(found) == ["Where is it?", "yes"]
    assert found.settings.system == "Be kind."
    assert again.find(BOB, conversation.id) is None
    again.close()


def test_an_answer_that_a_crash_cut_off_is_interrupted_and_keeps_its_text(place: Path) -> None:
    first = Conversations(never_open, database=Database(place))
    conversation = first.create(ALICE)
    message = conversation.start_answer(conversation.add_user("q").id)
    conversation.grow(message.id, "as far as")
    first.save_all()
    again = Conversations(never_open, database=Database(place))
    found = again.find(ALICE, conversation.id)
    assert found is not None
    assert (found.path()[-1].state, found.path()[-1].text) == ("interrupted", "as far as")
    again.close()
    first.close()


def test_a_growing_answer_is_saved_within_a_second(place: Path) -> None:
    store = Conversations(never_open, database=Database(place))
    store.start_saving()
    conversation = store.create(ALICE)
    message = conversation.start_answer(conversation.add_user("q").id)
    reader = Database(place)
    for number in range(3):
        conversation.grow(message.id, f"piece {number} ")
        deadline = time.monotonic() + 2.0
        while not any(f"piece {number}" in one.text for one in reader.messages(conversation.id)):
            assert time.monotonic() < deadline, "it was not saved"
            time.sleep(0.05)
    reader.close()
    store.close()


def test_a_full_disk_is_told_the_text_stays_and_is_saved_when_there_is_room(place: Path) -> None:
    database = Database(place)
    store = Conversations(never_open, database=database)
    before = answered(store, ALICE, "before")
    (pages,) = database._read("PRAGMA page_count")[0]
    database._writing.execute(f"PRAGMA max_page_count = {pages}")
    conversation = store.create(ALICE)
    conversation.add_user("x" * 50_000)
    assert not store.save(conversation)
    assert store.problem == "database or disk is full"
    assert texts(conversation) == ["x" * 50_000]
    assert database.messages(before.id)[0].text == "before"
    database._writing.execute("PRAGMA max_page_count = 100000")
    store.save_all()
    assert store.problem is None
    assert database.messages(conversation.id)[0].text == "x" * 50_000
    store.close()


def test_what_another_process_has_written_is_seen(place: Path) -> None:
    one, other = (Conversations(never_open, database=Database(place)) for _ in range(2))
    conversation = answered(one, ALICE, "first")
    elsewhere = other.find(ALICE, conversation.id)
    assert elsewhere is not None
    elsewhere.add_user("second")
    other.save_all()
    found = one.find(ALICE, conversation.id)
    assert found is conversation
    assert texts(found) == ["first", "yes", "second"]
    one.close()
    other.close()


def test_a_deleted_conversation_does_not_come_back_when_its_answer_goes_on() -> None:
    store = Conversations(never_open)
    conversation = store.create(ALICE)
    message = conversation.start_answer(conversation.add_user("secret").id)
    store.save_all()
    store.delete_everything(ALICE)
    conversation.grow(message.id, "more of it")
    conversation.amend(message.id, state="complete")
    store.save(conversation)
    store.save_all()
    assert store.listing(ALICE) == []
    assert store.database.num_bytes() == 0


def test_the_trash_gives_back_until_it_is_emptied() -> None:
    store = Conversations(never_open)
    conversation = answered(store, ALICE, "gone?")
    store.put_into_trash(conversation)
    assert store.listing(ALICE) == []
    assert [one.record.id for one in store.listing(ALICE, is_trash=True)] == [conversation.id]
    store.restore(conversation)
    assert len(store.listing(ALICE)) == 1
    store.put_into_trash(conversation)
    assert store.empty_trash(BOB) == 0
    assert store.empty_trash(ALICE) == 1
    assert store.find(ALICE, conversation.id) is None


def test_a_branch_is_a_copy_with_a_life_of_its_own() -> None:
    store = Conversations(never_open)
    conversation = answered(store, ALICE, "first", "one")
    cut = conversation.path()[-1].id
    conversation.add_user("second")
    copy = store.branch(conversation, cut)
    assert texts(copy) == ["first", "one"]
    assert not {message.id for message in copy.path()} & {message.id for message in conversation.path()}
    copy.add_user("another way")
    assert texts(conversation) == ["first", "one", "second"]
    with pytest.raises(Refused):
        store.branch(conversation, "0" * 32)


def test_when_there_is_no_room_on_the_disk_the_user_is_told_and_nothing_is_dropped() -> None:
    store = Conversations(never_open, StoreLimits(max_bytes_per_owner=100))
    first, second = answered(store, ALICE, "x" * 60), answered(store, ALICE, "y" * 60)
    with pytest.raises(Refused, match="history_full"):
        store.check_question(second, "more")
    assert store.find(ALICE, first.id) is first


def test_titles_come_from_the_first_question_and_can_be_changed() -> None:
    store = Conversations(never_open)
    conversation = answered(store, ALICE, "\n## **How** do I\nmake tea?")
    assert conversation.record.title == "How do I"
    store.rename(conversation, "  Tea \n time ")
    assert conversation.record.title == "Tea time"
    store.rename(conversation, "")
    assert conversation.record.title == "How do I"


def test_named_settings_belong_to_their_owner() -> None:
    store = Conversations(never_open)
    store.save_preset(ALICE, " My  own ", Settings(system="Be kind.", stop=("END",)))
    assert store.presets(ALICE) == {"My own": Settings(system="Be kind.", stop=("END",))}
    assert store.presets(BOB) == {}
    store.save_preset(ALICE, "My own", None)
    assert store.presets(ALICE) == {}
    with pytest.raises(Refused, match="empty"):
        store.save_preset(ALICE, " ", Settings())


def test_what_was_deleted_elsewhere_or_as_too_old_is_gone_here_as_well() -> None:
    store = Conversations(never_open)
    conversation = store.create(ALICE)
    conversation.add_user("q")
    store.save(conversation)
    store.database.expire(time.time() + 60, 0.0)
    assert store.find(ALICE, conversation.id) is None
    assert store.listing(ALICE) == []


def test_what_was_deleted_is_overwritten_soon(tmp_path: Path) -> None:
    store = Conversations(never_open, database=Database(tmp_path / "history.db"))
    store.start_saving()
    conversation = store.create(ALICE)
    conversation.add_user("zqxjkvbp")
    store.save(conversation)
    store.delete_everything(ALICE)
    deadline = time.monotonic() + 10
    while any(b"zqx" in file.read_bytes() for file in tmp_path.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    store.close()


def test_what_the_disk_would_not_overwrite_is_overwritten_later(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Conversations(lambda conversation: False)
    store.delete_everything(ALICE)
    tried: list[str] = []

    def refuse() -> None:
        tried.append("refused")
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(store.database, "overwrite_deleted", refuse)
        with pytest.raises(sqlite3.OperationalError):
            store._overwrite_deleted()
    monkeypatch.setattr(store.database, "overwrite_deleted", lambda: tried.append("done"))
    store._overwrite_deleted()
    store._overwrite_deleted()
    assert tried == ["refused", "done"]
