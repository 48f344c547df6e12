"""An API over a scripted model: on a free port, or without one for units."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.benchmarks.start import free_port
from tests.scripted_model import Script, ScriptedLoad, ScriptedModel
from tests.ui.test_guard import run
from ui.http_api.options import ApiOptions
from ui.http_api.serve import ServedApi, application
from ui.http_api.server import Api

QUICK = Script(tokens_per_s=5000)
HELLO = [{"role": "user", "content": "Hello!"}]


class ScriptedApi:
    """An API, the model behind it and ways to ask it without a port."""

    def __init__(
        self,
        script: Script = QUICK,
        options: ApiOptions | None = None,
        *,
        is_loaded: bool = True,
        context_length: int = 4096,
    ) -> None:
        self.model = ScriptedModel(script, context_length)
        self.load = ScriptedLoad(self.model, is_loaded=is_loaded)
        self.api = Api(self.load, options)  # type: ignore[arg-type]

    def ask(self, method: str, path: str, server_name: str = "127.0.0.1", **arguments: Any) -> httpx.Response:
        """One request, through the guard."""

        async def answer() -> httpx.Response:
            transport = httpx.ASGITransport(application(self.api, server_name))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
                return await client.request(method, path, **arguments)

        return run(answer())

    def chat(self, messages: Any = None, **fields: Any) -> httpx.Response:
        """A chat completion."""
        body = {"model": "scripted", "messages": HELLO if messages is None else messages, **fields}
        return self.ask("POST", "/v1/chat/completions", json=body)

    def complete(self, prompt: Any = "Once", **fields: Any) -> httpx.Response:
        """A text completion."""
        return self.ask("POST", "/v1/completions", json={"model": "scripted", "prompt": prompt, **fields})


@contextmanager
def on_a_port(api: ScriptedApi) -> Iterator[str]:
    """Serves it; its address without the path."""
    served = ServedApi(api.api, api.load, "127.0.0.1", free_port())  # type: ignore[arg-type]
    try:
        yield served.url.removesuffix("/v1")
    finally:
        api.model.released.set()
        served.close()


def chunks_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """The objects of a stream, which ends as it should."""
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    *events, done, end = answer.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events if not event.startswith(":")]


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error of a refused request, whose form is OpenAI's."""
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


def eventually(is_so: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Waits until something is so."""
    deadline_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.01)
