"""What the guard believes about where a request comes from, and the limits that depend on it."""

import asyncio
from typing import Any

import pytest

from tests.ui.test_guard import POLICY, RecordingApp, ask_raw, post_scope, run
from ui.forwarding import name_of
from ui.guard import PAGE_ROUTES, AllowedRoute, Guard, GuardPolicy, session_of
from ui.limits import Traffic, TrafficLimits

LINK = "abc123.gradio.live"
TUNNELLED = GuardPolicy(routes=POLICY.routes, tunnel=lambda: LINK)
PROXIED = GuardPolicy(routes=POLICY.routes, allowed_hosts=("chat.example",), trusted_proxy=True)


def get_scope(host: bytes = b"localhost", *headers: tuple[bytes, bytes], **changes: Any) -> dict[str, Any]:
    scope = {"path": "/", "raw_path": b"/", "method": "GET", "client": ("127.0.0.1", 5), "scheme": "http"}
    return {**scope, "type": "http", "headers": [(b"host", host), *headers], **changes}


def reaches(policy: GuardPolicy, scope: dict[str, Any]) -> Any:
    """The scope that the application sees."""
    app = RecordingApp()

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(_message: Any) -> None:
        return None

    run(Guard(app, policy=policy)(scope, receive, send))
    return app.scopes[0] if app.scopes else None


def test_the_public_link_is_answered_only_while_there_is_one() -> None:
    names: list[str | None] = [None, LINK, None]
    policy = GuardPolicy(routes=POLICY.routes, tunnel=lambda: names[0])
    statuses = []
    for _ in range(3):
        statuses.append(ask_raw(get_scope(LINK.encode()), [{"type": "http.request"}], policy)[0]["status"])
        names.pop(0)
    assert statuses == [400, 200, 400]


@pytest.mark.parametrize(
    "host", [b"other.gradio.live", b"gradio.live", b"abc123.gradio.live.evil.com", b"x.abc123.gradio.live"]
)
def test_no_other_link_is_ours(host: bytes) -> None:
    assert ask_raw(get_scope(host), [{"type": "http.request"}], TUNNELLED)[0]["status"] == 400


def test_through_the_link_the_scheme_is_https_and_spoofed_names_do_not_arrive() -> None:
    seen = reaches(
        TUNNELLED,
        get_scope(
            LINK.upper().encode(), (b"x-forwarded-for", b"8.8.8.8"), (b"x-forwarded-host", b"evil.com"),
            (b"x-gradio-server", b"http://evil.com"), (b"forwarded", b"host=evil.com"),
        ),
    )  # fmt: skip
    assert (seen["scheme"], seen["client"][0]) == ("https", "8.8.8.8")
    assert {name for name, _ in seen["headers"]} == {b"host"}


@pytest.mark.parametrize(
    ("said", "client"),
    [
        (b"1.2.3.4, 8.8.8.8", "8.8.8.8"),
        (b"8.8.8.8, 10.0.0.1, 192.168.0.1", "8.8.8.8"),
        (b"10.0.0.1", "10.0.0.1"),
        (b"evil", "127.0.0.1"),
        (b"", "127.0.0.1"),
        (b"8.8.8.8, <script>", "8.8.8.8"),
        (b"2001:4860:4860::8888", "2001:4860:4860::8888"),
    ],
)
def test_behind_a_trusted_proxy_the_last_public_address_is_the_client(said: bytes, client: str) -> None:
    seen = reaches(PROXIED, get_scope(b"chat.example", (b"x-forwarded-for", said)))
    assert seen["client"][0] == client


def test_without_a_proxy_nothing_a_client_says_about_itself_is_believed() -> None:
    spoofed = [(b"x-forwarded-for", b"8.8.8.8"), (b"x-forwarded-proto", b"https"), (b"x-real-ip", b"8.8.8.8")]
    seen = reaches(POLICY, get_scope(b"localhost", *spoofed))
    assert (seen["client"][0], seen["scheme"]) == ("127.0.0.1", "http")
    assert {name for name, _ in seen["headers"]} == {b"host"}


def test_a_trusted_proxys_scheme_is_taken_and_its_host_only_if_it_is_ours() -> None:
    for host, is_kept in ((b"chat.example", True), (b"evil.com", False)):
        seen = reaches(PROXIED, get_scope(b"127.0.0.1", (b"x-forwarded-proto", b"https"), (b"x-forwarded-host", host)))
        assert seen["scheme"] == "https"
        assert ((b"x-forwarded-host", host) in seen["headers"]) is is_kept
        assert [value for name, value in seen["headers"] if name == b"host"] == [host if is_kept else b"127.0.0.1"]


@pytest.mark.parametrize("asked", [b"chat.example", b"chat.example:8443"])
def test_a_form_is_taken_through_a_proxy_that_puts_another_name_in_host(asked: bytes) -> None:
    def status(origin: bytes) -> int:
        headers = ((b"x-forwarded-host", asked), (b"origin", origin))
        scope = get_scope(b"127.0.0.1:8000", *headers, method="POST", path="/chat", raw_path=b"/chat")
        return int(ask_raw(scope, [{"type": "http.request"}], PROXIED)[0]["status"])

    assert status(b"https://" + asked) != 403
    assert status(b"https://evil.example") == 403


