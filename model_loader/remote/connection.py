"""The one place that touches a socket: plain requests, and a POST whose answer is a stream of events.

One thread with an event loop serves a whole server, so that connections are used again and each of them can be given
up at once, whether it is still being made, silent or in the middle of an answer. What comes out is read by other
threads. It knows HTTP and nothing of models.
"""

import asyncio
import concurrent.futures
import contextlib
import json
import queue
import socket
import ssl
import threading
from collections.abc import Coroutine, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from model_loader.errors import EngineStopped, GenerationFailed, ModelLoaderError, ServerIncompatible, ServerUnreachable
from model_loader.events import Waiting
from model_loader.remote.failures import BUSY, Refused, read_refusal
from model_loader.remote.options import RemoteOptions
from model_loader.remote.server_sent_events import MAX_EVENT_BYTES, EventDecoder, EventTooLong

MAX_CONNECTIONS = 256
_CONNECT_S = 10.0
_SILENCE_S = 600.0
"""How long a server may say nothing: it may be reading a long prompt, or have others before us."""
_LOOK_S = 0.2
_MAX_REPLY_BYTES = 16_000_000
_MAX_ANSWER_BYTES = 256_000_000
_MAX_AHEAD = 1000
"""Events that may wait for their reader before the server has to."""
_MAX_RETRIES = 3
_MAX_PAUSES_S = 30.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 5.0
_CLOSES_S = 5.0

_TROUBLE = (httpx.HTTPError, httpx.InvalidURL, UnicodeError)
"""What a request may raise; the last where a host's name cannot be one."""
_DROPPED = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
"""A connection that the server has just ended because it was idle looks like this; another one may do."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that was read whole."""

    where: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def read_object(self) -> dict[str, Any]:
        """The JSON object that it holds.

        Raises:
            ServerIncompatible: it holds none.
        """
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            return value
        raise ServerIncompatible(
            f"The server at {self.where} answers with something else than a JSON object. --base-url takes the address "
            "of an OpenAI-compatible API."
        )


