"""From streams that block, each on a thread of its own, to one stream on the event loop.

In: functions that open a stream of events. Out: (number of the stream, event) as they come. Leaving the asynchronous
generator closes every stream: its thread notices with the next event, and the model sends one at least four times a
second. It knows neither requests nor answers.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, MutableMapping, Sequence
from typing import Any

from model_loader.events import Event

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Item = tuple[int, Event | Exception | None]
"""The number of a stream and what comes from it; None is its end."""


async def read_together(
    questions: Sequence[Callable[[], Generator[Event]]], max_open: int, idle_s: float
) -> AsyncGenerator[tuple[int, Event] | None]:
    """Opens the streams, so many at a time, and yields their events; None whenever nothing has come for `idle_s`.

    Raises:
        Exception: what the first stream that fails raises; the others are closed.
    """
    loop = asyncio.get_running_loop()
    items: asyncio.Queue[Item] = asyncio.Queue()
    has_left = threading.Event()

    def hand_over(item: Item) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(items.put_nowait, item)

    waiting = deque(enumerate(questions))

    def open_next() -> None:
        if waiting:
            arguments = (*waiting.popleft(), hand_over, has_left)
            threading.Thread(target=_read, args=arguments, name="api-answer", daemon=True).start()

    num_left = len(waiting)
    for _ in range(max_open):
        open_next()
    try:
        while num_left:
            number, item = await _next_item(items, idle_s)
            if isinstance(item, Exception):
                raise item
            if number is None:
                yield None
            elif item is None:
                num_left -= 1
                open_next()
            else:
                yield number, item
    finally:
        has_left.set()


async def while_connected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Does some work for a client and drops it when the client leaves.

    Raises:
        Exception: what the work raises.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_departure(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _next_item(items: asyncio.Queue[Item], idle_s: float) -> tuple[int | None, Event | Exception | None]:
    with contextlib.suppress(asyncio.QueueEmpty):
        return items.get_nowait()  # the usual case under load, and ten times as quick
    try:
        async with asyncio.timeout(idle_s):
            return await items.get()
    except TimeoutError:
        return None, None


def _read(
    number: int, ask: Callable[[], Generator[Event]], hand_over: Callable[[Item], None], has_left: threading.Event
) -> None:
    """The life of a stream's thread."""
    try:
        with contextlib.closing(ask()) as events:
            for event in events:
                if has_left.is_set():
                    return
                hand_over((number, event))
    except Exception as error:
        hand_over((number, error))
    else:
        hand_over((number, None))
