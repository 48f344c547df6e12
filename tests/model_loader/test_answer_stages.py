"""Stages of an answer: what may follow in each, and when the next one begins."""

from collections.abc import Sequence

import pytest

from model_loader.answer_stages import Grammatical, OneOf, Reasoning, Stage, StagedFilter

VOCAB_SIZE = 12
THINK, END_THINK, NEWLINE, STOP = 8, 9, 10, 11
EVERYTHING = set(range(VOCAB_SIZE))


def allowed(token_filter: StagedFilter, ids: Sequence[int]) -> set[int]:
    bits = token_filter(ids)
    return {each for each in range(VOCAB_SIZE) if bits >> each & 1}


def walk(token_filter: StagedFilter, ids: Sequence[int]) -> list[set[int]]:
    """What is allowed before each of the ids and behind the last."""
    return [allowed(token_filter, ids[:length]) for length in range(len(ids) + 1)]


def thinking(following: Stage, *, is_open: bool = False) -> StagedFilter:
    reasoning = Reasoning(THINK, END_THINK, [NEWLINE, NEWLINE], following, frozenset({STOP}), is_open=is_open)
    return StagedFilter([reasoning, following])


def test_one_of_some_beginnings_comes_first_and_then_everything() -> None:
    beginnings = OneOf([[1, 2, 3], [1, 4], [5]])
    assert walk(StagedFilter([beginnings]), [1, 2, 3, 7]) == [{1, 5}, {2, 4}, {3}, EVERYTHING, EVERYTHING]
    assert walk(StagedFilter([beginnings]), [5, 1]) == [{1, 5}, EVERYTHING, EVERYTHING]


def test_behind_the_last_stage_nothing_is_asked_of_the_sampler() -> None:
    assert StagedFilter([OneOf([[1]])])([1]) == -1


def test_a_grammar_is_told_every_id_and_its_bits_are_ids() -> None:
    told: list[list[int]] = []

    def bits(ids: Sequence[int]) -> int:
        told.append(list(ids))
        return 0b1000_0000_0101

    assert walk(StagedFilter([Grammatical(bits)]), [2, 0]) == [{0, 2, 11}] * 3
    assert told == [[], [2], [2, 0]]


def test_a_grammar_may_leave_one_way_out() -> None:
    grammar = Grammatical(lambda ids: 0b10, free_id=6)
    assert walk(StagedFilter([grammar]), [6, 3]) == [{1, 6}, EVERYTHING, EVERYTHING]
    assert walk(StagedFilter([grammar]), [1, 6]) == [{1, 6}, {1}, {1}]


def test_an_answer_may_think_first_but_not_end_before_it_has_begun() -> None:
    free = EVERYTHING - {STOP}
    steps = walk(thinking(OneOf([[1, 2]])), [THINK, 4, END_THINK, NEWLINE, NEWLINE, 1, 2])
    assert steps == [{THINK, 1}, free, free, {NEWLINE}, {NEWLINE}, {1}, {2}, EVERYTHING]


def test_an_answer_may_do_without_thinking() -> None:
    assert walk(thinking(OneOf([[1, 2]])), [1, 2]) == [{THINK, 1}, {2}, EVERYTHING]


def test_reasoning_that_the_prompt_began_is_ended_first() -> None:
    free = EVERYTHING - {STOP}
    steps = walk(thinking(OneOf([[1]]), is_open=True), [4, END_THINK, NEWLINE, NEWLINE, 1])
    assert steps == [free, free, {NEWLINE}, {NEWLINE}, {1}, EVERYTHING]


@pytest.mark.parametrize("num_asked", [1, 3])
def test_the_same_step_may_be_asked_again(num_asked: int) -> None:
    """The engine does so when a step failed in company and is tried alone."""
    token_filter = thinking(OneOf([[1, 2]]))
    steps = [[allowed(token_filter, ids) for _ in range(num_asked)][-1] for ids in ([], [1], [1, 2])]
    assert steps == [{THINK, 1}, {2}, EVERYTHING]
