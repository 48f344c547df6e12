"""One question from a pipe: the answer alone on standard output, everything else on standard error."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.ui.terminal.pseudo_terminal import ROOT, chat_command, chat_environment
from ui.chat.database import Database
from ui.terminal.chat_talk import OWNER

QUICK: dict[str, Any] = {"pieces": ["**You** ", "asked: ", "{question}"]}
SLOW: dict[str, Any] = {"pieces": [f"word{number}\n" for number in range(400)], "delay_s": 0.02}


def ask(
    question: bytes, script: dict[str, Any], folder: Path, *, stdout: Any = subprocess.PIPE, **variables: str
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        chat_command(script, folder), input=question, stdout=stdout, stderr=subprocess.PIPE, cwd=ROOT, timeout=60,
        env=chat_environment(**variables), check=False,
    )  # fmt: skip


def begin(script: dict[str, Any], folder: Path) -> "subprocess.Popen[bytes]":
    """A question that is being answered."""
    process = subprocess.Popen(
        chat_command(script, folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
        env=chat_environment(), bufsize=0,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(b"go")
    process.stdin.close()
    process.stdin = None  # communicate() would flush it
    assert process.stdout is not None
    assert process.stdout.readline() == b"word0\n"
    return process


def test_the_answer_is_markdown_on_standard_output_and_nothing_else(tmp_path: Path) -> None:
    result = ask(b"Hello?\n", {**QUICK, "reasoning": ["let me see"]}, tmp_path)
    assert (result.returncode, result.stdout) == (0, b"**You** asked: Hello?\n")
    said = result.stderr.decode()
    assert said.startswith("Ready: scripted in ")
    assert "Thinking:\nlet me see\n" in said
    assert "3 tokens · 4.0 tokens/s · first after 0.01 s\n" in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    "variables",
    [
        {"LANG": "C", "LC_ALL": "C"},
        {"NO_COLOR": "1"},
        {"TERM": "dumb"},
        {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1"},
        {"COLUMNS": "0", "LINES": "0"},
        {"COLUMNS": "5"},
    ],
)
def test_the_environment_changes_nothing_of_it(tmp_path: Path, variables: dict[str, str]) -> None:
    result = ask("你好\r\n".encode(), QUICK, tmp_path, **variables)
    assert (result.returncode, result.stdout.decode()) == (0, "**You** asked: 你好\n")
    assert b"\x1b" not in result.stderr


def test_an_encoding_without_the_characters_marks_them(tmp_path: Path) -> None:
    result = ask("你好".encode(), QUICK, tmp_path, PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stdout) == (0, b"**You** asked: ??\n")


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        (b"two\nlines\n\n", "two\nlines\n"),
        (b"\xef\xbb\xbfwith a mark", "with a mark"),
        (b":help", ":help"),
        (b"--help", "--help"),
        (b"  indented", "  indented"),
        (b"caf\xff", "caf\ufffd"),
        (b"nul\0byte", "nulbyte"),
        ("already \ufffd".encode(), "already \ufffd"),
    ],
)
def test_the_whole_input_is_the_question(tmp_path: Path, question: bytes, asked: str) -> None:
    result = ask(question, {"pieces": ["<{question}>"]}, tmp_path)
    assert result.stdout.decode() == f"<{asked.rstrip()}>\n"
    assert (b"not in UTF-8" in result.stderr) == (b"\xff" in question)


def test_hostile_answers_are_safe_in_files_as_well(tmp_path: Path) -> None:
    result = ask(
        b"x", {"pieces": ["a\x1b]52;c;", "aGk=\x07b\x1b", "[2J\x9b31mc\u202e"], "reasoning": ["\x1b[2J"]}, tmp_path
    )
    assert result.stdout == b"abc\n"
    assert b"\x1b" not in result.stderr


@pytest.mark.parametrize(
    ("question", "script", "complaint"),
    [
        (b"", QUICK, "Standard input holds no question."),
        (b" \n\n", QUICK, "Standard input holds no question."),
        (b"x" * (2**20 + 1), QUICK, "more than 1,048,576 bytes"),
        (b"x", {**QUICK, "load_error": "There is no such model."}, "There is no such model."),
        (b"x", {**QUICK, "history": "/proc/nothing/history.db"}, "--history /proc/nothing/history.db"),
    ],
)
def test_what_cannot_be_answered_is_one_line_and_status_2(
    tmp_path: Path, question: bytes, script: dict[str, Any], complaint: str
) -> None:
    result = ask(question, script, tmp_path)
    assert (result.returncode, result.stdout) == (2, b"")
    said = result.stderr.decode()
    assert said.startswith("app.py: ")
    assert said.count("\n") == 1
    assert complaint in said


def test_a_question_over_the_window_is_told_with_both_numbers(tmp_path: Path) -> None:
    result = ask(b"x" * 5_000, QUICK, tmp_path)
    assert result.returncode == 2
    assert b"5,000 tokens" in result.stderr
    assert b"4,096 at most" in result.stderr


def test_an_answer_that_fails_keeps_its_part_and_is_no_success(tmp_path: Path) -> None:
    result = ask(b"x", {"pieces": ["a part"], "error": "The model failed."}, tmp_path)
    assert (result.returncode, result.stdout) == (2, b"a part\n")
    assert result.stderr.decode().splitlines()[-1] == "app.py: The model failed."


def test_the_system_prompt_and_the_seed_are_used_and_the_question_is_kept(tmp_path: Path) -> None:
    history = tmp_path / "history.db"
    result = ask(b"x", {"pieces": ["{seed}"], "seed": 7, "system": "Be brief.", "history": str(history)}, tmp_path)
    assert result.stdout == b"7\n"
    database = Database(history)
    (found,) = database.listing(OWNER, is_trash=False, limit=9)
    assert found.record.settings.system == "Be brief."
    assert [message.text for message in database.messages(found.record.id)] == ["x", "7"]
    database.close()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_the_answer_and_keeps_the_part(tmp_path: Path, number: int, status: int) -> None:
    history = tmp_path / "history.db"
    process = begin({**SLOW, "history": str(history)}, tmp_path)
    process.send_signal(number)
    rest, said = process.communicate(timeout=15)
    assert process.returncode == status
    assert b"what is there is kept" in said
    database = Database(history)
    (found,) = database.listing(OWNER, is_trash=False, limit=9)
    answer = database.messages(found.record.id)[-1]
    assert answer.text.encode() == b"word0\n" + rest
    assert answer.state == ("stopped" if number == signal.SIGINT else "interrupted")
    database.close()


def test_a_base_model_continues_the_text_and_takes_no_system_prompt(tmp_path: Path) -> None:
    result = ask(b"  Once\n", {"pieces": [" <{question}>"], "is_base": True}, tmp_path)
    assert (result.returncode, result.stdout) == (0, b" <  Once>\n")
    result = ask(b"Once", {**QUICK, "is_base": True, "system": "Be brief."}, tmp_path)
    assert (result.returncode, result.stdout) == (2, b"")
    assert b"--system is given, but scripted is a base model" in result.stderr


def test_a_reader_that_leaves_ends_it_quietly(tmp_path: Path) -> None:
    process = begin(SLOW, tmp_path)
    began = time.monotonic()
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(10) == 141
    assert time.monotonic() - began < 5
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    assert b"Traceback" not in said
    assert b"Exception" not in said


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        result = ask(b"x", QUICK, tmp_path, stdout=full)
    assert result.returncode == 2
    said = result.stderr.decode().splitlines()[-1]
    assert said == "app.py: Standard output cannot be written: No space left on device."


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_streams_may_be_closed(tmp_path: Path, closed: int) -> None:
    command = " ".join(chat_command(QUICK, tmp_path))
    program = f"exec {command} {closed}{'<' if closed == 0 else '>'}&-"
    result = subprocess.run(
        ["sh", "-c", program], input=b"x", capture_output=True, cwd=ROOT, env=chat_environment(), timeout=60,
        check=False,
    )  # fmt: skip
    assert result.returncode == (2 if closed == 0 else 0)
    assert b"Traceback" not in result.stderr
    if closed == 2:
        assert result.stdout == b"**You** asked: x\n"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say who listens to signals")
def test_waiting_for_input_ends_with_a_signal(tmp_path: Path) -> None:
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 0)):
        process = subprocess.Popen(
            chat_command(QUICK, tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            cwd=ROOT, env=chat_environment(),
        )  # fmt: skip
        status_file = Path(f"/proc/{process.pid}/status")
        while not int(status_file.read_text().split("SigCgt:")[1].split()[0], 16) & 1 << signal.SIGTERM - 1:
            time.sleep(0.02)  # until it listens
        time.sleep(0.2)
        os.kill(process.pid, number)
        assert process.wait(10) == status
        process.communicate()
