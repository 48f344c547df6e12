"""How much one client and all together may ask of a server at once and in a while.

In: a client's name for every request, and the session of a stream. Out: leave to go on, or `TooMuch` with a time after
which it is worth another try. It knows no HTTP and no users. Clients that share an address share its limits; because an
address can be made up behind some proxies, everything has a limit in total as well.
"""

import contextlib
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

LOCAL = ""
"""The client on this very machine; only the limits in total hold for it."""

_MAX_CLIENTS_KNOWN = 4096


class TooMuch(Exception):
    """The request is refused for now.

    Attributes:
        status: 429 when the client has asked too often, 503 when the server is full.
        retry_after_s: when to try again.
    """

    def __init__(self, status: int, retry_after_s: int) -> None:
        super().__init__(f"{status}, again after {retry_after_s} s")
        self.status, self.retry_after_s = status, retry_after_s


@dataclass(frozen=True, slots=True)
class TrafficLimits:
    """What is allowed. A page that opens asks for some 100 files; a tab keeps two streams open.

    Attributes:
        burst, per_s: requests of a client at once, and how many are added each second.
        total_burst, total_per_s: the same for all clients together.
        at_once, total_at_once: requests that are being answered, streams included.
        streams_per_session, streams_per_client, streams_in_total: streams that are open. Pages are given to a client
            for three quarters of its streams: those who are in still need one when they ask.
        uploads_per_client, uploads_in_total: files that are on their way or being read.
        clients: clients that have a stream open; None counts none.
    """

    burst: int = 400
    per_s: float = 30.0
    total_burst: int = 4000
    total_per_s: float = 400.0
    at_once: int = 64
    total_at_once: int = 400
    streams_per_session: int = 4
    streams_per_client: int = 32
    streams_in_total: int = 200
    uploads_per_client: int = 2
    uploads_in_total: int = 6
    clients: int | None = None


class Traffic:
    """Counts requests and streams. It belongs to one event loop; only `is_listening` may be called from any thread."""

    def __init__(self, limits: TrafficLimits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits or TrafficLimits()
        self._clock = clock
        self._total = _Bucket(self._limits.total_burst, self._limits.total_per_s, clock())
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._at_once: Counter[str] = Counter()
        self._streams: Counter[str] = Counter()
        self._uploads: Counter[str] = Counter()
        self._listening: dict[str, int] = {}

    @contextlib.contextmanager
    def request(
        self, client: str, *, is_stream: bool = False, is_upload: bool = False, is_page: bool = False, session: str = ""
    ) -> Iterator[None]:
        """Counts a request while it is answered. A page is refused that would get no stream.

        Raises:
            TooMuch: one of the limits is reached.
        """
        self._check_rate(client)
        self._check_room(client)
        if is_stream:
            self._check_streams(client, session, self._limits.streams_per_client)
        if is_page:
            self._check_streams(client, None, self._limits.streams_per_client * 3 // 4)
        if is_upload:
            self._check_uploads(client)
        counted = [self._at_once] + [self._streams] * is_stream + [self._uploads] * is_upload
        self._count(counted, client, session if is_stream else None, 1)
        try:
            yield
        finally:
            self._count(counted, client, session if is_stream else None, -1)

    def is_listening(self, session: str) -> bool:
        """Whether a stream of the session is open."""
        return session in self._listening

    def clients(self) -> list[str]:
        """Who has a stream open, without this machine."""
        return [client for client in self._streams if client != LOCAL]

    def _count(self, counted: list[Counter[str]], client: str, session: str | None, step: int) -> None:
        for counts in counted:
            _add(counts, client, step)
        if session is not None:
            _add(self._listening, session, step)

    def _check_rate(self, client: str) -> None:
        now = self._clock()
        if client != LOCAL:
            bucket = self._buckets.pop(client, None) or _Bucket(self._limits.burst, self._limits.per_s, now)
            self._buckets[client] = bucket  # the last one asked for stays longest
            while len(self._buckets) > _MAX_CLIENTS_KNOWN:
                self._buckets.popitem(last=False)
            if not bucket.take(now):
                raise TooMuch(429, 1)
        if not self._total.take(now):
            raise TooMuch(503, 2)

    def _check_room(self, client: str) -> None:
        if client != LOCAL and self._at_once.get(client, 0) >= self._limits.at_once:
            raise TooMuch(429, 2)
        if sum(self._at_once.values()) >= self._limits.total_at_once:
            raise TooMuch(503, 5)

    def _check_streams(self, client: str, session: str | None, most: int) -> None:
        limits = self._limits
        if session is not None and self._listening.get(session, 0) >= limits.streams_per_session:
            raise TooMuch(503, 2)
        if client != LOCAL and self._streams.get(client, 0) >= most:
            raise TooMuch(503, 5)
        is_newcomer = client != LOCAL and client not in self._streams
        if limits.clients is not None and is_newcomer and len(self._streams.keys() - {LOCAL}) >= limits.clients:
            raise TooMuch(503, 60)
        if sum(self._streams.values()) >= limits.streams_in_total:
            raise TooMuch(503, 10)

    def _check_uploads(self, client: str) -> None:
        if client != LOCAL and self._uploads.get(client, 0) >= self._limits.uploads_per_client:
            raise TooMuch(429, 2)
        if sum(self._uploads.values()) >= self._limits.uploads_in_total:
            raise TooMuch(503, 2)


class MovingWindow:
    """So many events of a kind in so many seconds, counted exactly."""

    def __init__(self, limit: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._seconds, self._clock = limit, seconds, clock
        self._events: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, key: str) -> float:
        """Seconds until another event of this kind is allowed; 0 if it is now."""
        events = self._recent(key)
        return 0.0 if len(events) < self._limit else events[-self._limit] + self._seconds - self._clock()

    def add(self, key: str) -> None:
        """Counts an event."""
        self._recent(key).append(self._clock())
        self._events.move_to_end(key)
        while len(self._events) > _MAX_CLIENTS_KNOWN:
            self._events.popitem(last=False)

    def forget(self, key: str) -> None:
        """Takes the last event of this kind back."""
        if self._recent(key):
            self._events[key].pop()

    def _recent(self, key: str) -> deque[float]:
        events = self._events.setdefault(key, deque(maxlen=self._limit))
        while events and events[0] <= self._clock() - self._seconds:
            events.popleft()
        return events


class _Bucket:
    """Tokens that are taken by requests and come back with time."""

    __slots__ = ("_at", "_content", "_per_s", "_size")

    def __init__(self, size: int, per_s: float, now: float) -> None:
        self._size, self._per_s = size, per_s
        self._content, self._at = float(size), now

    def take(self, now: float) -> bool:
        self._content = min(self._size, self._content + (now - self._at) * self._per_s)
        self._at = now
        if self._content < 1:
            return False
        self._content -= 1
        return True


def _add(counts: dict[str, int], key: str, step: int) -> None:
    """Counts up or down; what is at zero is forgotten."""
    counts[key] = counts.get(key, 0) + step
    if counts[key] <= 0:
        del counts[key]
