"""How much of a prompt a step reads: as much as its time allows."""

from model_loader.engine.pace import Pace


def test_alone_a_piece_takes_half_a_second() -> None:
    pace = Pace()
    pace.note(1.0, 1000, is_anybody_answering=False)
    assert pace.chunk_tokens(is_anybody_answering=False) == 500


def test_beside_answers_a_piece_takes_no_longer_than_they_do() -> None:
    pace = Pace()
    pace.note(1.0, 1000, is_anybody_answering=False)
    pace.note(0.05, 0, is_anybody_answering=True)
    assert pace.chunk_tokens(is_anybody_answering=True) == 50


def test_a_slower_stretch_makes_the_pieces_smaller() -> None:
    pace = Pace()
    pace.note(1.0, 1000, is_anybody_answering=False)
    pace.note(0.05, 0, is_anybody_answering=True)
    for _ in range(20):
        pace.note(0.25, 50, is_anybody_answering=True)
    assert pace.chunk_tokens(is_anybody_answering=True) < 20


def test_before_anything_was_measured_pieces_are_small_and_never_empty() -> None:
    pace = Pace()
    assert 0 < pace.chunk_tokens(is_anybody_answering=True) <= 64
    pace.note(100.0, 10, is_anybody_answering=False)
    assert pace.chunk_tokens(is_anybody_answering=False) > 0