class Connection:
    """Requests to one server. Every method may be called from any thread.

    Every one raises `EngineStopped` once it is closed, `ServerUnreachable` when no connection comes about, and
    `ServerIncompatible` when what comes is no answer of such a server.
    """

    def __init__(self, options: RemoteOptions) -> None:
        self._options = options
        headers = {"Accept-Encoding": "identity"}  # what is unpacked has no bound
        if options.key:
            headers["Authorization"] = f"Bearer {options.key}"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(_SILENCE_S, connect=_CONNECT_S, write=60.0, pool=_CONNECT_S),
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=16),
            follow_redirects=False,  # they would take the key elsewhere
            trust_env=not options.is_on_this_machine,  # proxies are for others
        )
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._loop.run_forever, name="remote", daemon=True)
        self._thread.start()

    def ask(self, method: str, url: str, body: Any = None, *, timeout_s: float) -> Reply:
        """One request; any status is an answer."""
        future = self._begin(self._ask_twice(method, url, body, timeout_s))
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise self._closed() from None

    def stream(self, url: str, body: Any) -> Generator[str | Waiting]:
        """The data of the events that answer a POST; closing the iterator closes the connection at once.

        While nothing comes it yields `Waiting` several times a second. A server without room is asked again a few
        times before its first event.

        Raises (where it is read):
            Refused: the server answers with another status than 200.
            GenerationFailed: the connection is lost in the middle of the answer.
        """
        received: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()
        future = self._begin(self._receive(url, body, received))
        try:
            while True:
                try:
                    data = received.get(timeout=_LOOK_S)
                except queue.Empty:
                    yield Waiting(0)
                    continue
                if data is None:
                    return
                if isinstance(data, BaseException):
                    raise data
                yield data
        finally:
            future.cancel()

    def close(self) -> None:
        """Gives every connection up and ends the thread; running streams raise `EngineStopped`."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(_CLOSES_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSES_S)
        if not self._thread.is_alive():
            self._loop.close()

    def _begin(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        with self._lock:
            if self._is_closed:
                work.close()
                raise self._closed()
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _closed(self) -> EngineStopped:
        return EngineStopped(f"The connection to the server at {self._options.where} was closed. Start it again.")

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()

    async def _ask_twice(self, method: str, url: str, body: Any, timeout_s: float) -> Reply:
        """Once, as a rule."""
        try:
            return await self._ask(method, url, body, timeout_s)
        except _DROPPED:
            pass
        try:
            return await self._ask(method, url, body, timeout_s)
        except _DROPPED as error:
            raise self._unreachable(_why(error)) from None

    async def _ask(self, method: str, url: str, body: Any, timeout_s: float) -> Reply:
        limit = httpx.Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s / 3))  # it may strike in each of two steps
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._client.stream(method, url, json=body, timeout=limit) as response,
            ):
                content = await self._read_whole(response)
                return Reply(self._options.where, response.status_code, response.headers, content)
        except TimeoutError:
            raise self._unreachable(f"says nothing for {timeout_s:g} s") from None
        except _DROPPED:
            raise
        except _TROUBLE as error:
            raise self._unreachable(_why(error)) from None

    async def _receive(self, url: str, body: Any, received: "queue.SimpleQueue[Any]") -> None:
        try:
            await self._stream(url, body, received)
            received.put(None)
        except asyncio.CancelledError:
            received.put(self._closed())
            raise
        except Exception as error:  # raised again where the stream is read
            received.put(error)

    async def _stream(self, url: str, body: Any, received: "queue.SimpleQueue[Any]") -> None:
        """Asks until there is room, then passes the events on."""
        pauses = Pauses()
        was_dropped = False
        while True:
            has_begun = False
            try:
                async with self._client.stream("POST", url, json=body) as response:
                    if response.status_code == 200:
                        has_begun = True
                        await self._pass_on(response, received)
                        return
                    content = await self._read_whole(response)
            except _TROUBLE as error:
                if has_begun:
                    raise self._lost() from None
                if was_dropped or not isinstance(error, _DROPPED):
                    raise self._unreachable(_why(error)) from None
                was_dropped = True
                continue
            refusal = read_refusal(response.status_code, response.headers, content)
            pause_s = pauses.following(refusal.retry_after_s) if refusal.status in BUSY else None
            if pause_s is None:
                raise Refused(refusal)
            await asyncio.sleep(pause_s)

    async def _pass_on(self, response: httpx.Response, received: "queue.SimpleQueue[Any]") -> None:
        kind = response.headers.get("content-type", "nothing")
        if not kind.startswith("text/event-stream") or "content-encoding" in response.headers:
            raise self._incompatible(f"answers with {kind.split(';')[0][:60]!r} in place of a stream of events")
        decoder = EventDecoder()
        num_bytes = 0
        try:
            async for piece in response.aiter_raw():
                num_bytes += len(piece)
                if num_bytes > _MAX_ANSWER_BYTES:
                    raise self._incompatible(f"sends an answer of more than {_MAX_ANSWER_BYTES:,} bytes")
                for data in decoder.feed(piece):
                    received.put(data)
                while received.qsize() > _MAX_AHEAD:
                    await asyncio.sleep(_LOOK_S / 10)
        except EventTooLong:
            raise self._incompatible(f"sends an event of more than {MAX_EVENT_BYTES:,} bytes") from None
        for data in decoder.flush():
            received.put(data)

    async def _read_whole(self, response: httpx.Response) -> bytes:
        content = bytearray()
        async for piece in response.aiter_raw():
            content += piece
            if len(content) > _MAX_REPLY_BYTES:
                raise self._incompatible(f"sends more than {_MAX_REPLY_BYTES:,} bytes")
        return bytes(content)

    def _unreachable(self, why: str) -> ServerUnreachable:
        return ServerUnreachable(
            f"The server at {self._options.where} {why}. Start it, or correct --base-url; {self._options.api} is asked."
        )

    def _incompatible(self, what: str) -> ServerIncompatible:
        return ServerIncompatible(
            f"The server at {self._options.where} {what}. --base-url takes the address of an OpenAI-compatible API."
        )

    def _lost(self) -> ModelLoaderError:
        return GenerationFailed(
            f"The connection to the server at {self._options.where} was lost in the middle of the answer. What has "
            "arrived is kept; ask again."
        )


class Pauses:
    """How long to wait before each further try.

    Args:
        max_tries: how many there may be.
        max_s: how long all pauses may take together.
    """

    def __init__(self, max_tries: int = _MAX_RETRIES, max_s: float = _MAX_PAUSES_S) -> None:
        self._max_tries = max_tries
        self._max_s = max_s
        self._num_tries = 0
        self._waited_s = 0.0

    def following(self, wanted_s: float | None) -> float | None:
        """Seconds until the next try; None when there should be none.

        Args:
            wanted_s: what the server asks for.
        """
        pause_s = max(wanted_s or 0.0, min(_FIRST_PAUSE_S * 2**self._num_tries, _LONGEST_PAUSE_S))
        if self._num_tries == self._max_tries or self._waited_s + pause_s > self._max_s:
            return None
        self._num_tries += 1
        self._waited_s += pause_s
        return pause_s


def _why(error: Exception) -> str:
    """What went wrong, as the rest of a sentence about the server; never a word of what was sent."""
    causes = list(_causes(error))
    if any(isinstance(each, socket.gaierror | httpx.InvalidURL | UnicodeError) for each in causes):
        return "has a name that is not known here"
    for each in causes:
        if isinstance(each, ssl.SSLCertVerificationError):
            return f"shows a certificate that is not trusted here ({each.verify_message})"
        if isinstance(each, ssl.SSLError):
            return "does not speak TLS; use http:// in place of https://"
    if any(isinstance(each, ConnectionRefusedError) for each in causes):
        return "refuses the connection"
    if isinstance(error, httpx.PoolTimeout):
        return f"has {MAX_CONNECTIONS} connections of ours open already"
    if isinstance(error, httpx.ConnectTimeout):
        return "does not take the connection"
    if isinstance(error, httpx.TimeoutException):
        return f"says nothing for {_SILENCE_S:g} s"
    if isinstance(error, httpx.ProxyError):
        return "cannot be reached through the proxy that HTTP_PROXY or HTTPS_PROXY names"
    if isinstance(error, httpx.ConnectError):
        return "cannot be reached"
    return "ends the connection without an answer"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that led to it."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for each in error.exceptions:
                yield from _causes(each)
        error = error.__cause__ or error.__context__
