"""Stop strings: found across pieces, held back no longer than needed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_loader.chat_format.splitter import MarkerSplitter, StopStrings


def read(stop: list[str], pieces: list[str]) -> tuple[str, bool]:
    splitter = StopStrings(stop)
    shown = "".join(splitter.feed(piece) for piece in pieces) + splitter.flush()
    return shown, splitter.has_matched


def test_a_stop_string_ends_the_text_before_it_across_pieces() -> None:
    assert read(["Observation:"], ["I act\nObs", "erva", "tion: 5", " more"]) == ("I act\n", True)


def test_the_first_of_several_stop_strings_counts() -> None:
    assert read(["END", "STOP"], ["a STOP b END"]) == ("a ", True)


def test_only_a_possible_beginning_is_held_back() -> None:
    splitter = StopStrings(["###"])
    assert splitter.feed("price #") == "price "
    assert splitter.feed("1") == "#1"
    assert splitter.flush() == ""


def test_what_turns_out_to_be_no_stop_string_is_shown_at_the_end() -> None:
    assert read(["###"], ["a##"]) == ("a##", False)


def test_without_stop_strings_nothing_is_held_back() -> None:
    splitter = StopStrings([])
    assert splitter.feed("abc") == "abc"


@given(st.lists(st.text(alphabet="ab", min_size=1, max_size=3), max_size=3), st.text(alphabet="abc"), st.data())
def test_pieces_give_the_same_as_the_whole(stop: list[str], text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    ends = [text.find(each) for each in stop if each in text]
    shown, has_matched = read(stop, pieces)
    assert has_matched == bool(ends)
    # A longer stop string may begin earlier and be completed later than a shorter one inside it.
    assert text.startswith(shown)
    assert not any(each in shown for each in stop)
    if not ends:
        assert shown == text


@pytest.mark.parametrize("length", [1, 10, 1000])
def test_no_more_than_one_stop_string_is_held_back(length: int) -> None:
    splitter = StopStrings(["x" * 10])
    shown = sum(len(splitter.feed("y")) for _ in range(length))
    assert shown == length


def pieces_of(markers: list[str], pieces: list[str]) -> list[str]:
    splitter = MarkerSplitter(markers)
    found = [part for piece in pieces for part in splitter.feed(piece)]
    return [*found, rest] if (rest := splitter.flush()) else found


def test_a_marker_is_a_piece_of_its_own_across_pieces() -> None:
    assert pieces_of(["<a>", "</a>"], ["x<", "a>y<", "/a>", "z"]) == ["x", "<a>", "y", "</a>", "z"]


def test_what_turns_out_to_be_no_marker_is_text() -> None:
    assert "".join(pieces_of(["<a>"], ["x<", "b", "<a"])) == "x<b<a"


@given(st.text(alphabet="<a>/b", max_size=30), st.data())
def test_markers_are_found_wherever_the_text_is_cut(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    cut = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    markers = ["<a>", "</a>"]
    whole, parts = pieces_of(markers, [text]), pieces_of(markers, cut)
    assert "".join(parts) == text
    assert [part for part in parts if part in markers] == [part for part in whole if part in markers]
