"""Which model a server has for us, and what it says about it."""

import pytest

from model_loader.errors import (
    CheckpointNotFound,
    InvalidSetting,
    ModelLoaderError,
    ServerBusy,
    ServerIncompatible,
    ServerRefusesKey,
)
from model_loader.progress import LoadProgress
from model_loader.remote.options import RemoteOptions
from model_loader.remote.remote_model import RemoteModel, open_remote_model
from tests.api_stub import Answer, ApiStub, as_json, card, chat, refusal, serve


def open_at(stub: ApiStub, wanted: str = "builtin", **options: object) -> RemoteModel:
    """The model, closed again: what it is stays readable."""
    model = open_remote_model(RemoteOptions(stub.url, **options), wanted, lambda progress: None)  # type: ignore[arg-type]
    model.close()
    return model


def test_the_only_model_is_taken_and_says_where_it_is() -> None:
    with serve(ApiStub(card("Qwen/Qwen3-4B", owned_by="vllm", max_model_len=40_960))) as stub:
        reported: list[LoadProgress] = []
        model = open_remote_model(RemoteOptions(stub.url, "k3y"), "builtin", reported.append)
        model.close()
    assert reported == [LoadProgress("server")]
    assert (model.name, model.context_length, model.window_reason) == ("Qwen/Qwen3-4B", 40_960, "")
    assert model.placement.reason == f"another program, vLLM at {stub.url}"
    assert model.placement.summary == f"vLLM at 127.0.0.1:{stub.port}"
    assert model.default_sampling.max_new_tokens == 2048
    assert stub.asked[0].headers["authorization"] == "Bearer k3y"


def test_one_of_several_has_to_be_chosen() -> None:
    with serve(ApiStub(card("one"), card("two:latest"), card("bad\x1b[31mname"), card(""), {"id": 5})) as stub:
        with pytest.raises(CheckpointNotFound, match=r"has 2 models\. Choose one with -c: one, two:latest"):
            open_at(stub)
        assert open_at(stub, "one").name == "one"
        assert open_at(stub, "two").name == "two:latest"


def test_a_model_called_builtin_is_taken_by_its_name() -> None:
    with serve(ApiStub(card("other"), card("builtin"))) as stub:
        assert open_at(stub).name == "builtin"


def test_a_long_list_is_cut() -> None:
    with (
        serve(ApiStub(*(card(f"model-{number}") for number in range(300)))) as stub,
        pytest.raises(CheckpointNotFound, match=r"has 300 models.*model-11 and 288 more"),
    ):
        open_at(stub)


def test_a_name_that_is_not_listed_is_tried_with_one_token() -> None:
    """transformers' server lists what is in its cache, and answers to the folder it was started with as well."""
    with serve(ApiStub(card("cached"))) as stub:
        stub.answers_chats(as_json({"choices": []}))
        assert open_at(stub, "/models/mine").name == "/models/mine"
        assert stub.bodies()[0]["max_tokens"] == 1
        stub.answers_chats(refusal(404, "The model does not exist"))
        with pytest.raises(CheckpointNotFound, match=r"has no model 'mine'\. It has cached"):
            open_at(stub, "mine")
        stub.answers_chats(refusal(401, "no"))
        with pytest.raises(ServerRefusesKey):
            open_at(stub, "mine")


def test_a_server_without_a_list_takes_a_name_and_without_models_says_so() -> None:
    with serve(ApiStub()) as stub:
        stub.routes["/v1/models"] = as_json({"detail": "CacheNotFound"}, 500)
        with pytest.raises(CheckpointNotFound, match="Give the name of one with -c"):
            open_at(stub)
        stub.answers_chats(chat("x"))
        assert open_at(stub, "mine").name == "mine"
        stub.routes["/v1/models"] = as_json({"data": []})
        with pytest.raises(CheckpointNotFound, match=r"lists no model\. Load one there"):
            open_at(stub)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (as_json({"detail": "Not Found"}, 404), ServerIncompatible),
        (as_json({"error": "no"}, 401), ServerRefusesKey),
        (as_json({"hello": "world"}), ServerIncompatible),
        (as_json([1]), ServerIncompatible),
        (Answer([b"<html>"], kind="text/html"), ServerIncompatible),
        (Answer(status=301, headers={"Location": "https://elsewhere/"}), ServerIncompatible),
        (Answer([b"{}"], status=503, headers={"Retry-After": "900"}), ServerBusy),
    ],
)
def test_what_is_no_list_is_told(answer: Answer, kind: type[ModelLoaderError]) -> None:
    with serve(ApiStub()) as stub:
        stub.routes["/v1/models"] = answer
        with pytest.raises(kind):
            open_at(stub)


