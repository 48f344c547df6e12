"""The chat as a user meets it: on a pseudo-terminal with a scripted model."""

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.ui.terminal import pseudo_terminal
from tests.ui.terminal.pseudo_terminal import PseudoTerminal, chat_environment, chat_terminal
from ui.chat.database import Database
from ui.chat.message import StoredMessage
from ui.terminal.chat_talk import OWNER

ESC, CTRL_C, CTRL_D = "\x1b", "\x03", "\x04"
ENTER = "\r"
QUICK: dict[str, Any] = {"pieces": ["You ", "asked ", "{question} ", "with ", "{seed}."]}
SLOW: dict[str, Any] = {"pieces": [f"word{number} " for number in range(400)], "delay_s": 0.02}
OURS = re.compile(
    rb"\x1b\[\?(?:1|7|12|25|2004)[hl]"  # what the line editor and the drawing switch
    rb"|\x1b\[\d*[ABCDJK]|\x1b\[[\d;]*m|\x1b\[6n"
)
HOSTILE = [
    "a\x1b]52;c;aGFja2Vk\x07b",
    "\x1b]8;;http://evil\x1b\\c\x1b]8;;\x1b\\",
    "\x1b[2J\x1b[H\x1b[31m",
    "over\rwrite",
    "\x9b31m\x9d0;owned\x9c",
    "[link=http://evil]x[/link]",
    "\u202egnp.exe\u2066",
    "\n\n<http://x/%1b]0;owned%07>\n\n&#x202e; &#27;[2J\n\n```\x1b]0;owned\x07\n\x1b[2J\n```\n",
    "split \x1b", "]0;ow", "ned\x07 and \x1b", "[", "3", "1m here \x9b", "2J.",
]  # fmt: skip


def kept(history: Path) -> list[StoredMessage]:
    """All messages on the disk, oldest first."""
    database = Database(history)
    try:
        found = [database.messages(one.record.id) for one in database.listing(OWNER, is_trash=False, limit=9)]
        return sorted((message for messages in found for message in messages), key=lambda message: message.created)
    finally:
        database.close()


