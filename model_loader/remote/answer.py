"""One answer on its way from a server: the data of its events in, the application's events out, and what it cost.

Times are measured here, where the pieces arrive; tokens are those that the server counts, or else an estimate.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from model_loader.errors import GenerationFailed, ServerIncompatible
from model_loader.events import Event, Finished, Usage, Waiting
from model_loader.remote.chunk_reader import ChunkReader
from model_loader.remote.failures import Refused, read_error
from model_loader.remote.token_counter import TokenCounter

_LAST_WORDS_S = 5.0
"""How long a server may take to say what an answer cost, once it has ended it."""
_MOST_TOKENS = 10**9
_SILENCE_S = 0.25
"""A reader that may want to leave hears of us at least so often."""
_STOPS_S = 1.0
"""How long it may take to notice a stop string that we have seen."""


class RemoteAnswer:
    """The answer to one request.

    Args:
        where: the server, for messages.
        reader: turns its chunks to events.
        body: of the request.
        counter: counts what the server does not, and learns from what it does.
    """

    def __init__(self, where: str, reader: ChunkReader, body: Mapping[str, Any], counter: TokenCounter) -> None:
        self._where = where
        self._reader = reader
        self._body = body
        self._counter = counter
        self._began = self._last = time.monotonic()
        self._first: float | None = None
        self._stopped: float | None = None

    def read(self, stream: Iterable[str | Waiting]) -> Iterator[Event]:
        """Everything but the last event.

        Raises:
            Refused: the server breaks off with an error.
            ServerIncompatible: what it sends is no JSON object.
        """
        told = time.monotonic()
        for data in stream:
            if isinstance(data, Waiting):
                told = time.monotonic()
                yield data
                if self._reader.finish_reason is not None and time.monotonic() - self._last > _LAST_WORDS_S:
                    return
            elif data.strip() == "[DONE]":
                yield from self._reader.end()
                return
            else:
                for event in self._reader.feed(self._chunk(data)):
                    self._last = time.monotonic()
                    self._first = self._first or self._last
                    told = self._last
                    yield event
                if time.monotonic() - told > _SILENCE_S:  # a call's arguments come in pieces and are told as a whole
                    told = time.monotonic()
                    yield Waiting(0)
                if self._reader.has_matched_stop:
                    self._stopped = self._stopped or time.monotonic()
                    if time.monotonic() - self._stopped > _STOPS_S:
                        return

    def finished(self) -> Finished:
        """The last event.

        Raises:
            GenerationFailed: the answer has not ended although nothing more comes.
        """
        reason = self._reader.finish_reason
        if reason is None:
            raise GenerationFailed(
                f"The server at {self._where} ended the answer in the middle. What has arrived is kept; ask again."
            )
        return Finished(reason, self._usage())

    def _chunk(self, data: str) -> Mapping[str, Any]:
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            chunk = None
        if not isinstance(chunk, dict):
            raise ServerIncompatible(
                f"The server at {self._where} sends an event that is no JSON object. Ask again; if it happens again, "
                "use another version of that server."
            )
        if chunk.get("error"):
            code = chunk["error"].get("code") if isinstance(chunk["error"], dict) else None
            raise Refused(read_error(chunk, code if isinstance(code, int) and 400 <= code < 600 else 500))
        return chunk

    def _usage(self) -> Usage:
        told = self._reader.usage
        details = told.get("prompt_tokens_details")
        cached = _whole_number(details.get("cached_tokens")) if isinstance(details, dict) else 0
        prompt, completion = (_whole_number(told.get(name)) for name in ("prompt_tokens", "completion_tokens"))
        first = self._first or self._last
        usage = Usage(prompt, completion, min(cached, prompt), 0.0, first - self._began, self._last - first)
        if prompt:
            self._counter.learn(self._body, prompt)
            return usage
        prompt = self._counter.count(self._body).tokens
        completion = max(self._reader.num_deltas, self._counter.count_text(self._reader.text).tokens)
        return replace(usage, prompt_tokens=prompt, completion_tokens=completion, is_estimate=True)


def _whole_number(value: Any) -> int:
    """A number of tokens; 0 for what cannot be one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS else 0
