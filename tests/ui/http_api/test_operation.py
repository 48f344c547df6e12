"""What an operator sees: health, readiness, figures, the list of models, the document; and an end in order."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.scripted_model import Script
from tests.ui.http_api.served_api import HELLO, QUICK, ScriptedApi, chunks_of, error_of, eventually, on_a_port


@pytest.fixture
def loading() -> Iterator[ScriptedApi]:
    api = ScriptedApi(is_loaded=False)
    yield api
    api.model.close()


def figures(api: ScriptedApi) -> dict[str, float]:
    text = api.ask("GET", "/metrics").text
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_model_on_its_way_is_told_with_503(loading: ScriptedApi) -> None:
    assert loading.ask("GET", "/health").status_code == 200
    assert loading.ask("GET", "/ready").json() == {"status": "loading"}
    for answer in (loading.chat(), loading.complete(), loading.ask("GET", "/v1/models")):
        error_of(answer, 503)
        assert answer.headers["retry-after"]
    loading.load.finish()
    assert loading.ask("GET", "/ready").status_code == 200
    assert loading.chat().status_code == 200


def test_a_model_that_will_not_come_is_told(loading: ScriptedApi) -> None:
    loading.load.fail("There is no folder '/home/me/secret'.")
    answer = loading.ask("GET", "/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "failed"})
    assert "secret" not in error_of(loading.chat(), 503)["message"]


def test_a_sick_engine_is_told(loading: ScriptedApi) -> None:
    loading.load.finish()
    loading.model.problem = "The model has computed nothing for 30 seconds."
    assert loading.ask("GET", "/ready").json() == {"status": "unhealthy"}
    assert "30 seconds" in error_of(loading.chat(), 503)["message"]
    assert loading.ask("GET", "/health").status_code == 200


def test_the_model_is_listed_and_found_by_its_name() -> None:
    api = ScriptedApi(context_length=777)
    (card,) = api.ask("GET", "/v1/models").json()["data"]
    assert (card["id"], card["object"], card["max_model_len"]) == ("scripted", "model", 777)
    assert api.ask("GET", "/v1/models/scripted").json() == card
    error_of(api.ask("GET", "/v1/models/other"), 404)
    api.model.name = "Qwen/Qwen3-4B"
    for path in ("/v1/models/Qwen/Qwen3-4B", "/v1/models/Qwen%2FQwen3-4B"):
        assert api.ask("GET", path).json()["id"] == "Qwen/Qwen3-4B"


def test_a_folder_is_served_by_its_last_name(tmp_path_factory: pytest.TempPathFactory) -> None:
    api = ScriptedApi()
    api.model.name = str(tmp_path_factory.mktemp("my-model"))
    name = api.ask("GET", "/v1/models").json()["data"][0]["id"]
    assert name.startswith("my-model")
    assert "/" not in name
    assert api.chat(model=name).json()["model"] == name


def test_the_figures_count_requests_and_tokens() -> None:
    api = ScriptedApi(QUICK)
    api.chat()
    api.chat(stream=True)
    api.chat(n=0)
    found = figures(api)
    assert found["qwen_chat_requests_total['/v1/chat/completions', '200']"] == 2
    assert found["qwen_chat_requests_total['/v1/chat/completions', '400']"] == 1
    assert found["qwen_chat_tokens_total['completion']"] == 20
    assert found["qwen_chat_first_token_seconds_count[]"] == 2
    assert found["qwen_chat_next_token_seconds_count[]"] == 2
    assert found["qwen_chat_running[]"] == 0
    assert found["qwen_chat_slots[]"] == 4
    assert found["qwen_chat_kv_tokens[]"] == 4096


def test_a_model_that_is_asked_whether_it_is_loaded() -> None:
    api = ScriptedApi()
    assert '"ready"' in api.ask("POST", "/load_model", json={"model": "scripted"}).text
    error_of(api.ask("POST", "/load_model", json={"model": "other"}), 404)


def test_the_document_describes_every_route() -> None:
    api = ScriptedApi()
    document = api.ask("GET", "/v1/openapi.json").json()
    assert set(document["paths"]) == {route.path.replace(":path", "") for route in api.api.routes}
    assert document["components"]["schemas"]["ChatRequest"]["additionalProperties"] is False
    assert "security" not in document


def test_draining_lets_running_answers_end_and_refuses_new_ones() -> None:
    api = ScriptedApi(Script(answer="word " * 20, tokens_per_s=20))
    with on_a_port(api) as url, ThreadPoolExecutor() as pool:
        body = {"model": "scripted", "messages": HELLO}
        running = pool.submit(httpx.post, f"{url}/v1/chat/completions", json=body, timeout=20)
        eventually(lambda: api.model.num_streams == 1)
        ending = pool.submit(api.api.drain, 10.0)
        eventually(lambda: httpx.get(f"{url}/ready").status_code == 503)
        assert httpx.get(f"{url}/ready").json() == {"status": "draining"}
        assert httpx.post(f"{url}/v1/chat/completions", json=body).status_code == 503
        assert httpx.get(f"{url}/health").status_code == 200
        assert not ending.done()
        assert running.result().json()["choices"][0]["message"]["content"] == "word " * 20
        ending.result(1.0)


def test_draining_does_not_wait_for_ever() -> None:
    api = ScriptedApi(Script(answer="word " * 2000, tokens_per_s=20))
    body = {"model": "scripted", "messages": HELLO}
    with on_a_port(api) as url, ThreadPoolExecutor() as pool:
        streamed = pool.submit(httpx.post, f"{url}/v1/chat/completions", json={**body, "stream": True}, timeout=20)
        whole = pool.submit(httpx.post, f"{url}/v1/chat/completions", json=body, timeout=20)
        eventually(lambda: api.model.num_streams == 2)
        began_s = time.monotonic()
        api.api.drain(0.3)
        assert time.monotonic() - began_s < 2
        assert "has been ended" in chunks_of(streamed.result(1))[-1]["error"]["message"]
        assert "has been ended" in error_of(whole.result(1), 503)["message"]
        eventually(lambda: api.model.num_streams == 0)
