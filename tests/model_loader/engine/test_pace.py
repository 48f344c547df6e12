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
        piece = min(tokens, pace.chunk_tokens(int(is_beside), 1))
        assert piece > 0
        pace.note((beside_steps_of_s or 0.0) + piece / tokens_per_s, piece, int(is_beside), 1)
        tokens -= piece


def alone(pace: Pace) -> int:
    return pace.chunk_tokens(num_answering=0, num_reading=1)


def beside(pace: Pace, num_answering: int) -> int:
    return pace.chunk_tokens(num_answering, num_reading=1)


def test_alone_a_piece_takes_the_time_it_may() -> None:
    pace = Pace(8, alone_s=0.5)
    read(pace, 4000)
    assert alone(pace) == pytest.approx(500, abs=2)


def test_the_second_piece_is_already_large() -> None:
    pace = Pace(8)
    pace.note(0.01, alone(pace), 0, 1)
    assert alone(pace) == 1024


def test_while_several_are_reading_a_piece_takes_no_longer_than_a_second() -> None:
    pace = Pace(8, alone_s=12.0)
    assert alone(pace) > pace.chunk_tokens(0, 2)
    read(pace, 4000, tokens_per_s=50)
    assert alone(pace) == pytest.approx(600, abs=2)
    assert pace.chunk_tokens(0, 2) == pytest.approx(50, abs=1)
    pace.note(1.0, pace.chunk_tokens(0, 2), 0, 2)
    assert alone(pace) == pytest.approx(600, abs=2)


def test_beside_answers_a_piece_takes_no_longer_than_they_do() -> None:
    pace = Pace(8)
    pace.note(0.05, 0, 1, 0)
    read(pace, 500, beside_steps_of_s=0.05)
    assert beside(pace, 1) == pytest.approx(50, abs=4)


def test_a_slower_stretch_makes_the_pieces_smaller() -> None:
    pace = Pace(8)
    pace.note(0.05, 0, 1, 0)
    read(pace, 500, beside_steps_of_s=0.05)
    read(pace, 500, beside_steps_of_s=0.05, tokens_per_s=TOKENS_PER_S / 4)
    assert beside(pace, 1) <= 16


def test_the_slow_end_of_a_prompt_says_nothing_about_whole_pieces() -> None:
    pace = Pace(8)
    read(pace, 4000)
    whole = alone(pace)
    pace.note(0.1, 3, 0, 1)
    assert alone(pace) == whole


def test_a_short_prompt_says_how_large_a_piece_may_at_least_be() -> None:
    pace = Pace(8, alone_s=12.0)
    guess = alone(pace)
    pace.note(1.0, 10, 0, 1)  # 120 of these in twelve seconds, fewer than were guessed
    assert alone(pace) == guess
    pace.note(1.0, 40, 0, 1)
    assert alone(pace) == 480
    pace.note(1.0, 20, 0, 1)
    assert alone(pace) == 480


def test_an_end_that_is_slower_than_whole_pieces_does_not_count_for_several_readers() -> None:
    pace = Pace(8, alone_s=12.0)
    pace.note(2.0, 1024, 0, 1)
    pace.note(0.1, 10, 0, 1)
    assert pace.chunk_tokens(0, 2) == 512


def test_a_short_prompt_that_took_no_time_by_the_clock_says_little() -> None:
    pace = Pace(8)
    pace.note(0.0, 4, 0, 1)
    assert alone(pace) == 240


def test_before_anything_was_measured_pieces_are_small_and_never_empty() -> None:
    pace = Pace(8)
    assert 0 < alone(pace) <= 64
    pace.note(100.0, 10, 0, 1)
    assert alone(pace) > 0


def test_beside_answers_nothing_is_read_before_it_is_known_how_long_they_take_alone() -> None:
    pace = Pace(8)
    pace.note(0.05, 0, 1, 0)
    assert beside(pace, 1) > 0
    assert beside(pace, 2) == 0
    pace.note(0.06, 0, 2, 0)
    assert beside(pace, 2) > 0


def test_a_slow_first_step_does_not_stay_what_is_usual() -> None:
    pace = Pace(8)
    pace.note(0.8, 0, 1, 0)
    read(pace, 4000, beside_steps_of_s=0.05)
    assert beside(pace, 1) / TOKENS_PER_S < 0.2


def test_a_piece_is_no_smaller_than_what_takes_the_same_time() -> None:
    pace = Pace(64)
    pace.note(0.004, 0, 1, 0)
    pace.note(0.011, 64, 1, 1)
    assert beside(pace, 1) == 64 + 3


def test_beside_many_answers_a_piece_may_take_as_long_as_their_steps() -> None:
    pace = Pace(8)
    pace.note(0.02, 0, 1, 0)
    pace.note(0.05, 0, 5, 0)
    pace.note(0.1, 0, 8, 0)
    for _ in range(3):
        pace.note(0.02 + beside(pace, 1) / TOKENS_PER_S, beside(pace, 1), 1, 1)
        pace.note(0.1 + beside(pace, 8) / TOKENS_PER_S, beside(pace, 8), 8, 1)
    assert beside(pace, 1) == pytest.approx(20, abs=3)
    assert beside(pace, 8) == pytest.approx(100, abs=3)
    assert beside(pace, 5) == beside(pace, 1)  # what is known of fewer is the stricter


@pytest.mark.parametrize("num_answering", range(1, 9))
def test_answers_and_the_piece_beside_them_make_whole_fours(num_answering: int) -> None:
    pace = Pace(8)
    pace.note(0.05, 0, num_answering, 0)
    size = beside(pace, num_answering)
    assert 8 <= size < 12
    assert (size + num_answering) % 4 == 0
