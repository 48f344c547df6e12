"""The API on a real port: clients that leave, wait, stall or misbehave, and many at once."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from model_loader.engine.request import EngineActivity
from tests.scripted_model import Script, ScriptedModel
from tests.ui.http_api.served_api import HELLO, QUICK, ScriptedApi, eventually, on_a_port
from ui.http_api import answering
from ui.http_api.options import ApiOptions

pytestmark = pytest.mark.timed

LONG = Script(answer="word " * 2000, tokens_per_s=50)


@pytest.fixture(scope="module")
def api() -> ScriptedApi:
    return ScriptedApi(LONG)


@pytest.fixture(scope="module")
def url(api: ScriptedApi) -> Iterator[str]:
    with on_a_port(api) as address:
        yield address


@pytest.fixture(autouse=True)
def a_long_answer(api: ScriptedApi) -> None:
    api.model.begin_again(LONG)


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "scripted", "messages": HELLO, **fields}


@contextlib.contextmanager
def connected(url: str, sent: bytes) -> Iterator[socket.socket]:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=15) as connection:
        connection.sendall(sent)
        yield connection


def post(content: bytes, *headers: str, path: str = "/v1/chat/completions") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content


def answer_to(url: str, sent: bytes) -> bytes:
    with connected(url, sent) as connection:
        return connection.recv(65_536)


def status_of(url: str, sent: bytes) -> int:
    return int((answer_to(url, sent) or b"x 0 x").split()[1])


def test_a_reader_that_leaves_ends_the_answer_at_once(api: ScriptedApi, url: str) -> None:
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body(stream=True, n=3)) as answer:
        next(lines for lines in answer.iter_lines() if "word" in lines)
        assert api.model.num_streams == 3
    left_s = time.monotonic()
    eventually(lambda: api.model.num_streams == 0)
    assert time.monotonic() - left_s < 0.5


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_client_that_waits_for_a_whole_answer_may_leave_too(api: ScriptedApi, url: str, path: str) -> None:
    fields = {"prompt": "x"} if path == "/v1/completions" else {"messages": HELLO}
    with connected(url, post(json.dumps({"model": "scripted", **fields}).encode(), path=path)):
        eventually(lambda: api.model.num_streams == 1)
    left_s = time.monotonic()
    eventually(lambda: api.model.num_streams == 0)
    assert time.monotonic() - left_s < 0.5


def test_a_client_that_leaves_the_queue_leaves_it(api: ScriptedApi, url: str) -> None:
    api.model.begin_again(Script(queue=100, queue_step_s=0.1))
    with connected(url, post(json.dumps(body(stream=True)).encode())):
        eventually(lambda: api.model.num_streams == 1)
    eventually(lambda: api.model.num_streams == 0, 1.0)


def test_a_silent_stream_is_kept_alive_with_comments(
    api: ScriptedApi, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "KEEP_ALIVE_S", 0.1)
    monkeypatch.setattr(answering, "_LOOK_S", 0.05)
    api.model.begin_again(Script(answer="One two three", tokens_per_s=5000, hang_at=1))
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body(stream=True)) as answer:
        lines = answer.iter_lines()
        assert [line for line in (next(lines) for _ in range(12)) if line == ": keep-alive"]
        api.model.released.set()
        assert [line for line in lines if line][-1] == "data: [DONE]"
    api.model.released.clear()


def test_the_words_come_one_by_one_and_others_are_served_meanwhile(url: str) -> None:
    times = []
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body(stream=True)) as answer:
        for line in answer.iter_lines():
            if "word" in line:
                times.append(time.monotonic())
                began_s = time.monotonic()
                assert httpx.get(f"{url}/health").status_code == 200
                assert time.monotonic() - began_s < 0.5
            if len(times) == 10:
                break
    assert times[-1] - times[0] > 0.1


def test_a_reader_that_takes_nothing_is_given_up(api: ScriptedApi, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.http_api.exchange.STALLED_S", 0.3)
    api.model.begin_again(Script(answer=("x" * 20_000 + " ") * 2000, tokens_per_s=1e6))
    with connected(url, post(json.dumps(body(stream=True, n=4)).encode())) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        eventually(lambda: api.model.num_streams == 4)
        eventually(lambda: api.model.num_streams == 0, 20.0)


def test_67_clients_that_leave_at_any_point_leave_nothing_behind(api: ScriptedApi, url: str) -> None:
    content = json.dumps(body(stream=True)).encode()
    whole = post(content)
    for end in (5, 40, len(whole) - len(content), len(whole) - 3, len(whole)):
        for _ in range(5):
            with connected(url, whole[:end]):
                pass
    eventually(lambda: api.model.num_streams == 0)
    api.model.begin_again(QUICK)
    assert httpx.post(f"{url}/v1/chat/completions", json=body()).status_code == 200


def test_200_impatient_clients_leave_a_server_that_answers(api: ScriptedApi, url: str) -> None:
    def ask(_number: int) -> None:
        with contextlib.suppress(httpx.TimeoutException):
            client.post(f"{url}/v1/chat/completions", json=body(), timeout=0.2)

    with httpx.Client() as client, ThreadPoolExecutor(40) as pool:
        list(pool.map(ask, range(200)))
    api.model.begin_again(QUICK)
    eventually(lambda: api.model.num_streams == 0)
    began_s = time.monotonic()
    assert httpx.post(f"{url}/v1/chat/completions", json=body()).status_code == 200
    assert time.monotonic() - began_s < 5


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(post(b"{}").replace(b"Content-Length: 2", b"Content-Length: -2"), id="60 negative"),
        pytest.param(post(b"{}").replace(b"Content-Length: 2", b"Content-Length: 2x"), id="60 no number"),
        pytest.param(post(b"{}", "Content-Length: 3"), id="60 two lengths"),
        pytest.param(post(b"0\r\n\r\n", "Transfer-Encoding: chunked"), id="60 length and chunks"),
        pytest.param(post(b"{}", "Transfer-Encoding: gzip"), id="60 another coding"),
        pytest.param(post(b"{}").replace(b"Host: 127.0.0.1", b"Host: localhost/v1/x?"), id="62 a path as host"),
        pytest.param(post(b"{}").replace(b"Host: 127.0.0.1\r\n", b""), id="62 no host"),
        pytest.param(post(b"{}").replace(b"Host: 127.0.0.1", b"Host:"), id="62 an empty host"),
        pytest.param(post(b"{}", "Host: 127.0.0.1"), id="62 two hosts"),
        pytest.param(post(b"{}", *(f"X-{each}: {each}" for each in range(6000))), id="66 6,000 headers"),
        pytest.param(post(b"{}", "Authorization: Bearer " + "x" * 1_000_000), id="63 a key of 1 MB"),
        pytest.param(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\0b\r\n\r\n", id="63 NUL in a header"),
        pytest.param(b"GET /v1/../v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", id="64 up and down"),
        pytest.param(b"GET //v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", id="64 two slashes"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", id="TLS"),
    ],
)
def test_messages_that_are_no_good_http_are_refused(api: ScriptedApi, url: str, sent: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        assert 400 <= status_of(url, sent) < 500
    assert api.model.prompts == []
    assert httpx.get(f"{url}/health").status_code == 200


def test_300_clients_that_never_finish_their_headers_keep_nobody_out(url: str) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(300):
            opened.enter_context(connected(url, b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nX"))
        began_s = time.monotonic()
        assert httpx.get(f"{url}/health").status_code == 200
        assert time.monotonic() - began_s < 2


def test_a_head_that_is_not_finished_in_time_closes_its_connection(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.request_head.HEAD_S", 0.3)
    whole = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    for sent in (b"", b"GET", whole[:-2]):
        with connected(url, sent) as connection:
            assert connection.recv(100) == b""
    with connected(url, whole) as connection:  # and the second head of a connection as well
        received = b""
        while not received.endswith(b'{"status": "ok"}'):
            received += connection.recv(65_536)
        connection.sendall(whole[:-2])
        assert connection.recv(100) == b""
    with connected(url, b"") as connection:  # a byte now and then is no progress
        connection.settimeout(0.1)
        taken = 0
        with contextlib.suppress(ConnectionError):
            for byte in whole:
                connection.send(bytes([byte]))
                with contextlib.suppress(TimeoutError):
                    if connection.recv(1) == b"":
                        break
                taken += 1
        assert taken < 15


def test_the_time_for_a_head_cuts_neither_answers_nor_connections_at_rest(
    api: ScriptedApi, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ui.request_head.HEAD_S", 0.2)
    api.model.begin_again(Script(answer="word " * 20, tokens_per_s=50))
    with httpx.Client() as resting, httpx.Client() as reading:

        def port() -> Any:
            with resting.stream("GET", f"{url}/health") as answer:
                answer.read()
                return answer.extensions["network_stream"].get_extra_info("client_addr")

        before = port()
        with reading.stream("POST", f"{url}/v1/chat/completions", json=body(stream=True)) as answer:
            assert len([line for line in answer.iter_lines() if "word" in line]) == 20
        assert port() == before


def test_65_ranges_are_nothing_here(url: str) -> None:
    ranges = "bytes=" + ",".join(f"{each}-" for each in range(5000))
    assert httpx.get(f"{url}/v1/models", headers={"range": ranges}).status_code == 200


class OneAtATime(ScriptedModel):
    """One answer runs, the others wait in the model's queue."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self._turn = threading.Lock()

    @property
    def activity(self) -> EngineActivity:
        running = min(1, self.num_streams)
        return EngineActivity(running, self.num_streams - running, 1, 0, 1)

    def _events(self, *arguments: Any) -> Iterator[Any]:
        while not self._turn.acquire(timeout=0.1):
            yield from ()
        try:
            yield from super()._events(*arguments)
        finally:
            self._turn.release()


