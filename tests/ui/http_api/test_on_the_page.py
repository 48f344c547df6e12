"""The API on the page's port: the same routes behind the same guard, beside a page that stays as it was."""

import gc
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from model_loader.errors import InvalidSetting
from tests.benchmarks.start import free_port
from tests.scripted_model import Script
from tests.ui.http_api.served_api import HELLO, QUICK, ScriptedApi, chunks_of, error_of, eventually
from ui.http_api.options import ApiOptions
from ui.web.launch import ServedPage, launch_page
from ui.web.options import PageOptions

# Gradio leaves its event loop and some sockets to the garbage collector when a page is closed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
KEY = {"authorization": "Bearer sk-page"}
BODY = {"model": "scripted", "messages": HELLO}


@pytest.fixture(scope="module")
def api() -> ScriptedApi:
    return ScriptedApi(options=ApiOptions(keys=("sk-page",)))


@pytest.fixture(scope="module")
def page(api: ScriptedApi) -> Iterator[ServedPage]:
    served = launch_page(api.load, PageOptions(server_port=free_port()), None, api.api)  # type: ignore[arg-type]
    yield served
    served.close()
    gc.collect()


@pytest.fixture
def client(page: ServedPage, api: ScriptedApi) -> Iterator[httpx.Client]:
    api.model.begin_again(QUICK)
    with httpx.Client(base_url=page.url, headers=KEY, timeout=20) as opened:
        yield opened


def test_both_are_there_and_only_the_api_wants_a_key(client: httpx.Client) -> None:
    assert client.get("/v1/models").json()["data"][0]["id"] == "scripted"
    assert client.get("/", headers={"authorization": ""}).status_code == 200
    assert client.get("/health", headers={"authorization": ""}).status_code == 200
    error_of(client.get("/v1/models", headers={"authorization": ""}), 401)
    error_of(client.get("/v1/nothing"), 404)
    assert client.get("/openapi.json").text == "Not found."


def test_an_answer_streams_through_the_pages_application(client: httpx.Client, api: ScriptedApi) -> None:
    answer = client.post("/v1/chat/completions", json={**BODY, "stream": True})
    assert len(chunks_of(answer)) > 5
    assert client.post("/v1/completions", json={"model": "scripted", "prompt": "x"}).status_code == 200
    api.model.begin_again(Script(answer="word " * 500, tokens_per_s=50))
    with client.stream("POST", "/v1/chat/completions", json={**BODY, "stream": True}) as opened:
        began_s = time.monotonic()
        next(line for line in opened.iter_lines() if "word" in line)
        assert time.monotonic() - began_s < 3  # nothing on the way collects pieces
    eventually(lambda: api.model.num_streams == 0, 2.0)


def test_the_body_may_be_larger_than_the_pages(client: httpx.Client) -> None:
    long = [{"role": "user", "content": "x" * 900_000}]
    error_of(client.post("/v1/chat/completions", json={**BODY, "model": "y", "messages": long}), 404)
    assert client.post("/gradio_api/queue/join", json={"data": ["x" * 900_000]}).status_code == 413


def test_other_sites_are_kept_out_of_both(client: httpx.Client) -> None:
    evil = {"origin": "https://evil.example"}
    error_of(client.post("/v1/chat/completions", json=BODY, headers=evil), 403)
    assert client.post("/gradio_api/queue/join", json={}, headers=evil).status_code == 403


JOIN = {"data": [], "fn_index": 0, "session_hash": "abc", "event_data": None, "trigger_id": None}
BAD_JOINS = {
    "fn_index -1": {"fn_index": -1},
    "fn_index 999": {"fn_index": 999},
    "no session": {"session_hash": None},
    "a session of 100 KB": {"session_hash": "x" * 100_000},
    "a trigger of nothing": {"trigger_id": 99_999},
    "junk of an event": {"event_data": {"x": [1, {"y": None}]}},
    "data that are none": {"data": {"a": 1}},
}


@pytest.mark.parametrize("fields", BAD_JOINS.values(), ids=BAD_JOINS)
def test_68_bad_events_do_the_page_no_harm(client: httpx.Client, fields: dict[str, Any]) -> None:
    assert client.post("/gradio_api/queue/join", json={**JOIN, **fields}).status_code < 500
    assert client.get("/").status_code == 200
    assert client.get("/ready").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/call/x", "/gradio_api/run/x", "/gradio_api/component_server", "/gradio_api/upload",
        "/gradio_api/api/x", "/gradio_api/deep_link",
    ],
)  # fmt: skip
def test_69_other_ways_into_gradio_are_closed(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json={"session_hash": "unknown"})
    assert (answer.status_code, answer.text) == (404, "Not found.")


def test_closing_the_page_ends_the_apis_answers_too() -> None:
    api = ScriptedApi(Script(answer="word " * 2000, tokens_per_s=20))
    options = PageOptions(server_port=free_port())
    served = launch_page(api.load, options, None, api.api)  # type: ignore[arg-type]
    with httpx.stream("POST", f"{served.url}v1/chat/completions", json={**BODY, "stream": True}) as answer:
        lines = answer.iter_lines()
        next(line for line in lines if "word" in line)
        served.close()
        assert [line for line in lines if line][-1] == "data: [DONE]"
    eventually(lambda: api.model.num_streams == 0)
    gc.collect()


def test_an_address_that_others_reach_has_no_api_without_a_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import app
    from ui.web import launch

    given: list[Any] = []
    monkeypatch.setattr(launch, "serve_page", lambda load, options, menu, api: given.append(api) or 0)
    assert app.main(["--server-name", "0.0.0.0"], {}) == 0
    assert "The API is off: others can reach the page" in capsys.readouterr().err
    assert app.main(["--no-api"], {}) == 0
    assert app.main(["--server-name", "0.0.0.0", "--api-key", "k"], {}) == 0
    assert app.main([], {}) == 0
    assert [api is None for api in given] == [True, True, False, False]
    with pytest.raises(InvalidSetting):
        ApiOptions(keys=("",))
