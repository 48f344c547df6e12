"""The chat on terminals without colours, without a cursor, of no size, and with other encodings."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.ui.terminal.pseudo_terminal import chat_environment, chat_terminal

ESC, CTRL_C, CTRL_D = "\x1b", "\x03", "\x04"
ENTER = "\r"
SLOW: dict[str, Any] = {"pieces": [f"word{number} " for number in range(400)], "delay_s": 0.02}


def test_lines_typed_during_an_answer_wait_on_a_plain_terminal_as_well(tmp_path: Path) -> None:
    script = {"pieces": ["<{question}> ", *SLOW["pieces"][:20]], "delay_s": 0.02}
    with chat_terminal(script, tmp_path, environment=chat_environment(TERM="dumb")) as terminal:
        terminal.send("one\n")
        terminal.wait_for("word5 ")
        terminal.send("two\n")
        terminal.wait_for("<two> word0")


def test_a_window_that_is_resized_goes_on(tmp_path: Path) -> None:
    with chat_terminal({**SLOW, "pieces": SLOW["pieces"][:80]}, tmp_path) as terminal:
        terminal.send("go" + ENTER)
        terminal.wait_for("word12")
        terminal.resize(50, 12)
        terminal.wait_for("word30")
        terminal.resize(120, 40)
        terminal.wait_for("80 tokens")
        terminal.wait_for("User>")  # the emulator forgets what a smaller window has no room for
        terminal.resize(60, 20)
        seen = len(terminal.written)
        terminal.send("again" + ENTER)
        terminal.wait_until(lambda: b"80 tokens" in terminal.written[seen:])


def test_without_colours_nothing_is_coloured(tmp_path: Path) -> None:
    pieces = ["# Title\n\n", "```python\n", "x = 'text'\n", "```\n\n", "**bold** `code`"]
    with chat_terminal({"pieces": pieces}, tmp_path, environment=chat_environment(NO_COLOR="1")) as terminal:
        terminal.send("go" + ENTER)
        terminal.wait_for("tokens/s")
    colours = {code for found in re.findall(rb"\x1b\[([\d;]*)m", terminal.written) for code in found.split(b";")}
    assert not {code for code in colours if code and int(code) >= 30}
    assert b"\x1b[1m" in terminal.written


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_can_only_print_gets_plain_markdown(tmp_path: Path, term: str) -> None:
    with chat_terminal(
        {"pieces": ["**b", "old** ", "{question}"]}, tmp_path, environment=chat_environment(TERM=term)
    ) as (terminal):
        terminal.send(b"caf\xff\xc3\xa9\n")
        terminal.wait_for("**bold** caf\ufffdé")
        terminal.wait_for("User>", 2)
        terminal.send(":edit\n")
        terminal.wait_for("User>", 3)
        terminal.send(":copy\n")
        terminal.wait_for("This terminal cannot copy")
        terminal.send(CTRL_C)
        terminal.wait_for("Ctrl-C once more")
        terminal.send(CTRL_D)
        assert terminal.wait() == 0
    assert ESC.encode() not in terminal.written


@pytest.mark.parametrize(
    "environment",
    [
        {"LANG": "C", "LC_ALL": "C"},
        {"COLUMNS": "0", "LINES": "0"},
        {"COLUMNS": "abc"},
        {"PYTHONIOENCODING": "ascii"},
        {"TERM": ""},
        {"TERM": "no-such-terminal"},
        {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "0", "TTY_INTERACTIVE": "0"},
    ],
)
def test_odd_environments_behave(tmp_path: Path, environment: dict[str, str]) -> None:
    script = {"pieces": ["**你好** ", "{question}\n\n", "| a | b |\n|---|---|\n| 1 | 2 |\n"]}
    with chat_terminal(script, tmp_path, environment=chat_environment(**environment)) as terminal:
        terminal.send("hello" + ENTER)
        terminal.wait_for("tokens/s")
        terminal.send(CTRL_D)
        assert terminal.wait() == 0
    assert "hello" in terminal.text()
    assert "Traceback" not in terminal.text()


def test_a_tiny_window_behaves(tmp_path: Path) -> None:
    script = {"pieces": ["> > quote ", "{question}\n\n", "1. | a |\n", "\n| a | b |\n|---|---|\n| 1 | 2 |\n"]}
    with chat_terminal(script, tmp_path, columns=5, lines=3, is_ready=False) as terminal:
        terminal.wait_until(lambda: b"\x1b[?2004h" in terminal.written)  # its prompt has no room for letters
        terminal.send("hello" + ENTER)
        terminal.wait_until(lambda: b"first" in terminal.written)
        terminal.send(CTRL_D)
        assert terminal.wait() == 0
    assert "hello" in terminal.text()
    assert "quote" in terminal.text()
