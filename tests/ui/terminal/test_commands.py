"""Every command does what its help says, and nothing that begins with a colon reaches the model."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scripted_model import Script, ScriptedLoad, ScriptedModel
from ui.chat.answers import Answers
from ui.chat.conversation import Settings
from ui.chat.conversations import Conversations
from ui.chat.database import Database
from ui.chat.refusal import Refused
from ui.terminal.chat_talk import OWNER, ChatTalk
from ui.terminal.commands import COMMANDS, Commands, Outcome, is_command
from ui.terminal.notices import Notices
from ui.terminal.refusals import words_of
from ui.terminal.talk import Talk
from ui.terminal.text_talk import TextTalk
from ui.web.access import is_id

FAST = 2000.0


class Stream(io.StringIO):
    """Standard error, as a terminal or as a file."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


class Room:
    """A chat with a scripted model, and what it says."""

    def __init__(
        self, *, is_base: bool = False, history: Path | None = None, is_terminal: bool = False, seed: int | None = 1234
    ) -> None:
        self.model = ScriptedModel(Script(answer=lambda question: f"about {question}", tokens_per_s=FAST))
        self.stream = Stream(is_terminal)
        self.confirms: list[str] = []
        self.answer_to_confirm = True
        settings = Settings(sampling={} if seed is None else {"seed": seed})
        self.conversations = Conversations(lambda _id: False, None, Database(history) if history else None)
        self.talk: Talk
        if is_base:
            self.talk = TextTalk(self.model, settings)  # type: ignore[arg-type]
        else:
            load = ScriptedLoad(self.model)
            answers = Answers(load, lambda _one: True, 0.0, self.conversations.save)  # type: ignore[arg-type]
            self.talk = ChatTalk(self.model, self.conversations, answers, settings)  # type: ignore[arg-type]
        self.commands = Commands(self.talk, Notices(self.stream), self._confirm)

    @property
    def chat(self) -> ChatTalk:
        assert isinstance(self.talk, ChatTalk)
        return self.talk

    def ask(self, text: str) -> str:
        running = self.talk.ask(text)
        assert running.wait(10)
        return running.text

    def run(self, entry: str) -> str:
        """What a command says; an answer that it begins is waited for."""
        outcome = self.outcome(entry)
        if outcome.running is not None:
            assert outcome.running.wait(10)
        return self.said()

    def outcome(self, entry: str) -> Outcome:
        self.stream.seek(0)
        self.stream.truncate()
        return self.commands.run(entry)

    def said(self) -> str:
        return self.stream.getvalue()

    def texts(self) -> list[str]:
        return [text for _who, text in self.talk.turns()]

    def _confirm(self, what: str) -> bool:
        self.confirms.append(what)
        return self.answer_to_confirm


def test_the_commands_of_2023_are_there_with_their_short_names() -> None:
    names = {name for command in COMMANDS for name in command.names}
    assert names >= {
        ":help", ":h", ":exit", ":quit", ":q", ":clear", ":cl", ":clear-his", ":clh", ":history", ":his", ":seed",
        ":conf", ":reset-conf",
    }  # fmt: skip
    help_text = Room().run(":help")
    assert all(name in help_text for name in names)


@pytest.mark.parametrize("entry", [":hlep", ":", ":)", ":x\ny", ":EXIT", ":conf=1", ":\x1b[2J"])
def test_unknown_commands_are_told_with_the_nearest_and_never_sent(entry: str) -> None:
    room = Room()
    assert is_command(entry)
    said = room.run(entry)
    assert "is no command; did you mean :" in said
    assert "\x1b" not in said
    assert room.model.prompts == []
    assert ":hlep is no command; did you mean :help?" in room.run(":hlep")


def test_a_space_before_the_colon_makes_a_question() -> None:
    room = Room()
    assert not is_command(" :smile")
    assert room.ask(" :smile") == "about :smile"


@pytest.mark.parametrize("entry", [":exit", ":quit", ":q"])
def test_leaving(entry: str) -> None:
    assert Room().outcome(entry).leaves
    assert not Room().outcome(f"{entry} now").leaves
    assert "takes nothing after it" in Room().run(f"{entry} now")


