"""The gate in front of every route: what is not allowed by name is refused before the application sees it.

In: ASGI scopes of the page's server (and of the HTTP API, whose rows join the same policy). Out: the application's own
answers with security headers added and cross-origin permissions taken away, or a short refusal in plain text.
Refusals never repeat anything the client sent. Order: websocket, Host, route, method, Origin, body.
Knows nothing of Gradio, users, sessions or passwords; it holds no state.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

GET = frozenset({"GET", "HEAD"})
POST = frozenset({"POST"})

_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~@+-]+)+/?|/")
_TRAVERSAL = re.compile(r"/\.{1,2}(?:/|$)")


@dataclass(frozen=True)
class AllowedRoute:
    """One path, or with `is_prefix` every path below it (`path` then ends in a slash), and the methods it takes."""

    path: str
    methods: frozenset[str] = GET
    is_prefix: bool = False

    def matches(self, path: str) -> bool:
        if self.is_prefix:
            return path.startswith(self.path) and len(path) > len(self.path)
        return path == self.path


# What the page of Gradio 6.31 asks for: measured in Chromium on a page with a chatbot, buttons, CSS and a head.
PAGE_ROUTES = (
    AllowedRoute("/"),
    AllowedRoute("/theme.css"),
    AllowedRoute("/favicon.ico"),
    AllowedRoute("/manifest.json"),
    AllowedRoute("/assets/", is_prefix=True),
    AllowedRoute("/static/", is_prefix=True),
    AllowedRoute("/gradio_api/startup-events"),  # launch() asks for it itself
    AllowedRoute("/gradio_api/heartbeat/", is_prefix=True),
    AllowedRoute("/gradio_api/queue/data"),
    AllowedRoute("/gradio_api/queue/join", POST),
    AllowedRoute("/gradio_api/cancel", POST),
)


@dataclass(frozen=True)
class GuardPolicy:
    """What may pass. Everything has a safe default; a front end adds its routes and its host names.

    `allowed_hosts` are names without a port, compared in lower case, beside the loopback names that always pass;
    `*.x.y` allows every name below x.y. `frame_ancestors` are origins that may show the page in a frame.
    `trusted_proxy` says that a proxy of ours sets the X-Forwarded headers; otherwise they are taken away.
    """

    routes: tuple[AllowedRoute, ...] = PAGE_ROUTES
    allowed_hosts: tuple[str, ...] = ()
    frame_ancestors: tuple[str, ...] = ()
    trusted_proxy: bool = False
    max_body_bytes: int = 256 * 1024
    body_timeout_s: float = 10.0
    _hosts: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = {"localhost", "127.0.0.1", "[::1]"}
        for host in self.allowed_hosts:
            bare = f"[{host}]" if ":" in host and not host.startswith("[") else host
            names.add(bare.lower())
        object.__setattr__(self, "_hosts", frozenset(names))

    def allows_host(self, name: str) -> bool:
        name = name.lower()
        return name in self._hosts or any(
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


def guard_whole_app(policy: GuardPolicy) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """A lifespan that puts the guard around everything: `launch(app_kwargs={"lifespan": guard_whole_app(policy)})`.

    Gradio 6.31 adds its CORS middleware after, and so outside, those given to `launch`: it would answer preflights
    unguarded and add permissions for any origin. The lifespan runs before the first connection is accepted.
    """

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        app.middleware_stack = Guard(app.middleware_stack, policy=policy)
        yield

    return lifespan


class Guard:
    """ASGI middleware that enforces a policy. Around a Gradio page, install it with `guard_whole_app`."""

    def __init__(self, app: ASGIApp, *, policy: GuardPolicy) -> None:
        self._app = app
        self._policy = policy
        self._security_headers = [
            (b"content-security-policy", policy.content_security_policy().encode("ascii")),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
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
                message = {**message, "headers": self._secured(message.get("headers", ()), scope["path"])}
            await send(message)

        try:
            self._check(scope)
            body = await self._read_body(scope, receive)
        except _Refusal as refusal:
            await _answer(refusal, send_secured, is_head=scope["method"] == "HEAD")
            return
        if not self._policy.trusted_proxy:
            scope = {**scope, "headers": [row for row in scope["headers"] if not _is_forwarding(row[0])]}
        await self._app(scope, _replay(body, receive), send_secured)

    def _check(self, scope: Scope) -> None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        host = _HOST.fullmatch(hosts[0].decode("latin-1")) if len(hosts) == 1 else None
        if not host or not self._policy.allows_host(host["name"]):
            raise _Refusal(400, "This address is not one the server answers to.")
        methods = self._methods(scope)
        if not methods:
            raise _Refusal(404, "Not found.")
        if scope["method"] not in methods:
            raise _Refusal(405, "Method not allowed.", [(b"allow", ", ".join(sorted(methods)).encode())])
        if scope["method"] not in GET and not _same_origin(scope["headers"], hosts[0]):
            raise _Refusal(403, "Requests from other sites are refused.")

    def _methods(self, scope: Scope) -> frozenset[str]:
        """The methods allowed on the path; none where the path is unknown or is written in a roundabout way."""
        path = scope["path"]
        as_sent = scope.get("raw_path", path.encode("utf-8", "replace")).split(b"?")[0]
        is_plain = _PATH.fullmatch(path) and not _TRAVERSAL.search(path) and as_sent == path.encode()
        if not is_plain:
            return frozenset()
        return frozenset().union(*(route.methods for route in self._policy.routes if route.matches(path)))

    async def _read_body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body, read before the application runs, so that nothing parses what is too large or too slow."""
        limit = self._policy.max_body_bytes
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        if len(lengths) > 1 or any(not value.isdigit() for value in lengths):
            raise _Refusal(400, "The length of the request is not a number.")
        too_large = _Refusal(413, f"The request is larger than {limit} bytes.", [(b"connection", b"close")])
        if lengths and int(lengths[0][:20]) > limit:
            raise too_large
        chunks, size = [], 0
        try:
            async with asyncio.timeout(self._policy.body_timeout_s):
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

    def _secured(self, headers: Iterable[tuple[bytes, bytes]], path: str) -> list[tuple[bytes, bytes]]:
        ours = {name for name, _ in self._security_headers}
        kept = [
            (name, value)
            for name, value in headers
            if name.lower() not in ours and not name.lower().startswith(b"access-control-")
        ]
        is_fixed = path.startswith(("/assets/", "/static/"))
        if not is_fixed and not any(name.lower() == b"cache-control" for name, _ in kept):
            kept.append((b"cache-control", b"no-store"))
        return kept + self._security_headers


def _is_forwarding(name: bytes) -> bool:
    return name.startswith(b"x-forwarded-") or name in (b"forwarded", b"x-real-ip", b"x-original-url", b"x-rewrite-url")


def _same_origin(headers: Iterable[tuple[bytes, bytes]], host: bytes) -> bool:
    """Whether the request names no origin (no browser sent it) or the very host and port it was sent to."""
    origins = [value for name, value in headers if name == b"origin"]
    if not origins:
        return True
    scheme, separator, authority = origins[0].partition(b"://")
    return len(origins) == 1 and bool(separator) and scheme in (b"http", b"https") and authority.lower() == host.lower()


def _replay(body: bytes, receive: Receive) -> Receive:
    is_sent = False

    async def replay() -> Message:
        nonlocal is_sent
        if is_sent:
            return await receive()
        is_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _answer(refusal: _Refusal, send: Send, *, is_head: bool) -> None:
    body = refusal.text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers + refusal.headers})
    await send({"type": "http.response.body", "body": b"" if is_head else body})
