"""Servers behind one another: the built-in model, its API, a model of that API, and an API of that model."""

from collections.abc import Iterator
from functools import partial

import httpx
import pytest

from model_loader.background_load import BackgroundLoad
from model_loader.chat_format.chatml import Opening
from model_loader.chat_format.messages import Message
from model_loader.chat_model import Controls
from model_loader.chat_source import ChatSource
from model_loader.engine.request import Sampling
from model_loader.errors import ContextLengthExceeded
from model_loader.events import Event, Finished, Scores, TextDelta, Waiting
from model_loader.loading.placement import LoadOptions
from model_loader.open_model import open_chat_model
from model_loader.remote.options import RemoteOptions
from model_loader.remote.remote_model import RemoteModel, open_remote_model
from tests.api_stub import ApiStub, chat, refusal, serve
from tests.benchmarks.start import free_port
from ui.http_api.serve import ServedApi
from ui.http_api.server import Api

GREEDY = Sampling(max_new_tokens=60, temperature=0.0)
QUESTION = [Message("user", "How do I load a real model?")]


def serve_model(model: ChatSource) -> ServedApi:
    """An API of the model; closing it closes the model."""
    load = BackgroundLoad(lambda report: model)
    served = ServedApi(Api(load), load, "127.0.0.1", free_port())
    load.start()
    load.wait()
    return served


@pytest.fixture(scope="module", params=["its API", "an API of its API"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[ChatSource, RemoteModel]]:
    """The engine's model, and what is behind one or two ports of it."""
    engine = open_chat_model("builtin", LoadOptions(cpu_only=True), lambda progress: None)
    served = [serve_model(engine)]
    model = open_remote_model(RemoteOptions(served[0].url), "builtin", lambda progress: None)
    if request.param == "an API of its API":
        served.append(serve_model(model))
        model = open_remote_model(RemoteOptions(served[-1].url), "builtin", lambda progress: None)
    yield engine, model
    model.close()
    for each in reversed(served):
        each.close()


@pytest.fixture
def engine(pair: tuple[ChatSource, RemoteModel]) -> ChatSource:
    return pair[0]


@pytest.fixture
def elsewhere(pair: tuple[ChatSource, RemoteModel]) -> RemoteModel:
    return pair[1]


def read(events: Iterator[Event]) -> list[Event]:
    return [each for each in events if not isinstance(each, Waiting)]


def text_of(events: list[Event]) -> str:
    return "".join(each.text for each in events if isinstance(each, TextDelta))


def test_an_answer_is_the_same_here_and_elsewhere(engine: ChatSource, elsewhere: RemoteModel) -> None:
    assert (elsewhere.name, elsewhere.context_length, elsewhere.window_reason) == ("builtin", 2048, "")
    here, there = read(engine.stream(QUESTION, GREEDY)), read(elsewhere.stream(QUESTION, GREEDY))
    assert text_of(there) == text_of(here) != ""
    one, other = here[-1], there[-1]
    assert isinstance(one, Finished)
    assert isinstance(other, Finished)
    assert (other.reason, other.usage.is_estimate) == (one.reason, False)
    assert other.usage.prompt_tokens == one.usage.prompt_tokens
    assert other.usage.completion_tokens == one.usage.completion_tokens


def test_seeds_stops_and_beginnings_are_the_same_too(engine: ChatSource, elsewhere: RemoteModel) -> None:
    drawn = Sampling(max_new_tokens=30, temperature=1.2, top_k=50, seed=7, repetition_penalty=1.1)
    assert text_of(read(elsewhere.stream(QUESTION, drawn))) == text_of(read(engine.stream(QUESTION, drawn)))
    for asked in ({"stop": ["."]}, {"opening": Opening("You can")}):
        here = read(engine.stream(QUESTION, GREEDY, **asked))  # type: ignore[arg-type]
        there = read(elsewhere.stream(QUESTION, GREEDY, **asked))  # type: ignore[arg-type]
        assert text_of(there) == text_of(here)
    assert text_of(read(elsewhere.complete("The page", GREEDY))) == text_of(read(engine.complete("The page", GREEDY)))


def test_scores_are_the_same_too(engine: ChatSource, elsewhere: RemoteModel) -> None:
    controls = Controls(top_logprobs=2)

    def scores(model: ChatSource) -> list[tuple[bytes, float]]:
        events = [each for each in model.stream(QUESTION, GREEDY, controls=controls) if isinstance(each, Scores)]
        return [(token.token, round(token.logprob or 0.0, 3)) for each in events for token in each.tokens]

    assert scores(elsewhere) == scores(engine) != []


def test_a_prompt_over_the_window_is_told_with_the_same_numbers(engine: ChatSource, elsewhere: RemoteModel) -> None:
    long = [Message("user", "word " * 3000)]
    with pytest.raises(ContextLengthExceeded) as here:
        read(engine.stream(long, GREEDY))
    with pytest.raises(ContextLengthExceeded) as there:
        read(elsewhere.stream(long, GREEDY))
    assert str(there.value) == str(here.value)


def test_leaving_reaches_the_engine(engine: ChatSource, elsewhere: RemoteModel) -> None:
    events = elsewhere.stream(QUESTION, Sampling(max_new_tokens=1500, temperature=2.0, seed=1))
    while not isinstance(next(events), TextDelta):
        pass
    events.close()
    for _ in range(500):
        if engine.activity.num_running == 0:
            break
        httpx.get(f"{elsewhere._options.api}/models")
    assert engine.activity.num_running == 0


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (refusal(401, "no"), 502, "bad_gateway"),
        (refusal(404, "The model `qwen` does not exist."), 502, "bad_gateway"),
        (refusal(503, "full", retry_after="900"), 503, "unavailable"),
        (refusal(400, "temperature is too hot"), 400, "invalid_value"),
        (refusal(500, "broken"), 500, "generation_failed"),
        (chat("fine"), 200, None),
    ],
)
def test_what_the_server_behind_says_becomes_a_status(answer: object, status: int, code: str | None) -> None:
    with serve(ApiStub()) as stub:
        stub.answers_chats(answer)  # type: ignore[arg-type]
        load = BackgroundLoad(partial(open_remote_model, RemoteOptions(stub.url), "builtin"))
        served = ServedApi(Api(load), load, "127.0.0.1", free_port())
        load.start()
        load.wait()
        body = {"model": "qwen", "messages": [{"role": "user", "content": "Hello"}]}
        got = httpx.post(f"{served.url}/chat/completions", json=body)
        served.close()
    assert got.status_code == status, got.text
    assert got.json().get("error", {}).get("code") == code


def test_a_server_that_has_gone_is_a_bad_gateway_and_then_not_ready() -> None:
    with serve(ApiStub()) as stub:
        load = BackgroundLoad(partial(open_remote_model, RemoteOptions(stub.url), "builtin"))
        served = ServedApi(Api(load), load, "127.0.0.1", free_port())
        load.start()
        load.wait()
    root = served.url.removesuffix("/v1")
    body = {"model": "qwen", "messages": [{"role": "user", "content": "Hello"}]}
    assert httpx.get(f"{root}/ready").status_code == 200
    assert httpx.post(f"{served.url}/chat/completions", json=body).status_code == 502
    assert httpx.get(f"{root}/ready").status_code == 503
    served.close()
