"""Bytes of a `text/event-stream` to the data of its events (WHATWG HTML, "Server-sent events"), within bounds."""

from collections.abc import Iterator

MAX_EVENT_BYTES = 1_000_000
"""One event holds one token or one tool call; more is no answer of a language model."""


class EventTooLong(Exception):
    """A line or an event has no end within `MAX_EVENT_BYTES`."""


class EventDecoder:
    """Feed it every piece in order, then flush it.

    Lines that begin with `error:`, as older llama.cpp servers send them, come out as `{"error": ...}`.
    """

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[str] = []
        self._num_bytes = 0

    def feed(self, piece: bytes) -> Iterator[str]:
        """The data of the events that this piece completes.

        Raises:
            EventTooLong: see there.
        """
        *lines, rest = piece.split(b"\n")
        for line in lines:
            self._line += line
            self._check_size()
            yield from self._end_line()
        self._line += rest
        self._check_size()

    def flush(self) -> Iterator[str]:
        """The data of an event that the end of the stream completes."""
        yield from self._end_line()
        yield from self._end_event()

    def _check_size(self) -> None:
        if self._num_bytes + len(self._line) > MAX_EVENT_BYTES:
            raise EventTooLong

    def _end_line(self) -> Iterator[str]:
        line = self._line.removesuffix(b"\r").decode("utf-8", "replace")
        self._num_bytes += len(self._line)
        self._line.clear()
        if not line:
            yield from self._end_event()
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "error":
            self._data.append(f'{{"error": {value}}}')

    def _end_event(self) -> Iterator[str]:
        self._num_bytes = 0
        if self._data:
            data, self._data = "\n".join(self._data), []
            yield data
