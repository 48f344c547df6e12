"""What the guard lets through and what it refuses, alone and around a real page on a real socket."""

import asyncio
import gc
import http.client
import json
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

import httpx
import pytest

from ui.guard import GET, POST, AllowedRoute, Guard, GuardPolicy, guard_whole_app

# Gradio leaves event loops and their sockets to the garbage collector when it starts and when a page is closed.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

T = TypeVar("T")
CHAT_ROUTE = AllowedRoute("/chat", GET | POST)
POLICY = GuardPolicy(routes=(AllowedRoute("/"), AllowedRoute("/files/", is_prefix=True), CHAT_ROUTE))


class RecordingApp:
    """Answers everything and remembers what reached it."""

    def __init__(self, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self.headers = headers or []
        self.scopes: list[Any] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        self.bodies.append((await receive()).get("body", b""))
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": b"reached"})


def run(work: Coroutine[Any, Any, T]) -> T:
    """Like `asyncio.run`, but leaves the thread's own loop alone, which Gradio expects to find when it is imported."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def ask(
    method: str = "GET", path: str = "/", app: Any = None, policy: GuardPolicy = POLICY, **kwargs: Any
) -> httpx.Response:
    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(Guard(app or RecordingApp(), policy=policy))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:7860") as client:
            return await client.request(method, path, **kwargs)

    return run(answer())


def ask_raw(scope: dict[str, Any], messages: list[Any], policy: GuardPolicy = POLICY) -> list[Any]:
    """The messages the guard sends for a scope that no HTTP client would produce."""
    sent: list[Any] = []
    waiting = list(messages)

    async def receive() -> Any:
        if not waiting:
            await asyncio.sleep(60)
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    run(Guard(RecordingApp(), policy=policy)({"type": "http", **scope}, receive, send))
    return sent


def post_scope(*headers: tuple[bytes, bytes], **changes: Any) -> dict[str, Any]:
    path = {"path": "/chat", "raw_path": b"/chat", "method": "POST"}
    return {**path, "headers": [(b"host", b"localhost"), *headers], **changes}


@pytest.mark.parametrize("host", ["localhost", "localhost:7860", "127.0.0.1:1", "[::1]:7860", "LOCALHOST"])
def test_the_names_of_this_machine_are_answered_on_any_port(host: str) -> None:
    assert ask(headers={"host": host}).text == "reached"


@pytest.mark.parametrize(
    "host",
    ["evil.com", "localhost/v1/x?", "", "localhost.evil.com", "localhost:x", "me@localhost", "127.0.0.1.", "a b"],
)
def test_a_name_that_is_not_ours_is_refused(host: str) -> None:
    assert ask(headers={"host": host}).status_code == 400


def test_two_host_headers_or_none_are_refused() -> None:
    two = post_scope((b"host", b"localhost"))
    none = {**post_scope(), "headers": []}
    assert ask_raw(two, [])[0]["status"] == 400
    assert ask_raw(none, [])[0]["status"] == 400


def test_host_names_of_the_policy_are_answered_and_a_star_covers_names_below_only() -> None:
    policy = GuardPolicy(routes=POLICY.routes, allowed_hosts=("Chat.example", "fe80::1", "*.hf.space"))
    answers = {
        host: ask(policy=policy, headers={"host": host}).status_code
        for host in ("chat.example:443", "[fe80::1]:7860", "me-qwen.hf.space", "hf.space", "evilhf.space")
    }
    assert list(answers.values()) == [200, 200, 200, 400, 400]


@pytest.mark.parametrize(
    "path",
    [
        "/unknown",
        "/files/",
        "/files/../chat",
        "/files/..%2f..%2fpackage.json",
        "/files/%2e%2e/chat",
        "//chat",
        "/files//x",
        "/CHAT",
        "/chat/",
        "/files/a%00b",
        "/files/a\\b",
        "/files/;x",
    ],
)
def test_unknown_and_roundabout_paths_are_not_found(path: str) -> None:
    scope = {"path": httpx.URL(f"http://x{path}").path, "raw_path": path.encode(), "method": "GET"}
    start, body = ask_raw({**scope, "headers": [(b"host", b"localhost")]}, [{"type": "http.request"}])
    assert start["status"] == 404
    assert body["body"] == b"Not found."


def test_a_prefix_covers_what_is_below_it() -> None:
    assert ask(path="/files/js/app-1.2.js").text == "reached"


@pytest.mark.parametrize(("method", "path"), [("POST", "/"), ("OPTIONS", "/chat"), ("TRACE", "/"), ("PUT", "/chat")])
def test_a_method_the_route_does_not_take_is_refused(method: str, path: str) -> None:
    answer = ask(method, path)
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("origin", ["http://evil.com", "null", "http://localhost:1", "localhost:7860", "file://x", ""])
def test_a_write_from_another_site_is_refused(origin: str) -> None:
    app = RecordingApp()
    assert ask("POST", "/chat", app, headers={"origin": origin}).status_code == 403
    assert app.scopes == []


@pytest.mark.parametrize("headers", [{}, {"origin": "http://localhost:7860"}])
def test_a_write_from_the_page_or_from_a_program_passes(headers: dict[str, str]) -> None:
    app = RecordingApp()
    assert ask("POST", "/chat", app, headers=headers, content=b"hello").text == "reached"
    assert app.bodies == [b"hello"]


def test_a_body_over_the_limit_is_refused_whether_announced_or_counted() -> None:
    app = RecordingApp()
    policy = GuardPolicy(routes=(CHAT_ROUTE,), max_body_bytes=1000)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 100

    assert ask("POST", "/chat", app, policy, content=b"x" * 1001).status_code == 413
    assert ask("POST", "/chat", app, policy, content=chunks()).status_code == 413
    assert app.scopes == []
    assert ask("POST", "/chat", app, policy, content=b"x" * 1000).text == "reached"


@pytest.mark.parametrize("length", [b"-1", b"abc", b"1e3", b""])
def test_a_length_that_is_no_number_is_refused(length: bytes) -> None:
    assert ask_raw(post_scope((b"content-length", length)), [{"type": "http.request"}])[0]["status"] == 400


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    policy = GuardPolicy(routes=(CHAT_ROUTE,), body_timeout_s=0.05)
    half = {"type": "http.request", "body": b"x", "more_body": True}
    assert ask_raw(post_scope(), [half], policy)[0]["status"] == 408


def test_a_client_that_leaves_in_the_middle_of_a_body_never_reaches_the_application() -> None:
    half = {"type": "http.request", "body": b"x", "more_body": True}
    assert ask_raw(post_scope(), [half, {"type": "http.disconnect"}])[0]["status"] == 400


def test_answers_carry_the_security_headers_and_lose_cross_origin_permissions() -> None:
    app = RecordingApp([(b"Access-Control-Allow-Origin", b"*"), (b"access-control-allow-credentials", b"true")])
    policy = GuardPolicy(routes=POLICY.routes, frame_ancestors=("https://huggingface.co",))
    headers = ask(app=app, policy=policy).headers
    assert not [name for name in headers if name.startswith("access-control")]
    assert "frame-ancestors 'self' https://huggingface.co" in headers["content-security-policy"]
    assert "connect-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


def test_answers_are_not_stored_unless_the_application_says_otherwise() -> None:
    assert ask().headers["cache-control"] == "no-store"
    assert ask(app=RecordingApp([(b"Cache-Control", b"max-age=9")])).headers["cache-control"] == "max-age=9"


def test_forwarding_headers_are_taken_away_unless_a_proxy_is_trusted() -> None:
    sent = {"x-forwarded-host": "localhost", "x-forwarded-for": "1.2.3.4", "forwarded": "host=evil.com"}
    for trusted, expected in ((False, set()), (True, {b"x-forwarded-host", b"x-forwarded-for", b"forwarded"})):
        app = RecordingApp()
        ask(app=app, policy=GuardPolicy(routes=POLICY.routes, trusted_proxy=trusted), headers=sent)
        assert {name for name, _ in app.scopes[0]["headers"] if b"forwarded" in name} == expected


def test_refusals_repeat_nothing_the_client_sent() -> None:
    for answer in (ask(path="/secret-path"), ask(headers={"host": "secret-path"})):
        assert "secret-path" not in answer.text + str(answer.headers)


def test_a_refusal_of_a_head_request_has_no_body() -> None:
    assert ask("HEAD", "/unknown").content == b""


def test_websockets_are_refused() -> None:
    sent = ask_raw({"type": "websocket", "path": "/", "headers": []}, [{"type": "websocket.connect"}])
    assert sent[0]["type"] == "websocket.close"


def test_a_stream_passes_piece_by_piece_and_the_application_hears_of_the_hang_up() -> None:
    async def scenario() -> list[str]:
        seen: list[str] = []
        incoming: asyncio.Queue[Any] = asyncio.Queue()
        incoming.put_nowait({"type": "http.request", "body": b""})

        async def stream(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            seen.append((await receive())["type"])

        async def send(message: Any) -> None:
            seen.append(message.get("body", b"start").decode())
            if message.get("body"):
                incoming.put_nowait({"type": "http.disconnect"})

        scope = {"type": "http", **post_scope(method="GET")}
        await Guard(stream, policy=POLICY)(scope, incoming.get, send)
        return seen

    assert run(scenario()) == ["start", "one", "http.disconnect"]


# --- around a real page


@pytest.fixture(scope="module")
def real_page() -> Iterator[tuple[str, int]]:
    """A small chat page of Gradio behind the guard: its host and port."""
    gr = pytest.importorskip("gradio")
    with gr.Blocks(analytics_enabled=False) as demo:
        chatbot, box = gr.Chatbot(), gr.Textbox()
        box.submit(lambda text: [{"role": "user", "content": [{"type": "text", "text": text}]}], box, chatbot)
    demo.queue(api_open=False)
    demo.launch(
        prevent_thread_lock=True,
        quiet=True,
        server_name="127.0.0.1",
        server_port=free_port(),
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        favicon_path=None,
        app_kwargs={"lifespan": guard_whole_app(GuardPolicy()), "openapi_url": None},
    )
    yield "127.0.0.1", demo.server_port
    demo.close(verbose=False)
    gc.collect()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def request(
    where: tuple[str, int], method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(*where, timeout=10)
    try:
        connection.request(method, path, body=body, headers=headers or {}, encode_chunked=not isinstance(body, bytes))
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_a_chat_works_through_the_guard(real_page: tuple[str, int]) -> None:
    with httpx.Client(base_url=f"http://{real_page[0]}:{real_page[1]}", timeout=20) as client:
        assert client.get("/").status_code == 200
        join = {"data": ["hello guard"], "fn_index": 0, "session_hash": "abc", "event_data": None}
        assert client.post("/gradio_api/queue/join", json=join).status_code == 200
        with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": "abc"}) as stream:
            events = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
    assert [event["msg"] for event in events][-1] in ("process_completed", "close_stream")
    assert "hello guard" in json.dumps(events)


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=../../app.py",
        "/gradio_api/file=%2e%2e/x",
        "/gradio_api/file=http://169.254.169.254/",
        "/static/..%2f..%2fpackage.json",
        "/gradio_api/deep_link?session_hash=x",
        "/gradio_api/proxy=http://127.0.0.1/",
        "/pwa_icon/12000",
        "/monitoring",
        "/config",
        "/openapi.json",
        "/gradio_api/info",
        "/gradio_api/upload",
        "/gradio_api/run/predict",
        "/gradio_api/api/predict",
        "/gradio_api/call/predict",
        "/gradio_api/component_server",
        "/gradio_api/reset",
        "/svelte/x",
        "/login",
    ],
)
def test_what_the_page_does_not_need_is_not_there(real_page: tuple[str, int], path: str) -> None:
    for method in ("GET", "POST"):
        status, _, body = request(real_page, method, path, b"" if method == "POST" else None)
        assert (status, body) == (404, b"Not found.")


def test_a_huge_body_is_refused_before_it_is_parsed(real_page: tuple[str, int]) -> None:
    announced = {"content-type": "application/json", "content-length": str(30_000_000)}
    assert request(real_page, "POST", "/gradio_api/queue/join", b"[", announced)[0] == 413
    chunks = (b"[]," * 20_000 for _ in range(8))
    chunked = {"content-type": "application/json", "transfer-encoding": "chunked"}
    try:
        status = request(real_page, "POST", "/gradio_api/queue/join", chunks, chunked)[0]
    except (BrokenPipeError, ConnectionResetError):  # the server hung up while we were still sending
        status = 413
    assert status == 413


@pytest.mark.parametrize("host", ["evil.com", "localhost/v1/x?", "abc.gradio.live", "192.168.1.9"])
def test_a_foreign_host_name_never_reaches_the_page(real_page: tuple[str, int], host: str) -> None:
    assert request(real_page, "GET", "/", headers={"host": host})[0] == 400


def test_no_other_origin_is_ever_permitted(real_page: tuple[str, int]) -> None:
    evil = {"origin": "http://evil.com"}
    preflight = {**evil, "access-control-request-method": "POST"}
    asked = [
        request(real_page, "GET", "/", headers={**evil, "host": "[::1]:7860"}),
        request(real_page, "OPTIONS", "/gradio_api/queue/join", headers=preflight),
        request(real_page, "POST", "/gradio_api/queue/join", b"{}", {**evil, "content-type": "text/plain"}),
    ]
    assert [status for status, _, _ in asked] == [200, 405, 403]
    assert not [name for _, headers, _ in asked for name in headers if name.startswith("access-control")]


def test_forwarded_names_do_not_end_up_in_the_page(real_page: tuple[str, int]) -> None:
    spoofed = {"x-forwarded-host": "evil.com", "x-forwarded-proto": "https", "forwarded": "host=evil.com"}
    assert b"evil.com" not in request(real_page, "GET", "/", headers=spoofed)[2]
