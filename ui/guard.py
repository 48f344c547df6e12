"""The gate in front of every route: what is not allowed by name is refused before the application sees it.

In: ASGI scopes of the page's server and of the HTTP API, whose rows join the same policy. Out: the application's own
answers with security headers added and cross-origin permissions taken away (but for origins that a route names), or a
short refusal. Refusals never repeat anything the client sent. Order: websocket, headers, Host, limits, route, method,
Origin, body. Knows nothing of users or passwords; what it counts is in `limits`.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from ui.forwarding import as_sent, name_of, through_proxy, through_tunnel
from ui.limits import TooMuch, Traffic

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

GET = frozenset({"GET", "HEAD"})
POST = frozenset({"POST"})

_FULL_AGAIN_S = 30
_FULL = f"""\
There is no room for another page now. This one tries again every {_FULL_AGAIN_S} seconds; close others that you have.
现在没有空位。此页每 {_FULL_AGAIN_S} 秒重试一次；如果开着其他页面，请关闭一些。
いま空きがありません。このページは {_FULL_AGAIN_S} 秒ごとに再試行します。ほかに開いているページがあれば閉じてください。
"""
_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?")
_NAME_PATH = re.compile(r"(?:/[A-Za-z0-9._~@:+-]+)+/?|/")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~@+-]+)+/?|/")
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9-]+(?:, ?[A-Za-z0-9-]+)*")
_ESCAPED_SLASH = re.compile(rb"%2[Ff]")
_TRAVERSAL = re.compile(r"/\.{1,2}(?:/|$)")
_MAX_HEADERS = 100
_MAX_HEADER_BYTES = 32 * 1024


@dataclass(frozen=True)
class AllowedRoute:
    """One path, or with `is_prefix` every path below it (`path` then ends in a slash), and the methods it takes.

    `origins` are other sites that may use it from a browser, each as in "https://x.example". `max_body_bytes` is asked
    for each request; None takes the policy's. With `has_escaped_slash` a prefix may be followed by a name in which
    %2F stands for a slash, and with a colon, as model names have it. An answer of a route with `is_stream` goes on for
    as long as its session does, which the path's end or the parameter `session_hash` names. `is_upload` brings a file:
    its body may take longer to arrive, and few of them are on their way at once. `is_page` opens streams when it has
    arrived; where there are none left it is refused for a while.
    """

    path: str
    methods: frozenset[str] = GET
    is_prefix: bool = False
    origins: frozenset[str] = frozenset()
    max_body_bytes: Callable[[], int] | None = None
    has_escaped_slash: bool = False
    is_stream: bool = False
    is_upload: bool = False
    is_page: bool = False

    def matches(self, path: str, as_sent: bytes) -> bool:
        """Whether a path is the route's and was sent as it reads, so that nobody behind can read it otherwise."""
        if self.is_prefix and self.has_escaped_slash and as_sent.startswith(self.path.encode()):
            as_sent = _ESCAPED_SLASH.sub(b"/", as_sent)
        if as_sent != path.encode():
            return False
        if self.is_prefix:
            return path.startswith(self.path) and len(path) > len(self.path)
        return path == self.path


# What the page of Gradio 6.31 asks for: measured in Chromium on a page with a chatbot, buttons, CSS and a head.
PAGE_ROUTES = (
    AllowedRoute("/", is_page=True),
    AllowedRoute("/theme.css"),
    AllowedRoute("/favicon.ico"),
    AllowedRoute("/manifest.json"),
    AllowedRoute("/assets/", is_prefix=True),
    AllowedRoute("/static/", is_prefix=True),
    AllowedRoute("/gradio_api/startup-events"),  # launch() asks for it itself
    AllowedRoute("/gradio_api/heartbeat/", is_prefix=True, is_stream=True),
    AllowedRoute("/gradio_api/queue/data", is_stream=True),
    AllowedRoute("/gradio_api/queue/join", POST),
    AllowedRoute("/gradio_api/cancel", POST),
    AllowedRoute("/gradio_api/app_id"),  # a page that lost its connection asks for it, and loads itself again
)