@pytest.mark.parametrize(
    ("address", "is_direct", "name"),
    [
        ("127.0.0.1", True, ""), ("::1", True, ""), ("127.0.0.1", False, "127.0.0.1"), ("", False, "unknown"),
        ("192.168.1.9", True, "192.168.1.9"),
    ],
)  # fmt: skip
def test_this_machine_itself_has_no_limits_of_its_own(address: str, is_direct: bool, name: str) -> None:
    assert name_of({"client": (address, 1)}, is_direct=is_direct) == name


@pytest.mark.parametrize("num_headers", [100, 5000])
def test_thousands_of_headers_are_refused(num_headers: int) -> None:
    many = [(f"x-{number}".encode(), b"1") for number in range(num_headers)]
    assert ask_raw(get_scope(b"localhost", *many), [{"type": "http.request"}])[0]["status"] == 431


def test_a_huge_header_is_refused() -> None:
    assert ask_raw(get_scope(b"localhost", (b"cookie", b"x" * 40_000)), [])[0]["status"] == 431


def test_ranges_are_never_passed_on() -> None:
    ranges = b"bytes=" + b",".join(b"%d-%d" % (at, at + 1) for at in range(3000))
    seen = reaches(POLICY, get_scope(b"localhost", (b"range", ranges), (b"if-range", b"x")))
    assert {name for name, _ in seen["headers"]} == {b"host"}


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PUT", "DELETE", "PATCH", "CONNECT", "get", "X" * 1000])
@pytest.mark.parametrize("route", [route.path for route in PAGE_ROUTES])
def test_no_route_takes_another_method(method: str, route: str) -> None:
    path = f"{route}x" if route.endswith("/") and route != "/" else route
    scope = get_scope(method=method, path=path, raw_path=path.encode())
    assert ask_raw(scope, [{"type": "http.request"}], GuardPolicy())[0]["status"] == 405


@pytest.mark.parametrize(
    ("path", "query", "session"),
    [
        ("/gradio_api/queue/data", b"session_hash=abc", "abc"),
        ("/gradio_api/heartbeat/abc", b"", "abc"),
        ("/gradio_api/heartbeat/abc", b"session_hash=d", "abc"),
        ("/gradio_api/queue/data", b"session_hash=abc&session_hash=", ""),
        ("/gradio_api/queue/data", b"session_hash=abc&session_hash=d", "d"),
        ("/gradio_api/queue/data", b"", ""),
        ("/gradio_api/queue/data", b"\xff=%%&;", ""),
    ],
)
def test_a_streams_session_is_known(path: str, query: bytes, session: str) -> None:
    assert session_of({"path": path, "query_string": query}) == session


def test_a_refusal_for_now_says_when_to_come_back_and_repeats_nothing() -> None:
    policy = GuardPolicy(routes=(AllowedRoute("/"),), trusted_proxy=True)
    guard = Guard(RecordingApp(), policy=policy, traffic=Traffic(TrafficLimits(burst=1, per_s=0.001)))

    async def ask_twice() -> list[Any]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request"}

        async def send(message: Any) -> None:
            sent.append(message)

        for _ in range(2):
            await guard(get_scope(b"localhost", (b"x-forwarded-for", b"8.8.8.8")), receive, send)
        return sent

    messages = run(ask_twice())
    assert [one["status"] for one in messages if "status" in one] == [200, 429]
    assert (b"retry-after", b"1") in messages[2]["headers"]
    assert b"8.8.8.8" not in messages[3]["body"]


def test_a_page_for_which_there_is_no_room_says_so_in_three_languages_and_tries_again_by_itself() -> None:
    policy = GuardPolicy(routes=(AllowedRoute("/", is_page=True),), trusted_proxy=True)
    app = RecordingApp()
    guard = Guard(app, policy=policy, traffic=Traffic(TrafficLimits(streams_per_client=1)))
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    run(guard(get_scope(b"localhost", (b"x-forwarded-for", b"8.8.8.8")), receive, send))
    assert sent[0]["status"] == 503
    assert (b"refresh", b"30") in sent[0]["headers"]
    assert all(words in sent[1]["body"].decode() for words in ("no room", "现在没有空位", "空きがありません"))


def test_open_streams_are_counted_until_their_clients_leave() -> None:
    route = AllowedRoute("/gradio_api/heartbeat/", is_prefix=True, is_stream=True)
    traffic = Traffic(TrafficLimits(streams_per_session=1))
    leaves = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await leaves.wait()

    async def scenario() -> tuple[bool, Any, bool]:
        guard = Guard(stream, policy=GuardPolicy(routes=(route,)), traffic=traffic)
        path = "/gradio_api/heartbeat/abc"
        scope = get_scope(path=path, raw_path=path.encode(), query_string=b"")
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request"}

        async def send(message: Any) -> None:
            sent.append(message)

        first = asyncio.ensure_future(guard(scope, receive, send))
        await asyncio.sleep(0.01)
        was_listening = traffic.is_listening("abc")
        await guard(scope, receive, send)
        leaves.set()
        await first
        return was_listening, sent[0]["status"], traffic.is_listening("abc")

    assert run(scenario()) == (True, 503, False)


def test_event_streams_are_not_held_back_by_proxies() -> None:
    app = RecordingApp([(b"content-type", b"text/event-stream; charset=utf-8")])
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    run(Guard(app, policy=POLICY)({"type": "http", **post_scope(method="GET")}, receive, send))
    assert (b"x-accel-buffering", b"no") in sent[0]["headers"]
    assert (b"cache-control", b"no-store") in sent[0]["headers"]
