"""Puts a script into the page before everything else: what Gradio is given as head arrives after its first look at
the browser.

ASGI middleware around Gradio's own application, inside of any compression. It changes the HTML of "/" and nothing else.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ui.web.fragments import STATIC

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[MutableMapping[str, Any], _Receive, _Send], Awaitable[None]]
_HEAD = b"<head>"


class EarlyScript:
    """The application with `static/early.js` at the beginning of its page."""

    def __init__(self, app: _App) -> None:
        self._app = app
        script = (STATIC / "early.js").read_text(encoding="utf-8")
        self._script = f"<script>\n{script}</script>".encode()

    async def __call__(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        start: _Message | None = None

        async def send_changed(message: _Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None:  # the whole page comes in one piece
                body = message.get("body", b"").replace(_HEAD, _HEAD + self._script, 1)
                message = {**message, "body": body}
                await send(_with_length(start, None if message.get("more_body") else len(body)))
                start = None
            await send(message)

        await self._app(scope, receive, send_changed)


def _with_length(start: _Message, length: int | None) -> _Message:
    headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    return {**start, "headers": headers}