@dataclass(frozen=True)
class GuardPolicy:
    """What may pass. Everything has a safe default; a front end adds its routes and its host names.

    `allowed_hosts` are names without a port, compared in lower case, beside the loopback names that always pass;
    `*.x.y` allows every name below x.y, and `*` every name, where a key or a login protects what no name can.
    `frame_ancestors` are origins that may show the page in a frame.
    `trusted_proxy` says that a proxy of ours sets the X-Forwarded headers; otherwise they are taken away.
    `tunnel` gives the host name of the public link while there is one.
    Refusals are plain text; for paths that begin with `api_prefix` they are error bodies of OpenAI's form.
    """

    routes: tuple[AllowedRoute, ...] = PAGE_ROUTES
    allowed_hosts: tuple[str, ...] = ()
    frame_ancestors: tuple[str, ...] = ()
    trusted_proxy: bool = False
    tunnel: Callable[[], str | None] = lambda: None
    api_prefix: str | None = None
    max_body_bytes: int = 256 * 1024
    body_timeout_s: float = 10.0
    upload_timeout_s: float = 60.0
    _hosts: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = {"localhost", "127.0.0.1", "[::1]"}
        for host in self.allowed_hosts:
            bare = f"[{host}]" if ":" in host and not host.startswith("[") else host
            names.add(bare.lower())
        object.__setattr__(self, "_hosts", frozenset(names))

    def allows_host(self, name: str) -> bool:
        name = name.lower()
        return not self._hosts.isdisjoint({name, "*"}) or any(
            host.startswith("*.") and name.endswith(host[1:]) and len(name) > len(host) - 1 for host in self._hosts
        )

    def content_security_policy(self) -> str:
        """Everything from here alone; inline scripts and styles because Gradio's page consists of them."""
        ancestors = " ".join(("'self'", *self.frame_ancestors))
        return (
            "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
            "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
            "object-src 'none'; base-uri 'self'; form-action 'self'; frame-src 'none'; worker-src 'self' blob:; "
            f"frame-ancestors {ancestors}"
        )


