"""Events come out whole, however the bytes were cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_loader.remote.server_sent_events import MAX_EVENT_BYTES, EventDecoder, EventTooLong

STREAM = (
    ": keep-alive\r\n\r\n"
    'data: {"a": "通义千问 👩‍🔬"}\n\n'
    "event: message\nid: 7\nretry: 10\ndata:no space\n\n"
    "data: two\ndata: lines\r\n\r\n"
    'error: {"code": 500}\n\n'
    "unknown\n\n\n"
    "data: [DONE]\n"
).encode()
EVENTS = ['{"a": "通义千问 👩‍🔬"}', "no space", "two\nlines", '{"error": {"code": 500}}', "[DONE]"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=6))
def test_where_the_bytes_are_cut_makes_no_difference(cuts: list[int]) -> None:
    decoder = EventDecoder()
    places = [0, *sorted(cuts), len(STREAM)]
    events = [data for start, end in pairwise(places) for data in decoder.feed(STREAM[start:end])]
    assert [*events, *decoder.flush()] == EVENTS


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    assert list(EventDecoder().feed(b"data: \xff\xfe\n\n")) == ["\ufffd\ufffd"]


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 10_000, b"data: x\n" * 1250, b": " + b"x" * 9998])
def test_a_line_or_an_event_without_end_is_given_up(piece: bytes) -> None:
    decoder = EventDecoder()
    with pytest.raises(EventTooLong):
        _ = [data for _ in range(MAX_EVENT_BYTES // 8000) for data in decoder.feed(piece)]


def test_many_short_comments_are_no_event_without_end() -> None:
    decoder = EventDecoder()
    for _ in range(MAX_EVENT_BYTES // 100):
        assert list(decoder.feed(b": waiting" + b"." * 200 + b"\n\n")) == []
