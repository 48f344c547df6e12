"""How much of a prompt a step reads: as much as its time allows."""

import pytest

from model_loader.engine.pace import Pace

TOKENS_PER_S = 1000


def read(
    pace: Pace, tokens: int, *, beside_steps_of_s: float | None = None, tokens_per_s: float = TOKENS_PER_S
) -> None:
    """A prompt of so many tokens is read to its end, at an even speed."""
    is_beside = beside_steps_of_s is not None
    while tokens > 0:
        piece = min(tokens, pace.chunk_tokens(int(is_beside)))
        pace.note((beside_steps_of_s or 0.0) + piece / tokens_per_s, piece, int(is_beside))
        tokens -= piece


def test_alone_a_piece_takes_a_second() -> None:
    pace = Pace(8, alone_s=1.0)
    read(pace, 4000)
    assert pace.chunk_tokens(num_answering=0) == pytest.approx(1000, abs=2)


def test_the_second_piece_is_already_large() -> None:
    pace = Pace(8, alone_s=1.0)
    pace.note(0.01, pace.chunk_tokens(num_answering=0), num_answering=0)
    assert pace.chunk_tokens(num_answering=0) == 1024


def test_beside_answers_a_piece_takes_no_longer_than_they_do() -> None:
    pace = Pace(8, alone_s=1.0)
    pace.note(0.05, 0, num_answering=1)
    read(pace, 500, beside_steps_of_s=0.05)
    assert pace.chunk_tokens(num_answering=1) == pytest.approx(50, abs=4)


def test_a_slower_stretch_makes_the_pieces_smaller() -> None:
    pace = Pace(8, alone_s=1.0)
    pace.note(0.05, 0, num_answering=1)
    read(pace, 500, beside_steps_of_s=0.05)
    read(pace, 500, beside_steps_of_s=0.05, tokens_per_s=TOKENS_PER_S / 4)
    assert pace.chunk_tokens(num_answering=1) <= 16


def test_the_slow_end_of_a_prompt_says_nothing_about_whole_pieces() -> None:
    pace = Pace(8, alone_s=1.0)
    read(pace, 4000)
    whole = pace.chunk_tokens(num_answering=0)
    pace.note(0.1, 3, num_answering=0)
    assert pace.chunk_tokens(num_answering=0) == whole


def test_before_anything_was_measured_pieces_are_small_and_never_empty() -> None:
    pace = Pace(8, alone_s=1.0)
    assert 0 < pace.chunk_tokens(num_answering=1) <= 64
    pace.note(100.0, 10, num_answering=0)
    assert pace.chunk_tokens(num_answering=0) > 0


def test_a_piece_is_no_smaller_than_what_takes_the_same_time() -> None:
    pace = Pace(64, alone_s=1.0)
    pace.note(0.004, 0, num_answering=1)
    pace.note(0.011, 64, num_answering=1)
    assert pace.chunk_tokens(num_answering=1) == 64 + 3


def test_beside_many_answers_a_piece_may_take_as_long_as_their_steps() -> None:
    pace = Pace(8, alone_s=1.0)
    pace.note(0.02, 0, num_answering=1)
    pace.note(0.1, 0, num_answering=8)
    for _ in range(3):
        pace.note(0.02 + pace.chunk_tokens(1) / TOKENS_PER_S, pace.chunk_tokens(1), num_answering=1)
        pace.note(0.1 + pace.chunk_tokens(8) / TOKENS_PER_S, pace.chunk_tokens(8), num_answering=8)
    assert pace.chunk_tokens(1) == pytest.approx(20, abs=3)
    assert pace.chunk_tokens(8) == pytest.approx(100, abs=3)
    assert pace.chunk_tokens(5) == pace.chunk_tokens(1)  # what is known of fewer is the stricter


@pytest.mark.parametrize("num_answering", range(1, 9))
def test_answers_and_the_piece_beside_them_make_whole_fours(num_answering: int) -> None:
    pace = Pace(8, alone_s=1.0)
    size = pace.chunk_tokens(num_answering)
    assert 8 <= size < 12
    assert (size + num_answering) % 4 == 0
