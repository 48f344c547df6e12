"""The tree of messages: what a branch shows, and that nothing is ever lost."""

import threading

from ui.chat.conversation import Conversation


def talk(conversation: Conversation, question: str, answer: str) -> tuple[str, str]:
    asked = conversation.add_user(question)
    answered = conversation.start_answer(asked.id)
    conversation.grow(answered.id, answer)
    conversation.amend(answered.id, state="complete")
    return asked.id, answered.id


def texts(conversation: Conversation) -> list[str]:
    return [message.text for message in conversation.path()]


def test_the_path_goes_from_the_first_question_to_the_head() -> None:
    conversation = Conversation("owner")
    talk(conversation, "one", "1")
    talk(conversation, "two", "2")
    assert texts(conversation) == ["one", "1", "two", "2"]


def test_ids_are_32_hexadecimal_digits_and_differ() -> None:
    conversation = Conversation("owner")
    ids = {conversation.id, *talk(conversation, "one", "1")}
    assert len(ids) == 3
    assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in ids)


def test_an_answer_grows_and_is_read_as_far_as_it_is_written() -> None:
    conversation = Conversation("owner")
    answer = conversation.start_answer(conversation.add_user("q").id)
    for piece in ("a", "b", "c"):
        before = conversation.version
        conversation.grow(answer.id, piece)
        assert conversation.version > before
    assert texts(conversation) == ["q", "abc"]
    conversation.grow(answer.id, "d", reasoning="r")
    assert conversation.path()[-1].text == "abcd"
    assert conversation.path()[-1].reasoning == "r"
    assert conversation.path()[-1].state == "streaming"


def test_an_answer_that_has_ended_never_changes() -> None:
    conversation = Conversation("owner")
    _, answer_id = talk(conversation, "q", "a")
    version = conversation.version
    conversation.grow(answer_id, "more")
    conversation.amend(answer_id, state="failed", error="late")
    assert texts(conversation) == ["q", "a"]
    assert conversation.path()[-1].state == "complete"
    assert conversation.version == version


def test_another_answer_is_a_sibling_and_the_first_one_stays() -> None:
    conversation = Conversation("owner")
    question_id, first = talk(conversation, "q", "first")
    second = conversation.start_answer(question_id).id
    conversation.grow(second, "second")
    assert texts(conversation) == ["q", "second"]
    assert conversation.siblings(second) == (first, second)
    assert conversation.choose(first)
    assert texts(conversation) == ["q", "first"]


def test_choosing_a_sibling_shows_what_was_said_after_it() -> None:
    conversation = Conversation("owner")
    question_id, first = talk(conversation, "q", "first")
    talk(conversation, "then", "more")
    conversation.start_answer(question_id)
    conversation.choose(first)
    assert texts(conversation) == ["q", "first", "then", "more"]


def test_choosing_a_message_of_another_conversation_changes_nothing() -> None:
    conversation, other = Conversation("owner"), Conversation("owner")
    talk(conversation, "q", "a")
    _, foreign = talk(other, "secret", "s")
    assert not conversation.choose(foreign)
    assert texts(conversation) == ["q", "a"]


def test_a_branch_is_put_away_and_brought_back() -> None:
    conversation = Conversation("owner")
    talk(conversation, "q", "a")
    conversation.put_away()
    assert texts(conversation) == []
    assert conversation.can_bring_back
    conversation.bring_back()
    assert texts(conversation) == ["q", "a"]
    assert not conversation.can_bring_back


def test_a_question_after_clear_starts_afresh_and_ends_the_offer_to_undo() -> None:
    conversation = Conversation("owner")
    _, answer_id = talk(conversation, "old", "o")
    conversation.put_away()
    talk(conversation, "new", "n")
    conversation.bring_back()
    assert texts(conversation) == ["new", "n"]
    assert conversation.find(answer_id) is not None


def test_clearing_twice_still_undoes_to_the_conversation() -> None:
    conversation = Conversation("owner")
    talk(conversation, "q", "a")
    conversation.put_away()
    conversation.put_away()
    conversation.bring_back()
    assert texts(conversation) == ["q", "a"]


def test_growing_from_many_threads_loses_nothing() -> None:
    conversation = Conversation("owner")
    answer = conversation.start_answer(conversation.add_user("q").id)

    def write() -> None:
        for _ in range(500):
            conversation.grow(answer.id, "x")
            conversation.path()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert conversation.path()[-1].text == "x" * 2000
    assert conversation.num_bytes == 2001