def test_the_screen_is_cleared_where_that_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert Room(is_terminal=True).run(":clear") == "\x1b[2J\x1b[H"
    assert "cannot be cleared" in Room().run(":cl")
    monkeypatch.setenv("TERM", "dumb")
    assert "cannot be cleared" in Room(is_terminal=True).run(":cl")


@pytest.mark.parametrize("entry", [":clear-his", ":clh", ":clear-history"])
def test_a_new_conversation_begins_and_the_old_one_is_kept(entry: str) -> None:
    room = Room()
    room.run(":conf temperature=0.1")
    room.ask("first")
    assert "A new conversation begins" in room.run(entry)
    assert room.texts() == []
    room.ask("second")
    assert [message.content for message in room.model.prompts[-1]][1:] == ["second"]
    assert room.talk.settings.sampling["temperature"] == 0.1
    assert "first" in room.run(":open")


def test_the_history_is_numbered_and_safe() -> None:
    room = Room()
    assert "Nothing has been said yet" in room.run(":history")
    room.model.script = Script(answer="an\x1b[2Jswer \x9b31m\u202eend", tokens_per_s=FAST)
    room.ask("que\x1b]52;c;aGk=\x07stion")
    said = room.run(":his")
    assert ("User[1]" in said, "Qwen[1]" in said) == (True, True)
    assert "question\n" in said
    assert "answer end\n" in said
    assert not {"\x1b", "\x9b", "\u202e", "\x07"} & set(said)


def test_the_seed_is_set_before_every_answer() -> None:
    room = Room()
    room.ask("one")
    room.ask("two")
    assert "The seed is 1234." in room.run(":seed")
    assert "The seed is 7." in room.run(":seed 7")
    room.ask("three")
    assert [sampling and sampling.seed for sampling in room.model.samplings] == [1234, 1234, 7]
    for bad in ("-1", "abc", "1.5", "9" * 30, "1 temperature=0"):
        assert "seed" in room.run(f":seed {bad}")
    assert room.talk.settings.sampling == {"seed": 7}


def test_settings_take_effect_and_go_back() -> None:
    room = Room()
    assert "the model's own is 0.7" in room.run(":conf temperature=0.1 stop=['END', 'FIN']")
    room.ask("one")
    sampling = room.model.samplings[-1]
    assert sampling is not None
    assert (sampling.temperature, sampling.top_k) == (0.1, 20)
    assert room.talk.settings.stop == ("END", "FIN")
    assert "temperature is 9; give a number from 0.0 to 2.0" in room.run(":conf temperature=9")
    room.run(":reset-conf")
    assert room.talk.settings == Settings(sampling={"seed": 1234})


def test_another_answer_has_another_seed_and_the_first_one_is_kept() -> None:
    room = Room()
    assert "Nothing has been asked yet" in room.run(":regen")
    room.ask("one")
    room.run(":regen")
    room.run(":regen")
    room.ask("two")
    assert [sampling and sampling.seed for sampling in room.model.samplings] == [1234, 1235, 1236, 1234]
    assert len(room.chat.conversation.siblings(room.chat.messages()[1].id)) == 3
    room.run(":conf temperature=0")
    assert "temperature is 0" in room.run(":regen")


def test_turns_are_taken_back_one_by_one() -> None:
    room = Room()
    room.ask("one")
    room.ask("two\nlines")
    assert "Taken back: two lines" in room.run(":undo")
    assert room.texts() == ["one", "about one"]
    room.run(":undo")
    assert room.texts() == []
    assert "Nothing has been asked yet" in room.run(":undo")
    room.ask("three")
    assert [message.content for message in room.model.prompts[-1]][1:] == ["three"]


def test_the_last_question_is_changed_and_asked_again() -> None:
    room = Room()
    assert room.outcome(":edit").draft is None
    room.ask("one")
    room.ask("tow")
    assert room.outcome(":edit").draft == "tow"
    running = room.talk.revise("two")
    assert running.wait(10)
    assert room.texts() == ["one", "about one", "two", "about two"]