class _Refusal(Exception):
    """An answer the guard gives itself."""

    def __init__(self, status: int, text: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, list(headers)

    def body(self, *, is_for_program: bool) -> tuple[bytes, bytes]:
        """The media type and the body."""
        if not is_for_program:
            return b"text/plain; charset=utf-8", self.text.encode()
        error = {"message": self.text, "type": "invalid_request_error", "param": None, "code": None}
        return b"application/json", json.dumps({"error": error}).encode()


def guard_whole_app(
    policy: GuardPolicy, traffic: Traffic | None = None, within: Callable[[ASGIApp], ASGIApp] = lambda app: app
) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """A lifespan that puts the guard around everything: `launch(app_kwargs={"lifespan": guard_whole_app(policy)})`.

    `within` may put something of its own between the guard and the application.

    Gradio 6.31 adds its CORS middleware after, and so outside, those given to `launch`: it would answer preflights
    unguarded and add permissions for any origin. The lifespan runs before the first connection is accepted.
    """

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        app.middleware_stack = Guard(within(app.middleware_stack), policy=policy, traffic=traffic)
        yield

    return lifespan


class Guard:
    """ASGI middleware that enforces a policy, and limits if it is given something to count with.

    Around a Gradio page, install it with `guard_whole_app`.
    """

    def __init__(self, app: ASGIApp, *, policy: GuardPolicy, traffic: Traffic | None = None) -> None:
        self._app = app
        self._policy = policy
        self._traffic = traffic
        self._security_headers = [
            (b"content-security-policy", policy.content_security_policy().encode("ascii")),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"same-origin"),  # with no-referrer a form would name no origin either
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=(), usb=(), serial=()"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_secured(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": self._secured(message.get("headers", ()), scope)}
            await send(message)

        try:
            scope, client = self._as_trusted(scope)
            with self._limited(scope, client):
                route = self._check(scope)
                body = await self._read_body(scope, receive, route)
                await self._app(scope, _replay(body, receive), send_secured)
        except _Refusal as refusal:
            if not started:
                prefix = self._policy.api_prefix
                is_for_program = prefix is not None and scope["path"].startswith(prefix)
                await _answer(refusal, send_secured, is_head=scope["method"] == "HEAD", is_for_program=is_for_program)

    def _as_trusted(self, scope: Scope) -> tuple[Scope, str]:
        """The request with only those statements about its origin that can be believed, and its client's name."""
        headers = scope["headers"]
        if len(headers) > _MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > _MAX_HEADER_BYTES:
            raise _Refusal(431, "The request has too many headers.", [(b"connection", b"close")])
        hosts = [value for name, value in headers if name == b"host"]
        host = _HOST.fullmatch(hosts[0].decode("latin-1")) if len(hosts) == 1 else None
        tunnel = self._policy.tunnel()
        if host and tunnel and host["name"].lower() == tunnel:
            return (scope := through_tunnel(scope)), name_of(scope, is_direct=False)
        if not host or not self._policy.allows_host(host["name"]):
            raise _Refusal(400, "This address is not one the server answers to.")
        if self._policy.trusted_proxy:
            return (scope := through_proxy(scope, self._policy.allows_host)), name_of(scope, is_direct=False)
        return (scope := as_sent(scope)), name_of(scope, is_direct=True)

    @contextmanager
    def _limited(self, scope: Scope, client: str) -> Iterator[None]:
        """Counts the request while it is answered."""
        if self._traffic is None:
            yield
            return
        meant = [route for route in self._policy.routes if route.matches(scope["path"], _raw(scope))]
        kinds = {kind: any(getattr(route, kind) for route in meant) for kind in ("is_stream", "is_upload", "is_page")}
        try:
            with self._traffic.request(client, session=session_of(scope), **kinds):
                yield
        except TooMuch as refused:
            headers = [(b"retry-after", str(refused.retry_after_s).encode())]
            text = "Too many requests; try again later." if refused.status == 429 else "The server is busy; try again."
            if kinds["is_page"] and refused.status == 503:
                text, headers = _FULL, [*headers, (b"refresh", b"%d" % _FULL_AGAIN_S)]
            raise _Refusal(refused.status, text, headers) from None

    def _check(self, scope: Scope) -> AllowedRoute:
        """The route that takes the request."""
        routes = self._routes(scope)
        if not routes:
            raise _Refusal(404, "Not found.")
        origin = _foreign_origin(scope["headers"], next(value for name, value in scope["headers"] if name == b"host"))
        if scope["method"] == "OPTIONS" and origin is not None and any(origin in route.origins for route in routes):
            raise _Refusal(200, "")  # its headers are the permissions that every answer gets
        takers = [route for route in routes if scope["method"] in route.methods]
        if not takers:
            methods = sorted(frozenset().union(*(route.methods for route in routes)))
            raise _Refusal(405, "Method not allowed.", [(b"allow", ", ".join(methods).encode())])
        if scope["method"] not in GET and origin is not None and origin not in takers[0].origins:
            raise _Refusal(403, "Requests from other sites are refused.")
        return takers[0]

    def _routes(self, scope: Scope) -> list[AllowedRoute]:
        """The routes of the path; none where it is unknown or is written in a roundabout way."""
        path = scope["path"]
        if _TRAVERSAL.search(path) or not _NAME_PATH.fullmatch(path):
            return []
        is_plain = _PATH.fullmatch(path) is not None  # Windows takes what is before a colon for a drive
        meant = [route for route in self._policy.routes if is_plain or route.has_escaped_slash]
        return [route for route in meant if route.matches(path, _raw(scope))]

    async def _read_body(self, scope: Scope, receive: Receive, route: AllowedRoute) -> bytes:
        """The whole body, read before the application runs, so that nothing parses what is too large or too slow."""
        limit = route.max_body_bytes() if route.max_body_bytes else self._policy.max_body_bytes
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        if len(lengths) > 1 or any(not value.isdigit() for value in lengths):
            raise _Refusal(400, "The length of the request is not a number.")
        too_large = _Refusal(413, f"The request is larger than {limit} bytes.", [(b"connection", b"close")])
        if lengths and int(lengths[0][:20]) > limit:
            raise too_large
        chunks, size = [], 0
        timeout_s = self._policy.upload_timeout_s if route.is_upload else self._policy.body_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise _Refusal(400, "The request was cut off.")
                    chunks.append(message.get("body", b""))
                    size += len(chunks[-1])
                    if size > limit:
                        raise too_large
                    if not message.get("more_body"):
                        return b"".join(chunks)
        except TimeoutError:
            raise _Refusal(408, "The request took too long to arrive.", [(b"connection", b"close")]) from None

    def _secured(self, headers: Iterable[tuple[bytes, bytes]], scope: Scope) -> list[tuple[bytes, bytes]]:
        ours = {name for name, _ in self._security_headers}
        kept = [
            (name, value)
            for name, value in headers
            if name.lower() not in ours and not name.lower().startswith(b"access-control-")
        ]
        is_fixed = scope["path"].startswith(("/assets/", "/static/"))
        if not is_fixed and not any(name.lower() == b"cache-control" for name, _ in kept):
            kept.append((b"cache-control", b"no-store"))
        named = {name.lower(): value for name, value in kept}
        is_stream = named.get(b"content-type", b"").startswith(b"text/event-stream")
        if is_stream and b"x-accel-buffering" not in named:
            kept.append((b"x-accel-buffering", b"no"))  # nginx would hold a stream back
        return kept + self._security_headers + self._permissions(scope)

    def _permissions(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """What lets a browser show the answer to the site that asked, if the route names it."""
        origins = frozenset[str]().union(*(route.origins for route in self._routes(scope)))
        if not origins:
            return []
        asked = [value for name, value in scope["headers"] if name == b"origin"]
        vary = (b"vary", b"origin")
        if len(asked) != 1 or asked[0].decode("latin-1") not in origins:
            return [vary]
        allowed = [vary, (b"access-control-allow-origin", asked[0])]
        return allowed + (self._preflight(scope) if scope["method"] == "OPTIONS" else [])

    def _preflight(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """What a browser may send next. Any header may: none carries a right but the key, which is checked."""
        methods = frozenset[str]().union(*(route.methods for route in self._routes(scope)))
        allowed = [
            (b"access-control-allow-methods", ", ".join(sorted(methods)).encode()),
            (b"access-control-max-age", b"600"),
        ]
        wanted = [value for name, value in scope["headers"] if name == b"access-control-request-headers"]
        if len(wanted) == 1 and len(wanted[0]) <= 2000 and _HEADER_NAMES.fullmatch(wanted[0]):
            allowed.append((b"access-control-allow-headers", wanted[0]))
        return allowed


def session_of(scope: Scope) -> str:
    """The session that a stream belongs to, as Gradio reads it; "" if it names none."""
    _, heartbeat, session = str(scope["path"]).partition("/heartbeat/")
    if heartbeat:
        return session.strip("/")
    named = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True).get("session_hash", [""])
    return named[-1]


def _raw(scope: Scope) -> bytes:
    """The path as it was sent."""
    path = scope.get("raw_path") or scope["path"].encode("utf-8", "replace")
    return bytes(path).split(b"?")[0]


def _foreign_origin(headers: Iterable[tuple[bytes, bytes]], host: bytes) -> str | None:
    """The other site that a browser sent the request for; None for a program, and for the very host and port asked."""
    origins = [value for name, value in headers if name == b"origin"]
    if not origins:
        return None
    scheme, separator, authority = origins[0].partition(b"://")
    is_own = bool(separator) and scheme in (b"http", b"https") and authority.lower() == host.lower()
    return None if is_own and len(origins) == 1 else b", ".join(origins).decode("latin-1")


def _replay(body: bytes, receive: Receive) -> Receive:
    is_sent = False

    async def replay() -> Message:
        nonlocal is_sent
        if is_sent:
            return await receive()
        is_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _answer(refusal: _Refusal, send: Send, *, is_head: bool, is_for_program: bool) -> None:
    media_type, body = refusal.body(is_for_program=is_for_program)
    headers = [(b"content-type", media_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers + refusal.headers})
    await send({"type": "http.response.body", "body": b"" if is_head else body})
