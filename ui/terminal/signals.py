"""What the operating system tells the chat: Ctrl-C, and that it is to end."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_ENDING = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
_PATIENCE = 3
"""So many Ctrl-C without anything happening raise KeyboardInterrupt wherever the program is."""


class Signals:
    """Notes signals while it is entered; from the main thread only.

    Attributes:
        is_interrupted: whether there was a Ctrl-C that nobody has acted on yet.
        must_end: whether the program is to end; a second such signal raises SystemExit.
    """

    def __init__(self) -> None:
        self.is_interrupted = False
        self.must_end = False
        self._num_interrupts = 0
        self._wake: Callable[[int], None] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        for number in (signal.SIGINT, *_ENDING):
            self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def forget_interrupt(self) -> None:
        """A Ctrl-C has done what it was for."""
        self.is_interrupted = False
        self._num_interrupts = 0

    @contextmanager
    def waking(self, wake: Callable[[int], None]) -> Iterator[None]:
        """Calls a function with each signal's number meanwhile, first for what nobody has acted on yet.

        It may raise into what the main thread waits for; with KeyboardInterrupt it has acted on a Ctrl-C.
        """
        self._wake = wake
        try:
            if self.must_end or self.is_interrupted:
                self._deliver(signal.SIGTERM if self.must_end else signal.SIGINT)
            yield
        finally:
            self._wake = None
            self._num_interrupts = 0

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            self.is_interrupted = True
            self._num_interrupts += 1
            if self._num_interrupts >= _PATIENCE and self._wake is None:
                raise KeyboardInterrupt
        elif self.must_end:
            raise SystemExit(1)
        else:
            self.must_end = True
        self._deliver(number)

    def _deliver(self, number: int) -> None:
        if self._wake is None:
            return
        try:
            self._wake(number)
        except KeyboardInterrupt:
            self.forget_interrupt()
            raise