def commands_of(written: bytes) -> bytes:
    """What a terminal would obey and we did not mean."""
    text = OURS.sub(b"", written).decode()
    return re.sub("[^\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "", text).encode()


@pytest.mark.parametrize("is_base", [False, True])
@pytest.mark.parametrize("size", [None, 1, 3])
def test_nothing_that_a_model_says_commands_the_terminal(tmp_path: Path, size: int | None, is_base: bool) -> None:
    whole = "".join(HOSTILE)
    pieces = HOSTILE if size is None else [whole[at : at + size] for at in range(0, len(whole), size)]
    script = {"pieces": pieces, "is_base": is_base, "reasoning": [] if is_base else pieces, "delay_s": 0.001}
    with chat_terminal(script, tmp_path, lines=60) as terminal:
        terminal.send("hi\x1b[200~pasted \x1b]0;owned\x07 \u202e\x1b[201~" + ENTER)
        terminal.wait_for("tokens/s")
        for command in (":history", ":open", ":save /nonexistent/\x1b[200~\x1b[2J\x1b[201~x", ":undo"):
            terminal.send(command + ENTER)
        terminal.wait_for("cannot be written")
        terminal.send(CTRL_D)
        assert terminal.wait() == 0
    assert "here" in terminal.text()
    assert "overwrite" in terminal.text()
    assert "[link=http://evil]x[/link]" in terminal.text()
    answer = terminal.written.split(b"\x1b[?2004l")[1]  # from the end of the question on
    assert commands_of(answer.split(b"\x1b[?2004h")[0]) == b""
    assert b"owned\x07" not in terminal.written
    assert b"\x1b]" not in terminal.written
    assert commands_of(terminal.written).replace(b"\x08", b"") == b""


def test_a_title_from_elsewhere_commands_nothing_either(tmp_path: Path) -> None:
    history = tmp_path / "history.db"
    with chat_terminal({**QUICK, "history": str(history)}, tmp_path) as terminal:
        terminal.send("hello" + ENTER)
        terminal.wait_for("tokens/s")
        terminal.send(CTRL_D)
        terminal.wait()
    database = Database(history)
    with database._write() as connection:
        connection.execute("UPDATE conversations SET title = ?", ("\x1b]0;owned\x07\x9b2J\u202etitle",))
        connection.execute("UPDATE messages SET text = ?", ("\x1b]52;c;aGk=\x07\x1b[2Jtext",))
    database.close()
    with chat_terminal({**QUICK, "history": str(history)}, tmp_path) as terminal:
        terminal.send(f":open{ENTER}:open 1{ENTER}:his{ENTER}{ESC}[A{ESC}[A{ESC}[A{ESC}[A")
        terminal.wait_for("2 messages")
        time.sleep(0.3)
        terminal.send(CTRL_C + CTRL_C)
        terminal.wait()
    assert "title" in terminal.text()
    assert commands_of(terminal.written).replace(b"\x08", b"") == b""


def test_a_conversation_streams_is_kept_and_has_the_seed_of_2023(tmp_path: Path) -> None:
    history = tmp_path / "history.db"
    with chat_terminal({**QUICK, "history": str(history)}, tmp_path) as terminal:
        terminal.send("one" + ENTER)
        terminal.wait_for("You asked one with 1234.")
        terminal.wait_for("5 tokens", 1)
        terminal.send("two" + ENTER)
        terminal.wait_for("You asked two with 1234.")
        terminal.wait_for("5 tokens", 2)
        terminal.send(":exit" + ENTER)
        assert terminal.wait() == 0
    assert [message.text for message in kept(history)] == [
        "one", "You asked one with 1234.", "two", "You asked two with 1234.",
    ]  # fmt: skip


def test_ctrl_c_stops_an_answer_and_keeps_the_part(tmp_path: Path) -> None:
    history = tmp_path / "history.db"
    with chat_terminal({**SLOW, "history": str(history)}, tmp_path) as terminal:
        terminal.send("go" + ENTER)
        terminal.wait_for("word12")
        terminal.send(CTRL_C)
        terminal.wait_for("Stopped; what is there is kept.")
        terminal.wait_for("User>", 2)
        shown = terminal.text()
        terminal.send(CTRL_D)
        assert terminal.wait() == 0
    answer = kept(history)[-1]
    assert answer.state == "stopped"
    assert answer.text.split()[-1] in shown
    assert 12 < len(answer.text.split()) < 399


def test_ctrl_c_at_the_prompt_clears_it_and_twice_leaves(tmp_path: Path) -> None:
    with chat_terminal(QUICK, tmp_path) as terminal:
        terminal.send("half a question" + CTRL_C)
        terminal.wait_for("Ctrl-C once more, or Ctrl-D, leaves.")
        terminal.send("one" + ENTER)
        terminal.wait_for("You asked one")
        terminal.wait_for("User>", 3)
        terminal.send(CTRL_C)
        terminal.wait_for("Ctrl-C once more", 2)
        assert terminal.process.poll() is None
        terminal.send(CTRL_C)
        assert terminal.wait() == 0


@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
def test_a_ctrl_c_between_two_prompts_counts(tmp_path: Path, term: str) -> None:
    environment = chat_environment(TERM=term)
    with chat_terminal({**QUICK, "notice_s": 0.5}, tmp_path, environment=environment) as terminal:
        terminal.send(CTRL_C)
        terminal.wait_for("Ctrl-C once more, or Ctrl-D, leaves.")
        terminal.send(CTRL_C)
        assert terminal.wait() == 0


def test_a_ctrl_c_that_was_acted_on_stops_nothing_later(tmp_path: Path) -> None:
    with chat_terminal({**QUICK, "notice_s": 0.2}, tmp_path) as terminal:
        terminal.send(":help" + ENTER)
        terminal.wait_for(":exit")
        terminal.send(CTRL_C)
        terminal.wait_for("Ctrl-C once more")
        terminal.wait_for("User>", 3)
        terminal.send("one" + ENTER)
        terminal.wait_for("5 tokens")
        assert "Stopped" not in terminal.text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("is_answering", [True, False])
def test_a_signal_to_end_saves_the_part_and_leaves_with_0(tmp_path: Path, number: int, is_answering: bool) -> None:
    history = tmp_path / "history.db"
    with chat_terminal({**SLOW, "history": str(history)}, tmp_path) as terminal:
        if is_answering:
            terminal.send("go" + ENTER)
            terminal.wait_for("word12")
        terminal.process.send_signal(number)
        assert terminal.wait() == 0
    if is_answering:
        answer = kept(history)[-1]
        assert answer.state == "interrupted"
        assert len(answer.text.split()) > 12


def test_ctrl_c_while_the_model_loads_leaves(tmp_path: Path) -> None:
    with chat_terminal({**QUICK, "load_s": 60}, tmp_path, is_ready=False) as terminal:
        terminal.wait_for("Starting torch")
        terminal.send(CTRL_C)
        assert terminal.wait() == 130


def test_a_model_that_cannot_be_loaded_is_one_line_and_status_2(tmp_path: Path) -> None:
    with chat_terminal({**QUICK, "load_error": "There is no such model."}, tmp_path, is_ready=False) as terminal:
        assert terminal.wait() == 2
    assert terminal.text() == "app.py: There is no such model."


def test_several_lines_are_written_with_alt_enter_or_pasted(tmp_path: Path) -> None:
    with chat_terminal({"pieces": ["<{question}>"]}, tmp_path) as terminal:
        terminal.send(f"a{ESC}{ENTER}b{ENTER}")
        terminal.wait_for("<a\nb>")
        terminal.send(f"{ESC}[200~c\r\nd\ne{ESC}[201~{ENTER}")
        terminal.wait_for("<c\nd\ne>")
        terminal.send(f"{ESC}[A{ESC}[A{ESC}[A")  # up through the lines of the entry, not past it
        terminal.send(CTRL_C + CTRL_D)
        assert terminal.wait() == 0


def test_edit_offers_the_last_question_and_asks_it_anew(tmp_path: Path) -> None:
    history = tmp_path / "history.db"
    with chat_terminal({**QUICK, "history": str(history)}, tmp_path) as terminal:
        terminal.send("tow" + ENTER)
        terminal.wait_for("You asked tow")
        terminal.send(":edit" + ENTER)
        terminal.wait_for("User> tow", 2)
        terminal.send("\x7f\x7fwo" + ENTER)
        terminal.wait_for("You asked two")
        terminal.send(f":his{ENTER}")
        terminal.wait_for("User[1]")
        terminal.send(CTRL_D)
        assert terminal.wait() == 0
    assert "[2]" not in terminal.text()
    assert [message.text for message in kept(history) if message.role == "user"] == ["tow", "two"]


def test_earlier_questions_are_there_with_the_arrow_keys(tmp_path: Path) -> None:
    script = {**QUICK, "history": str(tmp_path / "history.db")}
    with chat_terminal(script, tmp_path) as terminal:
        terminal.send("remember me" + ENTER)
        terminal.wait_for("tokens/s")
        terminal.send(CTRL_D)
        terminal.wait()
    with chat_terminal(script, tmp_path) as terminal:
        terminal.send(f"{ESC}[A")
        terminal.wait_for("User> remember me")
        terminal.send(ENTER)
        terminal.wait_for("You asked remember me")


def test_what_is_pasted_during_an_answer_is_one_question(tmp_path: Path) -> None:
    with chat_terminal({"pieces": ["<{question}> ", *SLOW["pieces"][:20]], "delay_s": 0.02}, tmp_path) as terminal:
        terminal.send("one" + ENTER)
        terminal.wait_for("word5 ")
        terminal.send(f"{ESC}[200~two\r\nlines{ESC}[201~{ENTER}")
        terminal.wait_for("<two\nlines> word0")
        terminal.wait_for("21 tokens", 2)
        terminal.send(CTRL_D)
        assert terminal.wait() == 0


def test_what_is_typed_during_an_answer_waits_for_the_prompt(tmp_path: Path) -> None:
    pieces = [f"word{number} " for number in range(40)]
    with chat_terminal({"pieces": pieces, "delay_s": 0.02}, tmp_path) as terminal:
        terminal.send("go" + ENTER)
        terminal.wait_for("word5 ")
        terminal.send("next")
        terminal.wait_for("User> next")
    text = terminal.text()
    answer = text[text.index("word0") : text.index("40 tokens")]
    assert answer.split() == "".join(pieces).split()


def test_a_long_answer_is_there_once_on_a_small_window(tmp_path: Path) -> None:
    code = [f"line_{number} = {number}\n" for number in range(60)]
    script = {"pieces": ["```python\n", *code, "```\n\n", "- a\n", "- b\n\n", "The end."], "delay_s": 0.01}
    with chat_terminal(script, tmp_path, lines=10, columns=40) as terminal:
        terminal.send("go" + ENTER)
        terminal.wait_for("tokens/s")
    text = terminal.text()
    answer = text[text.index("```python") : text.index("The end.")]
    assert answer == "```python\n" + "".join(code) + "```\n\n • a\n • b\n\n"


def test_invalid_keystrokes_are_marked(tmp_path: Path) -> None:
    with chat_terminal({"pieces": ["<{question}>"]}, tmp_path) as terminal:
        terminal.send(b"caf\xff\xc3\xa9 \xed\xa0\x80" + ENTER.encode())
        terminal.wait_for("<caf\ufffdé")
        terminal.send(CTRL_D)
        assert terminal.wait() == 0


def test_reasoning_is_shown_apart_from_the_answer(tmp_path: Path) -> None:
    with chat_terminal({**QUICK, "reasoning": ["let me ", "see"]}, tmp_path) as terminal:
        terminal.send("one" + ENTER)
        terminal.wait_for("Thinking:\nlet me see\n\nYou asked one with 1234.\n5 tokens")


def test_an_answer_that_fails_keeps_its_part_and_the_chat_goes_on(tmp_path: Path) -> None:
    with chat_terminal({"pieces": ["a part"], "error": "The model\x1b[2J failed."}, tmp_path) as terminal:
        terminal.send("one" + ENTER)
        terminal.wait_for("a part\nThe model failed.")
        terminal.send("two" + ENTER)
        terminal.wait_for("The model failed.", 2)
        terminal.send(CTRL_D)
        assert terminal.wait() == 0


def test_commands_are_never_sent(tmp_path: Path) -> None:
    with chat_terminal(QUICK, tmp_path) as terminal:
        terminal.send(":hlep" + ENTER)
        terminal.wait_for(":hlep is no command; did you mean :help?")
        terminal.send(ENTER)
        terminal.wait_for("Write something first")
        terminal.send(" :smile" + ENTER)
        terminal.wait_for("You asked :smile with")


def test_answers_go_into_a_file_while_the_chat_stays_on_the_terminal(tmp_path: Path) -> None:
    with (
        (tmp_path / "out.md").open("wb") as out,
        chat_terminal({"pieces": ["**bold** ", "{question}"]}, tmp_path, stdout=out) as terminal,
    ):
        terminal.send("one" + ENTER)
        terminal.wait_for("tokens/s")
        terminal.send("two" + ENTER)
        terminal.wait_for("tokens/s", 2)
        terminal.send(CTRL_D)
        assert terminal.wait() == 0
    assert (tmp_path / "out.md").read_text() == "**bold** one\n**bold** two\n"
    assert "bold" not in terminal.text()


def test_a_base_model_continues_texts_in_place(tmp_path: Path) -> None:
    with chat_terminal({"pieces": [" and", " so  on"], "is_base": True}, tmp_path) as terminal:
        assert "This is a base model" in terminal.text()
        terminal.send("Once" + ENTER)
        terminal.wait_for(" and so  on")
        terminal.send(ENTER)
        terminal.wait_for(" and so  on", 2)
        terminal.send(":history" + ENTER)
        terminal.wait_for("Once and so  on and so  on")
        terminal.send(":system x" + ENTER)
        terminal.wait_for("A base model has no system prompt")
        terminal.send(CTRL_D)
        assert terminal.wait() == 0


def test_the_terminal_is_left_as_it_was(tmp_path: Path) -> None:
    def modes(terminal: PseudoTerminal) -> Any:
        return pseudo_terminal.termios.tcgetattr(terminal._ours)[:4]

    with chat_terminal(SLOW, tmp_path, is_ready=False) as terminal:
        before = modes(terminal)
        terminal.wait_for("User>")
        terminal.send("go" + ENTER)
        terminal.wait_for("word5")
        assert not modes(terminal)[3] & pseudo_terminal.termios.ECHO
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.wait() == 0
        assert modes(terminal) == before
    assert terminal.written.rstrip().rfind(b"\x1b[?25h") > terminal.written.rfind(b"\x1b[?25l")


def test_it_goes_on_after_it_was_suspended(tmp_path: Path) -> None:
    with chat_terminal(SLOW, tmp_path) as terminal:
        terminal.send("go" + ENTER)
        terminal.wait_for("word5")
        os.kill(terminal.process.pid, signal.SIGSTOP)
        time.sleep(0.2)
        os.kill(terminal.process.pid, signal.SIGCONT)
        terminal.wait_for("word20")
        terminal.send(CTRL_C)
        terminal.wait_for("Stopped")
