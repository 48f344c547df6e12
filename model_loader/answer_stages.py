"""Which tokens may come next, for an answer that goes through stages: reasoning, a fixed beginning, a grammar.

A stage sees the ids since it began and says what may follow, or that it is over. It knows ids alone; what they mean is
the business of whoever makes it.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from model_loader.engine.request import TokenFilter


class Stage(Protocol):
    """A part of an answer."""

    def num_ids(self, ids: Sequence[int]) -> int | None:
        """How many of the ids belong to it; None while it goes on."""

    def allowed(self, ids: Sequence[int]) -> int:
        """What may follow the ids, as bits in the way of a `TokenFilter`."""


class StagedFilter:
    """A `TokenFilter` that leads an answer through its stages; behind the last one everything is allowed."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = list(stages)
        self._start = 0

    def __call__(self, answer_ids: Sequence[int]) -> int:
        """As `TokenFilter` says."""
        while self._stages:
            ids = answer_ids[self._start :]
            length = self._stages[0].num_ids(ids)
            if length is None:
                return self._stages[0].allowed(ids)
            self._start += length
            del self._stages[0]
        return -1


class Reasoning:
    """Whatever the model thinks before it answers, up to the end marker and the ids that stand behind it.

    Args:
        start_id: begins reasoning.
        end_id: ends it.
        separator_ids: stand between it and the answer.
        is_open: whether it has begun already; otherwise the model may also answer at once.
        following: the next stage, which says how it may do that.
        barred_ids: would end the answer before it has begun.
    """

    def __init__(
        self,
        start_id: int,
        end_id: int,
        separator_ids: Sequence[int],
        following: Stage,
        barred_ids: frozenset[int],
        *,
        is_open: bool,
    ) -> None:
        self._start_id = start_id
        self._end_id = end_id
        self._separator_ids = list(separator_ids)
        self._following = following
        self._free_bits = ~_bits(barred_ids)
        self._is_open = is_open

    def num_ids(self, ids: Sequence[int]) -> int | None:
        """As `Stage` says; none, if the model answers at once."""
        if not self._is_open and ids and ids[0] != self._start_id:
            return 0
        end = self._end(ids)
        return None if end is None or len(ids) < end + len(self._separator_ids) else end + len(self._separator_ids)

    def allowed(self, ids: Sequence[int]) -> int:
        """As `Stage` says."""
        if not ids and not self._is_open:
            return self._following.allowed(()) | 1 << self._start_id
        end = self._end(ids)
        return self._free_bits if end is None else 1 << self._separator_ids[len(ids) - end]

    def _end(self, ids: Sequence[int]) -> int | None:
        """How many ids there are up to the end marker."""
        return ids.index(self._end_id) + 1 if self._end_id in ids else None


class OneOf:
    """One of some sequences of ids, none of which begins another."""

    def __init__(self, sequences: Sequence[Sequence[int]]) -> None:
        self._sequences = [list(each) for each in sequences]

    def num_ids(self, ids: Sequence[int]) -> int | None:
        """As `Stage` says."""
        return next((len(each) for each in self._sequences if list(ids[: len(each)]) == each), None)

    def allowed(self, ids: Sequence[int]) -> int:
        """As `Stage` says."""
        return _bits(each[len(ids)] for each in self._sequences if each[: len(ids)] == list(ids))


class Grammatical:
    """Text of a grammar, to the end of the answer.

    Args:
        grammar: says what may follow; told all ids so far at each step.
        free_id: an id with which the answer may begin instead, to go on as it likes; None for none.
    """

    def __init__(self, grammar: TokenFilter, free_id: int | None = None) -> None:
        self._grammar = grammar
        self._free_id = free_id

    def num_ids(self, ids: Sequence[int]) -> int | None:
        """As `Stage` says."""
        return 0 if self._free_id is not None and ids and ids[0] == self._free_id else None

    def allowed(self, ids: Sequence[int]) -> int:
        """As `Stage` says."""
        bits = self._grammar(ids)
        return bits if self._free_id is None or ids else bits | 1 << self._free_id


def _bits(ids: Iterable[int]) -> int:
    return sum(1 << each for each in set(ids))
