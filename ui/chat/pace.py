"""How fast the model has read prompts so far, to say beforehand how long the next one will take."""

import threading

from model_loader.events import Usage

_SHARE = 0.3
"""What the latest answer counts for against all before it."""
_LEAST_TOKENS = 16
"""Fewer say more about what surrounds the reading."""


class ReadingPace:
    """A moving average of reading speeds. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens_per_s: float | None = None

    def note(self, usage: Usage) -> None:
        """Learns from an answer that has ended."""
        num_read, took_s = usage.prompt_tokens - usage.cached_prompt_tokens, usage.first_token_s - usage.queue_s
        if num_read < _LEAST_TOKENS or took_s <= 0:
            return
        with self._lock:
            before = self._tokens_per_s or num_read / took_s
            self._tokens_per_s = before + _SHARE * (num_read / took_s - before)

    def expect_s(self, num_tokens: int) -> float | None:
        """Seconds that reading so many tokens will take; None while nothing has been measured."""
        with self._lock:
            return None if self._tokens_per_s is None else num_tokens / self._tokens_per_s
