"""Which tokens may come next, for an answer that goes through stages: reasoning, a fixed beginning, a grammar.

A stage sees the ids since it began and says what may follow, or that it is over. It knows ids alone; what they mean is
the business of whoever makes it.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch


class Stage(Protocol):
    """A part of an answer."""

    def num_ids(self, ids: Sequence[int]) -> int | None:
        """How many of the ids belong to it; None while it goes on."""

    def mask(self, ids: Sequence[int]) -> torch.Tensor:
        """True for each id that may follow, `(vocab,)`."""


class StagedFilter:
    """A `TokenFilter` that leads an answer through its stages; behind the last one everything is allowed.

    Args:
        stages: in order.
        vocab_size: ids there are.
    """

    def __init__(self, stages: Sequence[Stage], vocab_size: int) -> None:
        self._stages = list(stages)
        self._vocab_size = vocab_size
        self._start = 0

    def __call__(self, answer_ids: Sequence[int]) -> torch.Tensor:
        """As `TokenFilter` says."""
        while self._stages:
            ids = answer_ids[self._start :]
            length = self._stages[0].num_ids(ids)
            if length is None:
                return self._stages[0].mask(ids)
            self._start += length
            del self._stages[0]
        return torch.ones(self._vocab_size, dtype=torch.bool)


class Reasoning:
    """Whatever the model thinks before it answers, up to the end marker and the ids that stand behind it.

    Args:
        start_id: begins reasoning.
        end_id: ends it.
        separator_ids: stand between it and the answer.
        is_open: whether it has begun already; otherwise the model may also answer at once.
        following: the next stage, which says how it may do that.
        barred_ids: would end the answer before it has begun.
        vocab_size: ids there are.
    """

    def __init__(
        self,
        start_id: int,
        end_id: int,
        separator_ids: Sequence[int],
        following: Stage,
        barred_ids: frozenset[int],
        vocab_size: int,
        *,
        is_open: bool,
    ) -> None:
        self._start_id = start_id
        self._end_id = end_id
        self._separator_ids = list(separator_ids)
        self._following = following
        self._barred_ids = sorted(barred_ids)
        self._vocab_size = vocab_size
        self._is_open = is_open

    def num_ids(self, ids: Sequence[int]) -> int | None:
        """As `Stage` says; none, if the model answers at once."""
        if not self._is_open and ids and ids[0] != self._start_id:
            return 0
        end = self._end(ids)
        return None if end is None or len(ids) < end + len(self._separator_ids) else end + len(self._separator_ids)

    def mask(self, ids: Sequence[int]) -> torch.Tensor:
        """As `Stage` says."""
        if not ids and not self._is_open:
            allowed = self._following.mask(()).clone()
            allowed[self._start_id] = True
            return allowed
        end = self._end(ids)
        if end is not None:
            return _only([self._separator_ids[len(ids) - end]], self._vocab_size)
        allowed = torch.ones(self._vocab_size, dtype=torch.bool)
        allowed[self._barred_ids] = False
        return allowed

    def _end(self, ids: Sequence[int]) -> int | None:
        """How many ids there are up to the end marker."""
        return ids.index(self._end_id) + 1 if self._end_id in ids else None


class OneOf:
    """One of some sequences of ids, none of which begins another."""

    def __init__(self, sequences: Sequence[Sequence[int]], vocab_size: int) -> None:
        self._sequences = [list(each) for each in sequences]
        self._vocab_size = vocab_size

    def num_ids(self, ids: Sequence[int]) -> int | None:
        """As `Stage` says."""
        return next((len(each) for each in self._sequences if list(ids[: len(each)]) == each), None)

    def mask(self, ids: Sequence[int]) -> torch.Tensor:
        """As `Stage` says."""
        begun = [each for each in self._sequences if each[: len(ids)] == list(ids)]
        return _only([each[len(ids)] for each in begun], self._vocab_size)


class Grammatical:
    """Text of a grammar, to the end of the answer.

    Args:
        allowed_bits: says what may follow: a bit for each id, lowest first. Told all ids so far at each step.
        vocab_size: ids there are.
        free_id: an id with which the answer may begin instead, to go on as it likes; None for none.
    """

    def __init__(
        self, allowed_bits: Callable[[Sequence[int]], bytes], vocab_size: int, free_id: int | None = None
    ) -> None:
        self._allowed_bits = allowed_bits
        self._vocab_size = vocab_size
        self._free_id = free_id

    def num_ids(self, ids: Sequence[int]) -> int | None:
        """As `Stage` says."""
        return 0 if self._free_id is not None and ids and ids[0] == self._free_id else None

    def mask(self, ids: Sequence[int]) -> torch.Tensor:
        """As `Stage` says."""
        octets = torch.frombuffer(bytearray(self._allowed_bits(ids)), dtype=torch.uint8)
        bits = (octets[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
        allowed = bits.bool().flatten()[: self._vocab_size]
        if self._free_id is not None and not ids:
            allowed[self._free_id] = True
        return allowed


def _only(ids: Sequence[int], vocab_size: int) -> torch.Tensor:
    allowed = torch.zeros(vocab_size, dtype=torch.bool)
    allowed[list(ids)] = True
    return allowed
