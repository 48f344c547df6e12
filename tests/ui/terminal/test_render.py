"""Answers on a terminal, seen through an emulator: laid out while they come, nothing lost, doubled or obeyed."""

import io
import re

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.ui.terminal.test_markdown_blocks import DOCUMENT, LINES
from ui.terminal import render
from ui.terminal.markdown_blocks import Block
from ui.terminal.render import MarkdownAnswer, PlainAnswer, markdown_lines

COMMANDS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
OURS = re.compile(r"\x1b\[(?:\d+A|2K|\?25[hl]|[\d;]*m)")


class Emulator(io.StringIO):
    """A terminal that a console writes to."""

    def __init__(self, columns: int = 60, lines: int = 20) -> None:
        super().__init__()
        self.screen = pyte.HistoryScreen(columns, lines, history=10_000, ratio=0.5)
        self.screen.set_mode(pyte.modes.LNM)  # as the driver of a terminal does it
        self._stream = pyte.Stream(self.screen)
        self.written = ""
        self.console = Console(
            file=self, force_terminal=True, color_system="standard", width=columns, height=lines, _environ={}
        )

    def write(self, text: str) -> int:
        self.written += text
        self._stream.feed(text)
        return len(text)

    def lines(self) -> list[str]:
        columns = self.screen.columns
        gone = ["".join(line[at].data for at in range(columns)) for line in self.screen.history.top]
        return [line.rstrip() for line in gone + self.screen.display]

    def text(self) -> str:
        return "\n".join(self.lines()).rstrip("\n")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every piece is drawn."""
    monkeypatch.setattr(render, "_DRAW_EVERY_S", 0.0)
    monkeypatch.setattr(render, "_SHARE_OF_TIME", 0)


def stream(text: str, size: int, terminal: Emulator) -> None:
    answer = MarkdownAnswer(terminal.console)
    for at in range(0, len(text), size):
        answer.add(text[at : at + size])
        answer.draw()
    answer.end()


def shown(source: str, columns: int = 60) -> list[str]:
    console = Console(file=io.StringIO(), width=columns, _environ={})
    return ["".join(segment.text for segment in line) for line in markdown_lines(console, Block(source))]


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize("lines", [8, 200])
def test_a_document_looks_the_same_however_it_comes(size: int, lines: int) -> None:
    terminal = Emulator(lines=lines)
    stream(DOCUMENT, size, terminal)
    assert terminal.text() == (
        "A title\n\nA paragraph of\ntwo lines.\n\n • one\n • two\n   still two\n\n 1 first\n 2 second\n\n a  b\n ────\n"
        ' 1  2\n\n```python\nprint("# no title")\n\n- no list\n```\n\n▌ quoted\n\nThe end'
    )
    assert not terminal.screen.cursor.hidden


@pytest.mark.parametrize("lines", [6, 12, 24])
def test_a_code_block_taller_than_the_screen_is_there_once(lines: int) -> None:
    code = "\n".join(f"line_{number} = {number}" for number in range(100))
    terminal = Emulator(lines=lines)
    stream(f"Before.\n\n```python\n{code}\n```\n\nAfter.", 5, terminal)
    assert terminal.text() == f"Before.\n\n```python\n{code}\n```\n\nAfter."


@pytest.mark.parametrize("lines", [6, 24])
def test_a_list_and_a_table_taller_than_the_screen_are_there_once(lines: int) -> None:
    items = [f"- item {number}" for number in range(60)]
    rows = [f"| {number} | {number * number} |" for number in range(60)]
    terminal = Emulator(lines=lines)
    stream("\n".join([*items, "", "| a | b |", "|---|---|", *rows, "", "After."]), 7, terminal)
    text = terminal.text().split("\n")
    assert text[:60] == [f" • item {number}" for number in range(60)]
    assert [line.split() for line in text[63:123]] == [[str(number), str(number * number)] for number in range(60)]
    assert text[-1] == "After."
    assert len(text) == 125


def test_a_paragraph_taller_than_the_screen_is_there_once() -> None:
    words = " ".join(f"word{number}" for number in range(400))
    terminal = Emulator(lines=10)
    stream(words, 9, terminal)
    assert " ".join(terminal.lines()).split() == words.split()


def test_drawing_goes_back_no_further_than_what_has_changed() -> None:
    terminal = Emulator()
    stream("one\n\n" + "two " * 40, 8, terminal)
    ups = [int(number) for number in re.findall(r"\x1b\[(\d+)A", terminal.written)]
    assert set(ups) == {1}
    assert "\x1b[2J" not in terminal.written
    assert len(ups) < 60


def test_a_window_that_gets_narrower_leaves_nothing_behind() -> None:
    terminal = Emulator(columns=60)
    answer = MarkdownAnswer(terminal.console)
    answer.add("word " * 30)
    answer.draw()
    # an emulator that breaks lines as terminals do when they get narrower
    before = terminal.lines()[:3]
    narrow = Emulator(columns=30)
    for line in before:
        narrow.write(line + "\r\n")
    terminal.console.file, terminal.console.size = narrow, (30, 20)  # type: ignore[assignment]
    answer.add("end.")
    answer.draw()
    answer.end()
    assert " ".join(narrow.lines()).split() == ["word"] * 30 + ["end."]


@given(LINES, st.integers(1, 9), st.integers(5, 40))
def test_any_markdown_is_shown_once_on_any_screen(lines: list[str], size: int, height: int) -> None:
    text = "\n".join(lines)
    terminal = Emulator(lines=height)
    stream(text, size, terminal)
    alone = Emulator(lines=500)
    stream(text, max(1, len(text)), alone)
    is_cut = height < 30  # numbers of long lists are narrower when they are taken in parts
    together = [" ".join(one.text().split()) if is_cut else one.text() for one in (terminal, alone)]
    assert together[0] == together[1]


@given(st.text(st.one_of(st.sampled_from("#*_-`>|[]()!<>&\\$~1. \n\t:"), st.characters(codec="utf-8")), max_size=80))
def test_no_text_ends_the_program_or_commands_the_terminal(text: str) -> None:
    terminal = Emulator(columns=20, lines=6)
    stream(text, 3, terminal)
    assert "\x1b" not in OURS.sub("", terminal.written)
    assert (
        re.search("[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", terminal.written) is None
    )


@pytest.mark.parametrize(
    "hostile",
    [
        "<http://x/%1b]0;owned%07>",
        "<http://x/%1b[2J%9b31m%C2%9b31m%E2%80%AE>",
        "&#27;[2J &#x9b; &#x202e; &#8238;",
        "[link=http://evil]x[/link]",
        "[click](http://evil/\x1b[2J)",
        "```\x1b]0;owned\x07\ncode\x1b[2J\n```",
        "| \x1b]8;;http://evil\x1b\\a | b |\n|---|---|\n| \x9b31m | \u202e |",
        "![\x1b[2J](http://x/%1b)",
    ],
)
def test_markdown_never_makes_a_command_again(hostile: str) -> None:
    terminal = Emulator()
    stream(hostile, 1, terminal)
    assert "\x1b" not in OURS.sub("", terminal.written)
    assert re.search("[\x07\x80-\x9f\u202a-\u202e]", terminal.written) is None


def test_links_show_their_address_and_html_is_text() -> None:
    assert shown("[text](http://there)") == ["text (http://there)"]
    assert shown("<div>a</div>\n\nb <b>c</b>") == ["<div>a</div>", "", "b <b>c</b>"]
    assert shown("[1]: http://there") == ["[1]: http://there"]


def test_lines_stay_lines_and_code_has_no_frame() -> None:
    assert shown("roses\nviolets") == ["roses", "violets"]
    assert shown("```py\nif a:\n    b\n\n```") == ["```py", "if a:", "    b", "", "```"]
    assert shown("    indented") == ["```", "indented", "```"]


@pytest.mark.parametrize(
    "source", ["> " * 30 + "deep", "- " * 40 + "deep", "x" + "*" * 3000, "[" * 3000, "x" + "`" * 3001]
)
def test_absurd_nesting_keeps_its_text(source: str) -> None:
    together = "".join(shown(source)).replace(" ", "")
    assert ("deep" in together) == ("deep" in source)
    assert len(together) >= len(source.replace(" ", "")) // 2


def test_a_table_that_is_too_narrow_or_too_wide_loses_nothing() -> None:
    words = "Donaudampfschifffahrt", "Rindfleischetikettierung"
    narrow = shown(f"| a | b |\n|---|---|\n| {words[0]} | {words[1]} |", columns=24)
    assert sorted("".join(narrow).replace("─", "").replace(" ", "")) == sorted("ab" + "".join(words))
    wide = "|" + "a|" * 50 + "\n|" + "-|" * 50 + "\n|" + "1|" * 50
    assert "".join(shown(wide)).replace(" ", "") == wide.replace("\n", "")


def test_plain_answers_are_safe_markdown_that_ends_with_a_line_break() -> None:
    file = io.StringIO()
    answer = PlainAnswer(file)
    for piece in ["**a** \x1b]52;", "c;aGk=\x07", "| b |\n", "c\x9b31m"]:
        answer.add(piece)
    answer.draw()
    answer.end()
    assert file.getvalue() == "**a** | b |\nc\n"
    empty = io.StringIO()
    PlainAnswer(empty).end()
    assert empty.getvalue() == ""
