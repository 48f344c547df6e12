"""What reaches a terminal holds nothing that it would obey, however it was cut."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ui.terminal.safe_text import SafeText, escaped, printable, safe, safe_line, storable

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
HOSTILE = st.text(
    st.one_of(
        st.sampled_from("\x1b\x07\x18\x1a\x90\x98\x9b\x9c\x9d\x9e\x9f\\[]PX^_;:?0123m HJK \n\t\r\u202e\u2066"),
        st.characters(),
    ),
    max_size=60,
)


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a\x1b]52;c;aGk=\x07b", "ab"),  # the clipboard
        ("a\x1b]8;;http://evil\x1b\\text\x1b]8;;\x1b\\b", "atextb"),  # a link to elsewhere
        ("a\x1b]0;title\x9cb", "ab"),
        ("a\x1b[2J\x1b[Hb", "ab"),
        ("a\x1b[1;31mred\x1b[0m", "ared"),
        ("over\rwritten", "overwritten"),
        ("line\r\nline", "line\nline"),
        ("a\x9b31mb", "ab"),
        ("a\x9d0;title\x07b", "ab"),
        ("a\x1bP+q544e\x1b\\b", "ab"),  # asks the terminal to type
        ("a\x1b_Gdata\x1b\\b", "ab"),
        ("a\x1bcb", "ab"),  # a full reset
        ("a\x1b(0b", "ab"),  # other characters
        ("a\x1b#8b", "ab"),
        ("a\x08\x7f\x00\x0b\x0cb", "ab"),
        ("abc\u202edef\u202c\u2066ghi\u2069", "abcdefghi"),
        ("\x1b\x1b[2Jx", "x"),
        ("\x1b]0;\x1b[2Jx", "x"),  # a string that a new sequence breaks off
        ("\x1b[3\x1b[2Jx", "x"),
        ("\x1b]never ended\nthe answer goes on", "\nthe answer goes on"),
        ("\x1b[12\nx", "\nx"),
        ("\x1b", ""),
        ("half \ud83d", "half \ufffd"),
        ("tabs\tand\nlines, 你好, 👩‍👩‍👧, e\u0301, \u200e", "tabs\tand\nlines, 你好, 👩‍👩‍👧, e\u0301, \u200e"),
        ("[link=http://evil]x[/link] [red]", "[link=http://evil]x[/link] [red]"),
    ],
)
def test_commands_to_a_terminal_are_gone_whole_or_cut_anywhere(hostile: str, shown: str) -> None:
    assert safe(hostile) == shown
    for at in range(len(hostile) + 1):
        stream = SafeText()
        assert stream.feed(hostile[:at]) + stream.feed(hostile[at:]) == shown
    stream = SafeText()
    assert "".join(map(stream.feed, hostile)) == shown


@given(st.lists(HOSTILE, max_size=8))
def test_any_cut_gives_the_same_and_nothing_that_is_obeyed(pieces: list[str]) -> None:
    stream = SafeText()
    shown = "".join(map(stream.feed, pieces))
    assert shown == safe("".join(pieces))
    assert OBEYED.search(shown) is None
    assert safe(shown) == shown


@given(HOSTILE)
def test_no_line_is_lost_and_plain_text_stays_as_it_is(text: str) -> None:
    assert safe(text).count("\n") == text.count("\n")
    if OBEYED.search(text) is None:
        assert safe(text) == text
    assert OBEYED.search(printable(text)) is None
    assert OBEYED.search(safe_line(text)) is None
    assert "\n" not in safe_line(text)


@given(HOSTILE)
def test_escaped_json_says_the_same_and_is_safe_to_look_at(text: str) -> None:
    written = escaped(json.dumps({"text": text}, ensure_ascii=False))
    assert OBEYED.search(written) is None
    assert json.loads(written) == {"text": text}


def test_a_long_title_is_cut() -> None:
    assert safe_line("x" * 300, 10) == "x" * 9 + "…"
    assert safe_line("two\nlines\t\x1b[31mred") == "two lines red"


def test_what_is_kept_has_no_half_characters() -> None:
    assert storable("a\ud800b\udcffc\0d") == "a\ufffdb\ufffdcd"
