"""How many prompt tokens a step reads, so that answers keep moving and a reader who leaves is noticed soon.

Both limits are times. The size of a piece follows from how long the last one of that size took: smaller pieces, the
ends of prompts, are slower by the token and say little about larger ones.
"""

_ALONE_S = 1.0
"""How long a piece of a prompt may take while nobody is answering."""
_MOST = 1024
_FIRST_GUESS = 64
_MOST_GROWTH = 8
_LEAST_S = 1e-6
"""Windows' clock ticks sixty times a second: a small model's steps take no time by it."""
_SHARE_OF_NEW = 0.3


class Pace:
    """Measures steps. Used by the engine thread alone.

    Args:
        fewest_tokens: a smaller piece would not be quicker.
    """

    def __init__(self, fewest_tokens: int) -> None:
        self._fewest = fewest_tokens
        self._step_s: float | None = None
        self._alone, self._beside = max(_FIRST_GUESS, fewest_tokens), fewest_tokens

    def chunk_tokens(self, is_anybody_answering: bool) -> int:
        """How many prompt tokens the next step may read: with answers beside them no more than double its time."""
        return self._beside if is_anybody_answering else self._alone

    def note(self, step_s: float, num_read: int, is_anybody_answering: bool) -> None:
        """Learns from a step that took `step_s` seconds and read `num_read` prompt tokens."""
        if not num_read:
            old = self._step_s
            self._step_s = step_s if old is None else old + _SHARE_OF_NEW * (step_s - old)
        elif not is_anybody_answering:
            self._alone = self._fitted(self._alone, num_read, step_s, _ALONE_S)
        elif self._step_s is not None:
            self._beside = self._fitted(self._beside, num_read, step_s - self._step_s, self._step_s)

    def _fitted(self, size: int, num_read: int, took_s: float, limit_s: float) -> int:
        """The size of pieces after one of `num_read` tokens: it grows after whole pieces only."""
        if num_read < size and took_s <= limit_s:
            return size
        fitting = num_read * limit_s / max(took_s, limit_s / _MOST_GROWTH, _LEAST_S)
        return max(self._fewest, min(_MOST, int(fitting)))