def test_a_full_queue_says_when_to_come_again() -> None:
    api = ScriptedApi(options=ApiOptions(max_waiting=16))
    api.load.chat_model = api.load.model = api.model = OneAtATime(Script(answer="a", hang_at=0, tokens_per_s=1000))
    refused: list[httpx.Response] = []

    def ask(_number: int) -> int:
        answer = client.post(f"{url}/v1/chat/completions", json=body(), timeout=60)
        if answer.status_code == 429:
            refused.append(answer)
            if len(refused) == 83:
                api.model.released.set()
        return answer.status_code

    limits = httpx.Limits(max_connections=None)
    with on_a_port(api) as url, httpx.Client(limits=limits) as client:
        with ThreadPoolExecutor(100) as pool:
            statuses = list(pool.map(ask, range(100)))
        assert (statuses.count(200), statuses.count(429)) == (17, 83)
        assert refused[0].json()["error"]["code"] == "queue_full"
        assert 1 <= int(refused[0].headers["retry-after"]) <= 30
        assert [ask(0), ask(0)] == [200, 200]


def test_one_request_with_many_prompts_is_served_in_turns() -> None:
    api = ScriptedApi(options=ApiOptions(max_waiting=0))
    api.load.chat_model = api.load.model = api.model = OneAtATime(Script(answer="a", tokens_per_s=1000))
    answer = api.complete(["x"] * 20, n=2)
    assert answer.status_code == 200
    assert len(answer.json()["choices"]) == 40
