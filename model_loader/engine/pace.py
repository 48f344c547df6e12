"""How many prompt tokens a step reads, so that answers keep moving and a reader who leaves is noticed soon.

Both limits are times, so the number follows from the speed that was measured so far.
"""

_ALONE_S = 0.5
"""How long a piece of a prompt may take while nobody is answering."""
_FEWEST, _MOST = 8, 1024
_FIRST_GUESS = 64
_SHARE_OF_NEW = 0.3


class Pace:
    """Measures steps. Used by the engine thread alone."""

    def __init__(self) -> None:
        self._step_s: float | None = None
        self._token_s: float | None = None

    def chunk_tokens(self, is_anybody_answering: bool) -> int:
        """How many prompt tokens the next step may read: with answers beside them no more than double its time."""
        if self._token_s is None:
            return _FIRST_GUESS
        if not is_anybody_answering:
            limit_s = _ALONE_S
        elif self._step_s is None:
            return _FEWEST
        else:
            limit_s = self._step_s
        return max(_FEWEST, min(_MOST, int(limit_s / self._token_s)))

    def note(self, step_s: float, num_read: int, is_anybody_answering: bool) -> None:
        """Learns from a step that took `step_s` seconds and read `num_read` prompt tokens."""
        if not num_read:
            self._step_s = _mixed(self._step_s, step_s)
        elif not is_anybody_answering:
            self._token_s = _mixed(self._token_s, step_s / num_read)
        elif self._step_s is not None and self._token_s is not None and step_s > self._step_s:
            self._token_s = _mixed(self._token_s, (step_s - self._step_s) / num_read)


def _mixed(old: float | None, new: float) -> float:
    return new if old is None else old + _SHARE_OF_NEW * (new - old)