def test_the_system_prompt_is_shown_changed_left_out_and_taken_back() -> None:
    room = Room()
    assert "You are a scripted assistant." in room.run(":system")
    for entry, sent in (
        (":system Be brief.\nVery.", ["system", "Be brief.\nVery."]),
        (':system ""', ["user", "x"]),
        (":system default", ["system", "You are a scripted assistant."]),
    ):
        room.run(entry)
        room.ask("x")
        first = room.model.prompts[-1][0]
        assert [first.role, first.content] == sent
        room.run(":clh")
    room.run(':system ""')
    assert "No system prompt is sent." in room.run(":system")


def test_a_conversation_is_saved_to_read_and_to_load(tmp_path: Path) -> None:
    room = Room()
    assert "Nothing has been said yet" in room.run(f":save {tmp_path / 'a.md'}")
    room.run(":system Be brief.")
    room.ask("one")
    assert "Saved as" in room.run(f":save {tmp_path / 'a.md'}")
    assert (tmp_path / "a.md").read_text() == "# one\n\n## User[1]\n\none\n\n## Qwen[1]\n\nabout one\n"
    room.run(f":save '{tmp_path / 'my file.json'}'")
    other = Room()
    other.ask("what was there before")
    assert "Loaded 2 messages as a new conversation; the one before is kept." in other.run(
        f":load {tmp_path / 'my file.json'}"
    )
    assert other.texts() == ["one", "about one"]
    assert other.talk.settings.system == "Be brief."
    assert "what was there before" in other.run(":open")
    other.ask("two")
    assert [one.content for one in other.model.prompts[-1]] == ["Be brief.", "one", "about one", "two"]


def test_a_file_is_replaced_only_when_the_user_says_so(tmp_path: Path) -> None:
    room, place = Room(), tmp_path / "a.md"
    place.write_text("mine")
    room.ask("one")
    room.answer_to_confirm = False
    assert "Nothing was saved" in room.run(f":save {place}")
    assert place.read_text() == "mine"
    room.answer_to_confirm = True
    room.run(f":save {place}")
    assert "about one" in place.read_text()
    assert len(room.confirms) == 2


@pytest.mark.parametrize(
    "entry", [":save", ":load", ":load /nonexistent/x.json", ":save /nonexistent/x.md", f":save {'x' * 300}.md"]
)
def test_files_that_are_not_there_are_told(entry: str) -> None:
    room = Room()
    room.ask("one")
    assert any(word in room.run(entry) for word in ("Give the file's name", "cannot be"))
    assert room.texts() == ["one", "about one"]


def test_a_bad_file_leaves_the_conversation_as_it_is(tmp_path: Path) -> None:
    room = Room()
    room.ask("one")
    (tmp_path / "a.json").write_text(json.dumps({"messages": []}))
    assert "is no conversation of this program" in room.run(f":load {tmp_path / 'a.json'}")
    assert room.texts() == ["one", "about one"]


def test_tokens_are_counted_as_the_next_answer_would_cost() -> None:
    room = Room()
    room.ask("one")
    tokens = len("You are a scripted assistant.") + len("one") + len("about one")
    said = room.run(":tokens")
    assert f"takes {tokens} of 4,096 tokens, of which {tokens // 2} are known" in said
    assert "An answer may have 256." in said
    room.model.context_length = 10
    assert "10 at most" in room.run(":tokens")


def test_an_answer_is_copied_by_the_terminal_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    room = Room(is_terminal=True)
    assert "no answer yet" in room.run(":copy")
    room.model.script = Script(answer="an\x1b[2Jswer\u202e", tokens_per_s=FAST)
    room.ask("one")
    said = room.run(":copy")
    assert said.startswith("\x1b]52;c;" + base64.b64encode(b"answer").decode() + "\x07")
    room.model.script = Script(answer="x" * 60_000, tokens_per_s=FAST)
    room.ask("two")
    assert "too long for the clipboard" in room.run(":copy")
    monkeypatch.setenv("TERM", "dumb")
    for room in (Room(is_terminal=True), Room()):
        room.ask("three")
        assert "cannot copy; use :save" in room.run(":copy")


