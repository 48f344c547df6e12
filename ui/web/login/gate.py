"""The gate behind the guard: it lets through who is logged in, and answers the login's own pages.

In: requests that the guard let through. Out: for the application, the same with the login in the scope under "login";
for everybody else a page that asks for name and password, or a refusal. A request ends when its login does, so nobody
goes on reading after a logout, an expiry or the host's word. Passwords are compared in microseconds and never slowly
hashed, because that would stop the event loop; what keeps guessers away is the number of tries.
"""

import asyncio
import hmac
import json
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response

from ui.guard import GET, POST, AllowedRoute, ASGIApp, Message, Receive, Scope, Send
from ui.limits import MovingWindow
from ui.web.login.accounts import HOST, Accounts
from ui.web.login.pages import host_page, login_page, refusal_text, session_facts
from ui.web.login.sessions import HouseFull, Session, Sessions, owner_of
from ui.web.strings import Language
from ui.web.wiring import request_language

LOGIN_ROUTES = (
    AllowedRoute("/login", GET | POST),
    AllowedRoute("/logout", POST),
    AllowedRoute("/host", GET | POST),
    AllowedRoute("/session"),
)
_ALWAYS_OPEN = ("/gradio_api/startup-events", "/gradio_api/app_id", "/manifest.json")
"""Asked by launch(), by a page that lost its connection, perhaps its login with it, and by a browser, which sends no
cookie for it; they tell nothing."""
_MAX_FORM_BYTES = 4096
_MAX_NAME_CHARS = 64
_TRIES, _ALL_TRIES, _TRIES_S = 5, 30, 60.0
_EVERYBODY = "everybody"


