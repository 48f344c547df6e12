"""One request and its answer, as ASGI has them: what a handler needs of HTTP, and no more."""

import asyncio
import json
from collections.abc import Mapping, MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

JSON = "application/json"
STALLED_S = 60.0
"""A client that takes nothing for so long has gone without a word."""
_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx would keep pieces back
}


class ClientGone(Exception):
    """Nobody takes the answer any more."""


class Exchange:
    """What came and what has been sent.

    Attributes:
        headers: of the request, names in lower case.
        status: of the answer; 499, a client that left, until one begins.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers = Headers(scope=scope)
        self.status = 499
        self.receive = receive
        self._scope = scope
        self._send = send

    @property
    def client(self) -> str:
        """The address that the request came from."""
        address = self._scope.get("client")
        return str(address[0]) if address else ""

    @property
    def path_name(self) -> str:
        """What the path has in place of its variable part."""
        return str(self._scope.get("path_params", {}).get("name", ""))

    async def body(self) -> bytes:
        """The whole body; the guard has bounded it."""
        return await Request(self._scope, self.receive).body()

    async def reply(
        self, status: int, body: bytes, media_type: str = JSON, headers: Mapping[str, str] | None = None
    ) -> None:
        """Sends a whole answer."""
        await self._start(status, {"content-type": media_type, "content-length": str(len(body)), **(headers or {})})
        await self._push({"type": "http.response.body", "body": body})

    async def reply_json(self, status: int, value: Any) -> None:
        """Sends a whole answer of plain values."""
        await self.reply(status, json.dumps(value).encode("ascii"))

    async def begin_stream(self) -> None:
        """Begins an answer of server-sent events."""
        await self._start(200, _STREAM_HEADERS)

    async def send_text(self, text: str) -> None:
        """Sends the next piece of a stream."""
        await self._push({"type": "http.response.body", "body": text.encode("utf-8"), "more_body": True})

    async def end_stream(self) -> None:
        """Ends a stream."""
        await self._push({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        rows = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._push({"type": "http.response.start", "status": status, "headers": rows})

    async def _push(self, message: MutableMapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(STALLED_S):
                await self._send(message)
        except (TimeoutError, OSError):
            raise ClientGone from None
