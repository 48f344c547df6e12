"""How many prompt tokens a step reads, so that answers keep moving and a reader who leaves is noticed soon.

All limits are times. The size of a piece follows from how long the last one of that size took. Smaller pieces, the ends
of prompts, are slower by the token: they only say how large a piece may at least be.
"""

PIECE_S = 1.0
"""How long a piece may take while nobody is answering."""
_MOST = 1024
_FIRST_GUESS = 64
"""Tokens for each second, four of them at most."""
_MOST_GROWTH = 8
_ROWS_TOGETHER = 4
"""The kernel for 4-bit weights on processors takes rows in fours: five take as long as eight."""
_CLOCK_S = 1 / 60
"""Windows' clock ticks sixty times a second: a small model's steps take no time by it."""
_LEAST_S = 1e-6
_SHARE_OF_NEW = 0.3


class Pace:
    """Measures steps. Used by the engine thread alone.

    What is usual depends on how many are answering: with eight a step may take several times as long as with one.

    Args:
        fewest_tokens: a smaller piece would not be quicker.
        alone_s: how long it may take while its reader is the only one.
    """

    def __init__(self, fewest_tokens: int, alone_s: float = PIECE_S) -> None:
        self._fewest = fewest_tokens
        self._alone_s = alone_s
        self._token_s: float | None = None
        self._beside: dict[int, int] = {}
        self._step_s: dict[int, float] = {}

    def chunk_tokens(self, num_answering: int, num_reading: int) -> int:
        """How many prompt tokens the next step may read: with answers beside them about double its time, no more.

        No tokens before it is known how long so many answers take by themselves.
        """
        if not num_answering:
            return self._without_answers(num_reading)
        if num_answering not in self._step_s:
            return 0
        known = [each for each in self._beside if each <= num_answering]
        size = self._beside[max(known)] if known else self._fewest
        return size + -(size + num_answering) % _ROWS_TOGETHER

    def note(self, step_s: float, num_read: int, num_answering: int, num_reading: int) -> None:
        """Learns from a step that took `step_s` seconds and read `num_read` prompt tokens."""
        if not num_read:
            old = self._step_s.get(num_answering, step_s)
            self._step_s[num_answering] = old + _SHARE_OF_NEW * (step_s - old)
        elif not num_answering:
            size, limit_s = self._without_answers(num_reading), self._limit_s(num_reading)
            is_whole = num_read >= size or step_s > limit_s
            token_s = max(step_s, _LEAST_S if is_whole else _CLOCK_S) / num_read
            is_quicker = limit_s / token_s > size if self._token_s is None else token_s < self._token_s
            if is_whole or is_quicker:
                self._token_s = token_s
        elif num_answering in self._step_s:
            size = self.chunk_tokens(num_answering, num_reading)
            # The first step of so many may have been a slow one; nothing is quicker by reading beside.
            usual_s = self._step_s[num_answering] = min(self._step_s[num_answering], step_s)
            took_s = step_s - usual_s
            if num_read >= size or took_s > usual_s:
                fitting = num_read * usual_s / max(took_s, usual_s / _MOST_GROWTH, _LEAST_S)
                self._beside[num_answering] = self._possible(fitting)

    def _without_answers(self, num_reading: int) -> int:
        limit_s = self._limit_s(num_reading)
        return self._possible(_FIRST_GUESS * min(limit_s, 4) if self._token_s is None else limit_s / self._token_s)

    def _limit_s(self, num_reading: int) -> float:
        return self._alone_s if num_reading == 1 else PIECE_S

    def _possible(self, size: float) -> int:
        return max(self._fewest, min(_MOST, int(size)))
