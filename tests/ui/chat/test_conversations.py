"""Whose conversation is whose, and what goes when room is short."""

import pytest

from ui.chat.conversations import Conversations, StoreLimits
from ui.chat.refusal import Refused

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
    store = Conversations(never_open, StoreLimits(max_conversations_per_owner=2))
    first, second, third = (store.create(ALICE) for _ in range(3))
    assert store.find(ALICE, first.id) is None
    assert store.find(ALICE, second.id) is second
    assert store.find(ALICE, third.id) is third


def test_an_open_conversation_never_goes() -> None:
    opened: set[str] = set()
    store = Conversations(opened.__contains__, StoreLimits(max_conversations_per_owner=2))
    first, second = store.create(ALICE), store.create(ALICE)
    opened.add(first.id)
    store.create(ALICE)
    assert store.find(ALICE, first.id) is first
    assert store.find(ALICE, second.id) is None


def test_when_everything_is_open_a_new_one_is_refused_and_nothing_is_lost() -> None:
    store = Conversations(lambda _id: True, StoreLimits(max_conversations_per_owner=1))
    conversation = store.create(ALICE)
    with pytest.raises(Refused, match="too_many"):
        store.create(ALICE)
    assert store.find(ALICE, conversation.id) is conversation
    assert store.latest(ALICE) is conversation


def test_one_owner_does_not_push_out_another() -> None:
    store = Conversations(never_open, StoreLimits(max_conversations_per_owner=2))
    hers = store.create(ALICE)
    for _ in range(10):
        store.create(BOB)
    assert store.find(ALICE, hers.id) is hers


def test_bytes_are_limited_for_an_owner() -> None:
    store = Conversations(never_open, StoreLimits(max_bytes_per_owner=100))
    first, second = store.create(ALICE), store.create(ALICE)
    first.add_user("x" * 60)
    second.add_user("x" * 60)
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
