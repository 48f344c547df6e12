"""How many prompt tokens a step reads, so that answers keep moving and a reader who leaves is noticed soon.

Both limits are times. The size of a piece follows from how long the last one of that size took: smaller pieces, the
ends of prompts, are slower by the token and say little about larger ones.
"""

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

_MOST = 1024
_FIRST_GUESS = 256
_MOST_GROWTH = 8
_ROWS_TOGETHER = 4
"""The kernel for 4-bit weights on processors takes rows in fours: five take as long as eight."""
_LEAST_S = 1e-6
"""Windows' clock ticks sixty times a second: a small model's steps take no time by it."""
_SHARE_OF_NEW = 0.3


class Pace:
    """Measures steps. Used by the engine thread alone.

    What is usual depends on how many are answering: with eight a step may take several times as long as with one.

    Args:
        fewest_tokens: a smaller piece would not be quicker.
        alone_s: how long a piece may take while nobody is answering.
    """

    def __init__(self, fewest_tokens: int, alone_s: float) -> None:
        self._fewest = fewest_tokens
        self._alone_s = alone_s
        self._alone = max(_FIRST_GUESS, fewest_tokens)
        self._beside: dict[int, int] = {}
        self._step_s: dict[int, float] = {}

    def chunk_tokens(self, num_answering: int) -> int:
        """How many prompt tokens the next step may read: with answers beside them no more than double its time."""
        if not num_answering:
            return self._alone
        size = _of_most(self._beside, num_answering, self._fewest)
        return size + -(size + num_answering) % _ROWS_TOGETHER

    def note(self, step_s: float, num_read: int, num_answering: int) -> None:
        """Learns from a step that took `step_s` seconds and read `num_read` prompt tokens."""
        usual_s = _of_most(self._step_s, num_answering, None)
        if not num_read:
            old = self._step_s.get(num_answering, step_s)
            self._step_s[num_answering] = old + _SHARE_OF_NEW * (step_s - old)
        elif not num_answering:
            self._alone = self._fitted(self._alone, num_read, step_s, self._alone_s)
        elif usual_s is not None:
            size = self.chunk_tokens(num_answering)
            self._beside[num_answering] = self._fitted(size, num_read, step_s - usual_s, usual_s)

    def _fitted(self, size: int, num_read: int, took_s: float, limit_s: float) -> int:
        """The size of pieces after one of `num_read` tokens: it grows after whole pieces only."""
        if num_read < size and took_s <= limit_s:
            return size
        fitting = num_read * limit_s / max(took_s, limit_s / _MOST_GROWTH, _LEAST_S)
        return max(self._fewest, min(_MOST, int(fitting)))


def _of_most(values: Mapping[int, T], number: int, otherwise: T) -> T:
    """What is known of the largest number up to one."""
    known = [each for each in values if each <= number]
    return values[max(known)] if known else otherwise
