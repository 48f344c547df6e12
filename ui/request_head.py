"""Connections that begin a request and do not finish its head are closed.

uvicorn 0.54 waits for the rest of a head for ever, so a few bytes from a client hold a connection and its descriptor.
The time until a head is whole counts from the connection's begin, and later from the first byte that comes after an
answer; between the two uvicorn's own time for idle connections holds. What comes after the head is the guard's concern.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0


class PromptHeadProtocol(H11Protocol):
    """uvicorn's HTTP protocol with a limit on the time that a request's head takes."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Starts the clock if nothing is being answered, or stops it."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()
        elif self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(HEAD_S, self._give_up)

    def _forget(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()