def test_a_server_that_ends_idle_connections_is_asked_once_more() -> None:
    def end(asked: object) -> Answer:
        if len(stub.asked) % 2:
            raise OSError
        return models

    with serve(ApiStub()) as stub:
        models = stub.routes["/v1/models"]
        assert isinstance(models, Answer)
        stub.routes["/v1/models"] = end
        assert open_at(stub).name == "qwen"


def test_a_server_that_is_still_starting_is_asked_again() -> None:
    with serve(ApiStub()) as stub:
        ready = stub.routes["/v1/models"]
        answers = [as_json({"error": "loading"}, 503), ready]
        stub.routes["/v1/models"] = lambda asked: answers.pop(0)  # type: ignore[assignment, return-value]
        assert open_at(stub).name == "qwen"


# The window


@pytest.mark.parametrize(
    ("told", "props", "window"),
    [
        ({"max_model_len": 2048}, None, 2048),
        ({"context_length": 1_000_000}, None, 1_000_000),
        ({"meta": {"n_ctx_train": 32_768}}, {"default_generation_settings": {"n_ctx": 4096}}, 4096),
        ({"meta": {"n_ctx_train": 32_768}}, {"default_generation_settings": None}, 32_768),
        ({"meta": {"n_ctx_train": 32_768}}, None, 32_768),
        ({"meta": {"n_ctx": 8192, "n_ctx_train": 32_768}}, None, 8192),
    ],
)
def test_the_window_is_what_the_server_tells(told: dict[str, object], props: object, window: int) -> None:
    with serve(ApiStub(card("qwen", **told))) as stub:
        if props is not None:
            stub.routes["/props"] = as_json(props)
        model = open_at(stub)
    assert (model.context_length, model.window_reason) == (window, "")


@pytest.mark.parametrize("told", [{}, {"max_model_len": "4096"}, {"max_model_len": -1}, {"max_model_len": True}])
def test_a_window_that_nobody_tells_is_assumed_and_says_so(told: dict[str, object]) -> None:
    with serve(ApiStub(card("qwen", **told))) as stub:
        model = open_at(stub)
        assert (model.context_length, model.window_reason) == (8192, "assumed, --context-length tells another")
        model = open_at(stub, context_length=1000)
        assert (model.context_length, model.window_reason) == (1000, "--context-length")
        assert model.default_sampling.max_new_tokens == 500


def test_a_window_longer_than_the_servers_is_refused() -> None:
    with serve(ApiStub()) as stub:
        assert open_at(stub, context_length=4000).context_length == 4000
        with pytest.raises(InvalidSetting, match=r"--context-length is 5,000, but the server .* reads 4,096"):
            open_at(stub, context_length=5000)


# The address


@pytest.mark.parametrize(
    ("url", "api"),
    [
        ("http://gpu1:8000/v1", "http://gpu1:8000/v1"),
        ("https://gpu1/v1/", "https://gpu1/v1"),
        ("http://gpu1:8000", "http://gpu1:8000/v1"),
        ("http://[::1]:8000/some/path/v1", "http://[::1]:8000/some/path/v1"),
    ],
)
def test_addresses(url: str, api: str) -> None:
    options = RemoteOptions(url)
    assert options.api == api
    assert options.is_on_this_machine == ("::1" in url)


@pytest.mark.parametrize(
    "url", ["", "gpu1:8000", "ftp://gpu1/v1", "file:///etc/passwd", "http://", "http:///v1", "http://gpu1:99999/v1",
            "http://gpu1/v1?key=s3cret", "http://gpu1/v1#s3cret", "http://me:s3cret@gpu1/v1", "http://s3cret@gpu1/v1",
            "http://gpu 1/v1", "http://gpu1/v1\n", "http://[::1/v1", "http://例子/v1"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(InvalidSetting, match="--base-url") as caught:
        RemoteOptions(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("key", ["two words", "line\nend", "schlüssel", "\x00"])
def test_a_key_that_is_none_is_refused_and_no_key_is_shown(key: str) -> None:
    with pytest.raises(InvalidSetting, match="--base-url-key holds") as caught:
        RemoteOptions("http://gpu1/v1", key)
    assert key not in str(caught.value)
    assert "k3y" not in repr(RemoteOptions("http://gpu1/v1", "k3y"))
    with pytest.raises(InvalidSetting, match="--context-length is 3"):
        RemoteOptions("http://gpu1/v1", context_length=3)
