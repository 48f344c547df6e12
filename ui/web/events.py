"""What a browser may say to Gradio's own routes: events that are on the page, in sessions that are its own.

ASGI middleware between the gate and Gradio. In: requests whose bodies have been read and are small. Out: the same, or a
refusal; Gradio would answer some of them with a fault, keep names of any length, and let everybody speak in a session
who knows its name.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from starlette.responses import PlainTextResponse

from ui.guard import ASGIApp, Message, Receive, Scope, Send, session_of
from ui.web.login.gate import login_in

_SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")
_EVENTS = ("/gradio_api/queue/join", "/gradio_api/run/predict")
_CANCEL = "/gradio_api/cancel"
_STREAMS = ("/gradio_api/queue/data", "/gradio_api/heartbeat/")
_MAX_PENDING = 8
_MAX_SESSIONS = 4096


class Events:
    """The check; `around` puts it around the application.

    Args:
        num_inputs: the events of the page, and how many values each takes.
        num_pending: how many events of a session have not ended.
        has_joined: whether a session has asked for something that streams.
        on_hang_up: is told of the session whose stream has ended.
    """

    def __init__(
        self,
        num_inputs: Callable[[], dict[int, int]],
        num_pending: Callable[[str], int],
        has_joined: Callable[[str], bool],
        on_hang_up: Callable[[str], object] = lambda session: None,
    ) -> None:
        self._num_inputs = num_inputs
        self._num_pending = num_pending
        self._has_joined = has_joined
        self._on_hang_up = on_hang_up
        self._users: OrderedDict[str, Any] = OrderedDict()

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application behind the check."""

        async def checked(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope["path"] if scope["type"] == "http" else ""
            problem: tuple[int, str] | None = None
            session = ""
            if path.startswith(_STREAMS):
                session = session_of(scope) or ""
                problem = self._session_problem(scope, session)
                if problem is None and path == _STREAMS[0] and not self._has_joined(session):
                    problem = 404, "There is nothing to listen to."
            elif path in _EVENTS or path == _CANCEL:
                message = await receive()
                problem = self._body_problem(scope, message.get("body", b""))
                receive = _again(message, receive)
            if problem is not None:
                await PlainTextResponse(problem[1], problem[0])(scope, receive, send)
                return
            try:
                await app(scope, receive, send)
            finally:
                if path == _STREAMS[0]:
                    self._on_hang_up(session)

        return checked

    def _body_problem(self, scope: Scope, body: bytes) -> tuple[int, str] | None:
        try:
            said = json.loads(body, parse_constant=_refuse, parse_float=_finite)
        except (ValueError, RecursionError):
            return 400, "The request is no JSON."
        if not isinstance(said, dict):
            return 422, "The request is no event."
        problem = self._session_problem(scope, said.get("session_hash"))
        if problem is not None:
            return problem
        if scope["path"] == _CANCEL:
            is_fine = isinstance(said.get("fn_index"), int) and isinstance(said.get("event_id"), str)
            return None if is_fine else (422, "The request is no event.")
        return self._event_problem(scope, said)

    def _event_problem(self, scope: Scope, said: dict[str, Any]) -> tuple[int, str] | None:
        index, data = said.get("fn_index"), said.get("data")
        num_inputs = self._num_inputs().get(index) if type(index) is int else None
        if num_inputs is None:
            return 404, "There is no such event."
        if not isinstance(data, list) or len(data) != num_inputs:
            return 422, "The event takes other values."
        if not isinstance(said.get("trigger_id"), int | None):  # event_data is anything: no handler takes it
            return 422, "The request is no event."
        if scope["path"].endswith("/join") and self._num_pending(said["session_hash"]) >= _MAX_PENDING:
            return 429, "Too many events at once."
        return None

    def _session_problem(self, scope: Scope, session: Any) -> tuple[int, str] | None:
        """Whether the session has no name, or belongs to another login."""
        if not isinstance(session, str) or not _SESSION.fullmatch(session):
            return 400, "The session has no name."
        login = login_in(scope)
        if login is None:
            return None
        if self._users.setdefault(session, login) is not login:
            return 404, "There is no such session."
        self._users.move_to_end(session)
        while len(self._users) > _MAX_SESSIONS:
            self._users.popitem(last=False)
        return None


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise ValueError("a number is too large")
    return number


def _again(message: Message, receive: Receive) -> Receive:
    """Gives a message that was taken once more."""
    waiting = [message]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay
