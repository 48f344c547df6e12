"""The way of an answer to its client: a place in the queue, streams on threads, pieces or one object over HTTP.

It knows events and answers, and nothing of what was asked.
"""

import contextlib
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel

from model_loader.engine.request import EngineActivity
from model_loader.errors import EngineStopped
from model_loader.events import Event, Finished
from ui.http_api.bridge import read_together, while_connected
from ui.http_api.errors import ApiError, api_error
from ui.http_api.exchange import ClientGone, Exchange
from ui.http_api.metrics import Metrics
from ui.http_api.translate import Question

if TYPE_CHECKING:
    from ui.http_api.answers import Answer

KEEP_ALIVE_S = 15.0
"""A proxy takes a connection that is silent for longer to be dead."""
_LOOK_S = 1.0
_LONGEST_RETRY_S = 30


class Answering:
    """Makes answers. Used by the event loop alone; other threads may read and write its attributes.

    Args:
        metrics: told what each answer cost.
        max_waiting: requests that may wait for their turn.

    Attributes:
        num_running: answers that are on their way.
        is_ending: whether every answer ends now, as it is.
    """

    def __init__(self, metrics: Metrics, max_waiting: int) -> None:
        self._metrics = metrics
        self._max_waiting = max_waiting
        self._num_streams = 0
        self.num_running = 0
        self.is_ending = False

    async def carry_out(
        self,
        exchange: Exchange,
        questions: Sequence[Question],
        answer: "Answer",
        activity: EngineActivity,
        *,
        is_streamed: bool,
    ) -> None:
        """Sends the answer, unless the client leaves before its end.

        Raises:
            ApiError: 429, the queue is full.
            Exception: what went wrong before anything was sent.
        """
        # One request's streams take turns for as many places as there are, so that it can always be served.
        max_open = min(len(questions), activity.max_running)
        with self._admitted(max_open, activity):
            events = read_together(questions, max_open, _LOOK_S)
            work = _stream if is_streamed else _send_whole
            await while_connected(exchange.receive, work(exchange, self._counted(events), answer))

    @contextlib.contextmanager
    def _admitted(self, num_streams: int, activity: EngineActivity) -> Iterator[None]:
        has_place = activity.num_running < activity.max_running or activity.num_waiting < self._max_waiting
        # The engine hears of a request a moment later, so those of the API are counted here as well.
        if not has_place or self._num_streams + num_streams > activity.max_running + self._max_waiting:
            retry_s = min(_LONGEST_RETRY_S, 1 + activity.num_waiting // activity.max_running)
            raise ApiError(
                429, f"{activity.num_waiting} requests are waiting already; ask again in {retry_s} s.",
                code="queue_full", headers={"retry-after": str(retry_s)},
            )  # fmt: skip
        self._num_streams += num_streams
        self.num_running += 1
        try:
            yield
        finally:
            self._num_streams -= num_streams
            self.num_running -= 1

    async def _counted(
        self, events: AsyncGenerator[tuple[int, Event] | None]
    ) -> AsyncGenerator[tuple[int, Event] | None]:
        async with contextlib.aclosing(events):
            async for item in events:
                if self.is_ending:
                    raise EngineStopped("The server has been ended before the answer was finished. Ask again later.")
                if item is not None and isinstance(item[1], Finished):
                    self._metrics.note_usage(item[1].usage)
                yield item


async def _send_whole(exchange: Exchange, events: AsyncGenerator[tuple[int, Event] | None], answer: "Answer") -> None:
    async with contextlib.aclosing(events):
        async for item in events:
            if item is not None:
                answer.feed(*item)
    (whole,) = _to_json(answer.end())
    await exchange.reply(200, whole.encode("utf-8"))


async def _stream(exchange: Exchange, events: AsyncGenerator[tuple[int, Event] | None], answer: "Answer") -> None:
    """Server-sent events; headers go out with the first event, so that a question that is refused has its status."""
    async with contextlib.aclosing(events):
        item = await anext(events)
        await exchange.begin_stream()
        await exchange.send_text(_as_events(answer.begin()))
        sent_s = time.monotonic()
        try:
            while True:
                text = _as_events(answer.feed(*item)) if item is not None else ""
                if not text and time.monotonic() - sent_s >= KEEP_ALIVE_S:
                    text = ": keep-alive\n\n"
                if text:
                    await exchange.send_text(text)
                    sent_s = time.monotonic()
                item = await anext(events)
        except StopAsyncIteration:
            last = _as_events(answer.end())
        except ClientGone:
            raise
        except Exception as error:
            last = f"data: {api_error(error).to_json().decode('ascii')}\n\n"
        await exchange.send_text(last + "data: [DONE]\n\n")
        await exchange.end_stream()


def _to_json(values: Iterable[BaseModel]) -> list[str]:
    """Each as one line, without the fields that were never set."""
    return [value.model_dump_json(exclude_unset=True) for value in values]


def _as_events(values: Iterable[BaseModel]) -> str:
    return "".join(f"data: {line}\n\n" for line in _to_json(values))
