"""A running answer: it ends in exactly one state, whatever happens to the model or to those who watch."""

import time
from collections.abc import Callable

import pytest

from tests.scripted_model import Script, ScriptedLoad, ScriptedModel, many_words
from ui.chat.answers import Answers
from ui.chat.conversation import Conversation, Settings
from ui.chat.message import StoredMessage
from ui.chat.refusal import Refused

FAST = 2000.0


def eventually(is_so: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


class Room:
    """A conversation with a scripted model and somebody who watches."""

    def __init__(self, script: Script, *, linger_s: float = 10.0, is_loaded: bool = True) -> None:
        self.model = ScriptedModel(script)
        self.load = ScriptedLoad(self.model, is_loaded=is_loaded)
        self.num_viewers = 1
        self.answers = Answers(self.load, lambda _one: self.num_viewers > 0, linger_s)  # type: ignore[arg-type]
        self.conversation = Conversation("owner")

    @property
    def last(self) -> StoredMessage:
        return self.conversation.path()[-1]

    def ask(self, text: str = "hello") -> StoredMessage:
        answer = self.answers.ask(self.conversation, text)
        assert answer.wait(10)
        return self.last


def test_a_complete_answer_has_its_text_and_its_figures() -> None:
    room = Room(Script(answer="one two three", reasoning="let me see", tokens_per_s=FAST))
    message = room.ask()
    assert (message.state, message.text, message.reasoning) == ("complete", "one two three", "let me see")
    assert message.finish_reason == "stop"
    assert message.usage is not None
    assert message.usage.completion_tokens == 6
    assert message.reasoning_s is not None
    eventually(lambda: room.model.num_streams == 0)


@pytest.mark.timed
def test_stop_keeps_the_partial_answer_and_frees_the_model_within_a_second() -> None:
    room = Room(Script(answer=many_words(1000), tokens_per_s=100))
    room.answers.ask(room.conversation, "hello")
    eventually(lambda: len(room.last.text) > 20)
    began = time.monotonic()
    assert room.answers.stop(room.conversation.id)
    eventually(lambda: room.model.num_streams == 0)
    assert time.monotonic() - began < 1.0
    assert room.last.state == "stopped"
    assert room.last.text.startswith("word0 word1")


def test_stop_while_queued_ends_without_an_answer() -> None:
    room = Room(Script(queue=50, queue_step_s=0.05))
    answer = room.answers.ask(room.conversation, "hello")
    eventually(lambda: answer.status.phase == "queued")
    room.answers.stop(room.conversation.id)
    assert (room.last.state, room.last.text) == ("stopped", "")
    eventually(lambda: room.model.num_streams == 0)


def test_stopping_twice_too_late_or_too_early_does_nothing() -> None:
    room = Room(Script(tokens_per_s=FAST))
    assert not room.answers.stop(room.conversation.id)
    assert room.ask().state == "complete"
    assert not room.answers.stop(room.conversation.id)
    assert room.last.state == "complete"
    assert room.ask("again").state == "complete"


def test_stop_then_ask_at_once_never_mixes_answers() -> None:
    room = Room(Script(answer=lambda question: "".join(f"{question}-{at} " for at in range(200)), tokens_per_s=300))
    for number in range(20):
        room.answers.ask(room.conversation, f"q{number}")
        eventually(lambda: room.last.text != "")
        room.answers.stop(room.conversation.id)
    path = room.conversation.path()
    assert [message.role for message in path] == ["user", "assistant"] * 20
    for question, answer in zip(path[::2], path[1::2], strict=True):
        assert {word.partition("-")[0] for word in answer.text.split()} == {question.text}


def test_a_second_question_is_refused_while_an_answer_is_written() -> None:
    room = Room(Script(answer=many_words(1000), tokens_per_s=100))
    room.answers.ask(room.conversation, "first")
    with pytest.raises(Refused, match="still_answering"):
        room.answers.ask(room.conversation, "second")
    assert room.conversation.path()[0].text == "first"
    assert len(room.conversation.path()) == 2
    room.answers.stop(room.conversation.id)


def test_two_conversations_are_answered_at_the_same_time() -> None:
    room, other = Room(Script(answer=many_words(100), tokens_per_s=200)), Conversation("other")
    room.answers.ask(room.conversation, "first")
    room.answers.ask(other, "second")
    eventually(lambda: room.model.num_streams == 2)
    room.answers.close(5)
    assert {room.last.state, other.path()[-1].state} == {"interrupted"}


def test_an_error_of_the_model_ends_the_answer_and_the_next_one_works() -> None:
    room = Room(Script(answer="one two three four", fail_at=2, tokens_per_s=FAST))
    message = room.ask()
    assert (message.state, message.text) == ("failed", "one two ")
    assert message.error == "The scripted model failed as it was told to."
    room.model.script = Script(answer="fine", tokens_per_s=FAST)
    assert room.ask("again").text == "fine"


def test_a_fault_of_ours_is_logged_under_an_id_and_says_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    room = Room(Script(fail_at=0, error=ValueError("/home/someone/secret")))
    message = room.ask()
    assert message.state == "failed"
    assert message.error == ""
    assert message.fault_id is not None
    assert message.fault_id in caplog.text


def test_a_model_that_hangs_is_left_behind_when_the_user_stops() -> None:
    room = Room(Script(answer="one two three", hang_at=1, tokens_per_s=FAST))
    room.answers.ask(room.conversation, "hello")
    eventually(lambda: room.last.text == "one ")
    assert room.answers.stop(room.conversation.id)
    assert (room.last.state, room.last.text) == ("stopped", "one ")
    room.model.script = Script(answer="fine", tokens_per_s=FAST)
    assert room.ask("again").text == "fine"
    room.model.released.set()
    eventually(lambda: room.model.num_streams == 0)
    assert [message.text for message in room.conversation.path()] == ["hello", "one ", "again", "fine"]


@pytest.mark.timed
def test_an_unwatched_answer_lingers_and_then_ends_as_interrupted() -> None:
    room = Room(Script(answer=many_words(2000), tokens_per_s=100), linger_s=0.4)
    room.answers.ask(room.conversation, "hello")
    eventually(lambda: room.last.text != "")
    room.num_viewers = 0
    left = time.monotonic()
    eventually(lambda: room.last.state != "streaming")
    assert 0.35 < time.monotonic() - left < 2.0
    assert room.last.state == "interrupted"
    assert room.last.text != ""


def test_somebody_who_comes_back_in_time_keeps_the_answer_going() -> None:
    room = Room(Script(answer=many_words(40), tokens_per_s=50), linger_s=0.4)
    room.answers.ask(room.conversation, "hello")
    eventually(lambda: room.last.text != "")
    room.num_viewers = 0
    eventually(lambda: len(room.last.text) > 50)  # ten words, 0.2 s
    room.num_viewers = 1
    eventually(lambda: room.last.state != "streaming")
    assert room.last.state == "complete"


def test_a_question_asked_while_the_model_loads_waits_for_it() -> None:
    room = Room(Script(answer="here", tokens_per_s=FAST), is_loaded=False)
    answer = room.answers.ask(room.conversation, "hello")
    eventually(lambda: answer.status.phase == "loading")
    assert answer.status.progress == room.load.progress
    room.load.finish()
    assert answer.wait(5)
    assert (room.last.state, room.last.text) == ("complete", "here")


def test_a_question_is_answered_with_the_message_of_a_failed_load() -> None:
    room = Room(Script(), is_loaded=False)
    answer = room.answers.ask(room.conversation, "hello")
    room.load.fail("There is not enough memory.")
    assert answer.wait(5)
    assert (room.last.state, room.last.error) == ("failed", "There is not enough memory.")


def test_stop_works_while_the_model_loads() -> None:
    room = Room(Script(), is_loaded=False)
    room.answers.ask(room.conversation, "hello")
    room.answers.stop(room.conversation.id)
    assert room.last.state == "stopped"


def test_regenerate_answers_the_same_question_beside_the_old_answer() -> None:
    room = Room(Script(answer="first", tokens_per_s=FAST))
    first = room.ask("question")
    room.model.script = Script(answer="second", tokens_per_s=FAST)
    assert room.answers.regenerate(room.conversation, first.id).wait(5)
    assert [message.text for message in room.conversation.path()] == ["question", "second"]
    assert len(room.conversation.siblings(room.last.id)) == 2
    assert room.model.prompts[0] == room.model.prompts[1]


@pytest.mark.parametrize("which", ["missing", "question"])
def test_only_an_answer_can_be_regenerated(which: str) -> None:
    room = Room(Script(tokens_per_s=FAST))
    room.ask("question")
    message_id = "0" * 32 if which == "missing" else room.conversation.path()[0].id
    with pytest.raises(Refused, match="nothing_to_repeat"):
        room.answers.regenerate(room.conversation, message_id)


def test_the_model_reads_the_branch_with_the_conversations_own_settings() -> None:
    room = Room(Script(answer="one", tokens_per_s=FAST))
    room.ask("first")
    room.conversation.settings = Settings(system="Be brief.", sampling={"temperature": 0.0})
    room.ask("second")
    assert [(one.role, one.content) for one in room.model.prompts[-1]] == [
        ("system", "Be brief."),
        ("user", "first"),
        ("assistant", "one"),
        ("user", "second"),
    ]
    sampling = room.model.samplings[-1]
    assert sampling is not None
    assert (sampling.temperature, sampling.top_k) == (0.0, 20)


def test_an_empty_system_prompt_sends_none() -> None:
    room = Room(Script(tokens_per_s=FAST))
    room.conversation.settings = Settings(system="")
    room.ask("hello")
    assert [one.role for one in room.model.prompts[-1]] == ["user"]


def test_oldest_turns_over_the_window_are_left_out_and_named() -> None:
    room = Room(Script(answer="y" * 40, tokens_per_s=FAST))
    room.model.context_length = 200
    for number in range(4):
        room.ask(f"{number} " + "x" * 40)
    message = room.last
    path = room.conversation.path()
    assert message.left_out == 4
    assert message.reads_from == path[4].id
    assert room.model.prompts[-1][0].role == "system"
    assert room.model.prompts[-1][-1].content == path[-2].text


def test_a_question_that_alone_is_over_the_window_fails_with_the_reason() -> None:
    room = Room(Script(tokens_per_s=FAST))
    room.model.context_length = 100
    message = room.ask("x" * 200)
    assert message.state == "failed"
    assert "100" in message.error


def test_closing_ends_everything_as_interrupted_and_refuses_more() -> None:
    room = Room(Script(answer="one two", hang_at=1, tokens_per_s=FAST))
    room.answers.ask(room.conversation, "hello")
    eventually(lambda: room.last.text == "one ")
    room.answers.close(0.2)
    assert (room.last.state, room.last.text) == ("interrupted", "one ")
    with pytest.raises(Refused, match="closing"):
        room.answers.ask(room.conversation, "more")
    room.model.released.set()


def test_the_question_is_saved_before_the_model_is_asked() -> None:
    room = Room(Script(answer="yes", tokens_per_s=FAST))
    seen: list[tuple[int, int]] = []

    def save(conversation: Conversation) -> None:
        seen.append((len(conversation.path()), len(room.model.prompts)))

    room.answers = Answers(room.load, lambda _one: True, 10.0, save)  # type: ignore[arg-type]
    room.ask()
    assert seen[0] == (1, 0)
    assert seen[-1] == (2, 1)


def test_an_edited_question_is_answered_beside_the_old_one() -> None:
    room = Room(Script(answer=lambda question: f"about {question}", tokens_per_s=FAST))
    room.ask("old")
    room.ask("after it")
    first = room.conversation.path()[0]
    answer = room.answers.edit(room.conversation, first.id, "new")
    assert answer is not None
    assert answer.wait(5)
    assert [one.text for one in room.conversation.path()] == ["new", "about new"]
    assert [one.content for one in room.model.prompts[-1]][1:] == ["new"]
    room.conversation.choose(first.id)
    assert [one.text for one in room.conversation.path()] == ["old", "about old", "after it", "about after it"]


def test_an_edited_answer_stands_as_the_user_wrote_it_and_is_read_by_the_next_turn() -> None:
    room = Room(Script(answer="wrong", tokens_per_s=FAST))
    wrong = room.ask()
    assert room.answers.edit(room.conversation, wrong.id, "right") is None
    assert (room.last.text, room.last.is_edited, room.last.receipt) == ("right", True, None)
    room.ask("and then?")
    assert [one.content for one in room.model.prompts[-1]][1:] == ["hello", "right", "and then?"]


def test_a_stopped_answer_goes_on_where_it_was() -> None:
    room = Room(Script(answer=many_words(400), tokens_per_s=100))
    room.answers.ask(room.conversation, "hello")
    eventually(lambda: len(room.last.text) > 20)
    room.answers.stop(room.conversation.id)
    stopped = room.last
    room.model.script = Script(answer="and the end.", tokens_per_s=FAST)
    answer = room.answers.resume(room.conversation, stopped.id)
    assert answer.wait(5)
    assert room.last.id == stopped.id
    assert room.last.text == stopped.text + "and the end."
    assert room.last.state == "complete"
    assert room.model.openings[-1].text == stopped.text
    with pytest.raises(Refused, match="nothing_to_continue"):
        room.answers.resume(room.conversation, stopped.id)


def test_settings_reach_the_model_and_are_written_on_the_receipt() -> None:
    room = Room(Script(answer="and so on", tokens_per_s=FAST))
    sampling = {"temperature": 0.1, "seed": 5}
    room.conversation.settings = Settings("Be brief.", sampling, ("END",), "Sure: ", thinking=False)
    message = room.ask()
    assert message.text == "Sure: and so on"
    assert room.model.openings[-1].text == "Sure: "
    assert room.model.openings[-1].thinking is False
    receipt = message.receipt
    assert receipt is not None
    assert (receipt.system, receipt.stop, receipt.prefill) == ("Be brief.", ("END",), "Sure: ")
    assert receipt.sampling["seed"] == 5
    assert receipt.sampling["temperature"] == 0.1


def test_where_an_answer_began_to_loop_counts_its_given_beginning() -> None:
    good = "Here are the first ten of them, as far as I can tell you now. "
    room = Room(Script(answer=good + "again and again " * 400, tokens_per_s=20 * FAST))
    room.conversation.settings = Settings(prefill="Sure: ")
    assert room.ask().loops_at == len("Sure: ") + _loops_at_without_prefill(room)


def _loops_at_without_prefill(room: Room) -> int:
    room.conversation.settings = Settings()
    found = room.ask("and now?").loops_at
    assert found is not None
    return found


def test_the_pace_of_reading_is_learned_from_answers() -> None:
    room = Room(Script(answer="yes", tokens_per_s=FAST))
    assert room.answers.pace.expect_s(100) is None
    room.ask("q" * 50)
    assert room.answers.pace.expect_s(100) is not None