def test_kept_conversations_are_listed_searched_and_opened_by_number(tmp_path: Path) -> None:
    place = tmp_path / "history.db"
    room = Room(history=place)
    assert "No conversation is kept yet" in room.run(":open")
    for question in ("about cats", "about\x1b[2J dogs", "about birds"):
        room.run(":clh")
        room.ask(question)
    room.conversations.close()
    later = Room(history=place, seed=5)
    said = later.run(":open")
    assert [line.split("  ")[-1] for line in said.splitlines()[:3]] == ["about birds", "about dogs", "about cats"]
    assert "about cats: 2 messages" in later.run(":open 3")
    assert later.texts() == ["about cats", "about about cats"]
    assert "about birds" in later.run(":open birds")
    assert "about birds: 2 messages" in later.run(":open 1")
    for bad in ("0", "2", "99999999999999999999"):
        assert "There is no number" in later.run(f":open {bad}")
    assert "No conversation has these words" in later.run(":open elephants")
    assert later.talk.settings.sampling["seed"] == 1234  # a conversation keeps its own
    assert later.chat.earlier_questions() == ["about cats", "about\x1b[2J dogs", "about birds"]
    later.conversations.close()


def test_the_pages_browsers_cannot_be_the_terminal() -> None:
    assert not is_id(OWNER)


def test_a_base_model_continues_texts() -> None:
    room = Room(is_base=True)
    assert "Write something first" in words(lambda: room.talk.ask(""))
    room.model.script = Script(answer=" and so on", tokens_per_s=FAST)
    assert room.ask("Once upon a time") == " and so on"
    assert room.ask("") == " and so on"
    assert room.texts() == ["Once upon a time and so on and so on"]
    assert "Taken back: Once upon a time and so on" in room.run(":undo")
    assert room.texts() == ["Once upon a time and so on"]
    room.run(":regen")
    assert [sampling and sampling.seed for sampling in room.model.samplings] == [1234, 1234, 1235]
    assert room.outcome(":edit").draft == "Once upon a time and so on"
    assert "had" in room.run(":tokens")
    room.run(":clh")
    assert "Nothing has been said yet" in room.run(":his")
    for entry in (":undo", ":regen", ":edit", ":tokens"):
        assert "Nothing has been asked yet" in room.run(entry)


def test_a_base_models_text_is_saved_as_it_is(tmp_path: Path) -> None:
    room = Room(is_base=True)
    room.ask("Once")
    room.run(f":save {tmp_path / 'a.txt'}")
    assert (tmp_path / "a.txt").read_text() == "Onceabout Once"
    assert "give a .md or .txt file" in room.run(f":save {tmp_path / 'a.json'}")


@pytest.mark.parametrize("entry", [":system", ":load x", ":open"])
def test_what_a_base_model_cannot_do_is_told(entry: str) -> None:
    assert "A base model" in Room(is_base=True).run(entry)


def test_a_base_model_that_fails_or_is_stopped_keeps_its_text() -> None:
    room = Room(is_base=True)
    room.model.script = Script(answer="one two three", fail_at=1, tokens_per_s=FAST)
    running = room.talk.ask("Count: ")
    assert running.wait(10)
    assert (running.ending.state, running.text) == ("failed", "one ")
    assert "failed as it was told" in running.ending.error
    room.model.script = Script(answer="one two three", hang_at=1, tokens_per_s=FAST)
    running = room.talk.ask("Count: ")
    while not running.text:
        running.wait(0.01)
    running.stop()
    assert running.wait(1)
    assert (running.ending.state, running.text) == ("stopped", "one ")
    room.model.released.set()


def words(action: Callable[[], object]) -> str:
    """Why an action is refused."""
    with pytest.raises(Refused) as caught:
        action()
    return words_of(caught.value)
