"""Refuses events that the page would never send, before Gradio looks at them.

In: requests that the guard has let through. Gradio 6.31 answers an event it does not know, a number that JSON does not
have or a missing value with status 500 and prints what it was sent, so that a stranger could fill the log and what was
typed would stand in it. Out: the same requests, or a short refusal. Knows the page's events by their number of values.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[MutableMapping[str, Any], _Receive, _Send], Awaitable[None]]

_EVENTS = ("/gradio_api/run/predict", "/gradio_api/queue/join")
_CANCEL = "/gradio_api/cancel"
_STREAM = "/gradio_api/queue/data"
_NAME = re.compile(r"[0-9A-Za-z_-]{1,64}")


class EventCheck:
    """ASGI middleware, to be given to `launch(app_kwargs={"middleware": [Middleware(EventCheck, ...)]})`.

    Args:
        num_values: of every event of the page by its number, how many values it takes.
        has_joined: whether a session has asked for something that streams.
    """

    def __init__(
        self, app: _App, num_values: Callable[[], Mapping[int, int]], has_joined: Callable[[str], bool]
    ) -> None:
        self._app = app
        self._num_values = num_values
        self._has_joined = has_joined

    async def __call__(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        if path == _STREAM:
            sessions = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])
            if not _is_name(sessions[0]) or not self._has_joined(sessions[0]):
                await _answer(send, 404, "There is nothing to listen to.")
                return
        if path not in (*_EVENTS, _CANCEL):
            await self._app(scope, receive, send)
            return
        message = await receive()  # the whole body: the guard has read it
        if not self._is_known(path, message.get("body", b"")):
            await _answer(send, 400, "This is not an event of the page.")
            return
        is_sent = False

        async def replay() -> _Message:
            nonlocal is_sent
            if is_sent:
                return await receive()
            is_sent = True
            return message

        await self._app(scope, replay, send)

    def _is_known(self, path: str, body: bytes) -> bool:
        try:
            event = json.loads(body, parse_constant=_refuse, parse_float=_finite)
        except (ValueError, RecursionError):
            return False
        if not isinstance(event, dict) or not _is_name(event.get("session_hash")):
            return False
        number = event.get("fn_index")
        if isinstance(number, bool) or not isinstance(number, int):
            return False
        if path == _CANCEL:
            return _is_name(event.get("event_id"))
        values = event.get("data")
        return isinstance(values, list) and len(values) == self._num_values().get(number, -1)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise ValueError("a number is too large")
    return number


async def _answer(send: _Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