class LoginGate:
    """ASGI middleware; `around` puts it around the application.

    Args:
        accounts: who may log in; None lets everybody in, and only the host has a login.
        sessions: who is logged in.
        owner_key: what the ids of accounts are made with.
        cookie: name of the cookie.
        passes: paths that bring keys of their own; those that end in a slash with all below them.
        on_end: called on another thread with the guests that the host has sent away.
        clients: the addresses that have the page open.

    Attributes:
        host_path: the link that makes the first browser that opens it the host's; it works once.
    """

    def __init__(
        self,
        accounts: Accounts | None,
        sessions: Sessions,
        *,
        owner_key: bytes,
        cookie: str,
        passes: frozenset[str] = frozenset(),
        on_end: Callable[[], None] = lambda: None,
        clients: Callable[[], list[str]] = list,
    ) -> None:
        self._accounts = accounts
        self._sessions = sessions
        self._owner_key = owner_key
        self._cookie = cookie
        self._passes = passes
        self._on_end = on_end
        self._clients = clients
        self._host_key: str | None = secrets.token_urlsafe(32)
        self.host_path = f"host?key={self._host_key}"
        self._tries = MovingWindow(_TRIES, _TRIES_S)
        self._all_tries = MovingWindow(_ALL_TRIES, _TRIES_S)
        self._everybody = Session("", None, "", "", 0.0, float("inf"), 0.0)

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application behind the gate."""

        async def gated(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or self._is_open(scope["path"]):
                await app(scope, receive, send)
                return
            request = Request(scope, receive)
            session = self._sessions.find(self._secret(request))
            response = await self._answer(request, session)
            if response is not None:
                await response(scope, receive, send)
            else:
                await self._pass_on(app, session, scope, receive, send)

        return gated

    def _is_open(self, path: str) -> bool:
        return path in _ALWAYS_OPEN or any(
            path == one or (one[-1] == "/" and path.startswith(one)) for one in self._passes
        )

    @property
    def _can_be_guessed(self) -> bool:
        """Whether passwords are people's own. A made-up one is too long, and a limit for all would shut guests out."""
        return self._accounts is not None and self._accounts.shared_password is None

    async def _answer(self, request: Request, session: Session | None) -> Response | None:
        """The gate's own answer; None if the application is to answer."""
        language = request_language(request)
        match request.method, request.url.path:
            case "POST", "/login":
                return await self._log_in(request, language)
            case _, "/login" if session is None and self._accounts is not None:
                return self._login_page(language)
            case _, "/login":
                return RedirectResponse("/", 303)
            case "POST", "/logout":
                self._sessions.end(self._secret(request))
                return self._without_cookie(RedirectResponse("/", 303))
            case _, "/session":
                return self._facts(session, language)
            case "POST", "/host":
                return await self._end_sharing(session, language)
            case _, "/host":
                return self._host(request, session, language)
        has_ended = self._sessions.is_closed and (session is None or not session.is_host)
        if not has_ended and (session is not None or self._accounts is None):
            return None
        if request.method in GET and request.url.path == "/" and self._accounts is not None:
            return RedirectResponse("/login", 303)
        why, status = ("ended", 403) if has_ended else ("log_in_first", 401)
        return PlainTextResponse(refusal_text(language, why), status)

    async def _pass_on(self, app: ASGIApp, session: Session | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets the application answer for as long as the login lasts; what it says of being cut off is a refusal."""
        visit = session or self._everybody
        remaining_s = self._sessions.remaining_s(visit)
        visit.num_streams += 1

        async def answer(message: Message) -> None:
            is_late = visit.ended.is_set() and message["type"] == "http.response.start"
            await send({**message, "status": 401} if is_late else message)

        answering = asyncio.ensure_future(app({**scope, "login": session}, receive, answer))
        ended = asyncio.ensure_future(visit.ended.wait())
        try:
            await asyncio.wait(
                {answering, ended},
                timeout=None if remaining_s == float("inf") else remaining_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if answering.done():
                answering.result()
        finally:
            visit.num_streams -= 1
            for task in (answering, ended):
                task.cancel()
            await asyncio.gather(answering, ended, return_exceptions=True)

    async def _log_in(self, request: Request, language: Language) -> Response:
        form = parse_qs((await request.body())[:_MAX_FORM_BYTES].decode("utf-8", "replace"), keep_blank_values=True)
        name = form.get("name", [""])[-1].strip()[:_MAX_NAME_CHARS]
        password = form.get("password", [""])[-1]
        if self._accounts is None or self._sessions.is_closed:
            return self._login_page(language, "ended", status=403)
        address = _address(request)
        who = address if self._accounts.shared_password else f"{name}\0{address}"
        wait_s = max(self._tries.wait_s(who), self._all_tries.wait_s(_EVERYBODY) if self._can_be_guessed else 0.0)
        if wait_s > 0:
            return self._login_page(language, "too_often", status=429, retry_after_s=int(wait_s) + 1)
        self._tries.add(who)
        self._all_tries.add(_EVERYBODY)
        if not self._accounts.opens(name, password):
            return self._login_page(language, "wrong", status=401)
        self._tries.forget(who)
        self._all_tries.forget(_EVERYBODY)
        has_name = self._accounts.shared_password is None
        shown = "".join(each for each in name if each.isprintable()) or "?"
        owner = owner_of(name, self._owner_key) if has_name else None
        try:
            self._sessions.end(self._secret(request))
            secret = self._sessions.begin(shown, address, owner=owner, is_host=has_name and name == HOST)
        except HouseFull:
            return self._login_page(language, "full", status=503, retry_after_s=60)
        return self._with_cookie(request, RedirectResponse("/", 303), secret)

    def _host(self, request: Request, session: Session | None, language: Language) -> Response:
        key = request.query_params.get("key", "")
        if self._host_key is not None and hmac.compare_digest(key.encode(), self._host_key.encode()):
            self._host_key = None
            secret = self._sessions.begin("", _address(request), owner=None, is_host=True)
            return self._with_cookie(request, RedirectResponse("/", 303), secret)
        if session is None or not session.is_host:
            return PlainTextResponse(refusal_text(language, "not_host"), 403)
        return HTMLResponse(host_page(language, self._sessions, self._visitors()))

    async def _end_sharing(self, session: Session | None, language: Language) -> Response:
        if session is None or not session.is_host:
            return PlainTextResponse(refusal_text(language, "not_host"), 403)
        self._sessions.end_guests()
        self._everybody.ended.set()
        await asyncio.to_thread(self._on_end)
        return RedirectResponse("/host", 303)

    def _facts(self, session: Session | None, language: Language) -> Response:
        """What the page shows about the login."""
        if session is None:
            return JSONResponse({}, 200 if self._accounts is None and not self._sessions.is_closed else 401)
        num_guests = sum(not one.is_host for one in self._sessions.who_is_on()) + len(self._visitors())
        return Response(
            json.dumps(session_facts(language, session, num_guests), ensure_ascii=False), media_type="application/json"
        )

    def _visitors(self) -> list[str]:
        """The addresses of those who came without a login."""
        return [] if self._accounts is not None or self._sessions.is_closed else self._clients()

    def _login_page(
        self, language: Language, reason: str = "", *, status: int = 200, retry_after_s: int | None = None
    ) -> Response:
        asks_name = self._accounts is not None and self._accounts.shared_password is None
        headers = {"retry-after": str(retry_after_s)} if retry_after_s is not None else None
        return HTMLResponse(login_page(language, reason, asks_account=asks_name), status, headers)

    def _secret(self, request: Request) -> str:
        """The id that the browser keeps. Of two cookies with the name neither counts: one was put there by others."""
        sent = request.headers.get("cookie", "")
        if sent.count(f"{self._cookie}=") != 1:
            return ""
        return request.cookies.get(self._cookie, "")

    def _with_cookie(self, request: Request, response: Response, secret: str) -> Response:
        is_secure = request.url.scheme == "https"
        lasts_s = int(self._sessions.lasts_s)
        response.set_cookie(
            self._cookie, secret, max_age=lasts_s, path="/", httponly=True, samesite="lax", secure=is_secure
        )
        return response

    def _without_cookie(self, response: Response) -> Response:
        response.delete_cookie(self._cookie, path="/", httponly=True, samesite="lax")
        return response


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else "?"


def login_in(scope: Any) -> Session | None:
    """The login that a request came with, as the gate left it in the scope."""
    found = scope.get("login") if isinstance(scope, dict) else None
    return found if isinstance(found, Session) else None
