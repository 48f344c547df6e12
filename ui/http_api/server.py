"""The routes of the API: who may ask, whether there is a model and room, and what each route answers.

In: a model on its way and options. Out: routes for a Starlette application or for the page's, and their rows for the
guard, which stands before them. Answers are made on threads; the event loop only passes them on.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from model_loader.background_load import BackgroundLoad
from model_loader.chat_source import ChatSource
from ui.guard import GET, POST, AllowedRoute
from ui.http_api.access import Access
from ui.http_api.answering import Answering
from ui.http_api.body import read_body
from ui.http_api.chat_schema import ChatRequest
from ui.http_api.errors import api_error, unavailable
from ui.http_api.exchange import ClientGone, Exchange
from ui.http_api.metrics import MEDIA_TYPE, Metrics
from ui.http_api.options import ApiOptions
from ui.http_api.schema import CompletionRequest, LoadRequest
from ui.http_api.translate import chat_questions, check_model, completion_questions, served_name

_LEAST_BODY_BYTES = 1024 * 1024
_BYTES_PER_TOKEN = 12
"""Room for a window full of text that JSON has escaped: Chinese takes nine bytes a token then."""
_LOOK_S = 0.05
_CUT_S = 1.5
"""Time for every answer to notice that it ends, and to say so."""
Handle = Callable[[Exchange, str], Awaitable[None]]


class Api:
    """The API over one load. Its routes are served by one event loop; `drain` is called from another thread.

    Attributes:
        routes: for the application that serves them.
        guarded: what the guard lets through to them.
        prefix: of the paths that clients know.
        needs_key: whether it answers only to those who bring a key.
    """

    prefix = "/v1/"

    def __init__(self, load: BackgroundLoad, options: ApiOptions | None = None) -> None:
        options = options or ApiOptions()
        self._load = load
        self._access = Access(options.keys)
        self.needs_key = self._access.has_keys
        self._metrics = Metrics(load)
        self._answering = Answering(self._metrics, options.max_waiting)
        self._is_draining = False
        self._created = int(time.time())
        origins = frozenset(options.cors_origins)
        self.guarded: tuple[AllowedRoute, ...] = (
            AllowedRoute("/health"),
            AllowedRoute("/ready"),
            AllowedRoute("/metrics"),
            AllowedRoute("/load_model", POST),
            AllowedRoute("/v1/openapi.json", origins=origins),
            AllowedRoute("/v1/models", origins=origins),
            AllowedRoute("/v1/models/", is_prefix=True, has_escaped_slash=True, origins=origins),
            AllowedRoute("/v1/chat/completions", POST, origins=origins, max_body_bytes=self._max_body_bytes),
            AllowedRoute("/v1/completions", POST, origins=origins, max_body_bytes=self._max_body_bytes),
        )
        self.routes: Sequence[Any] = (
            self._route("/health", self._health, is_public=True),
            self._route("/ready", self._ready, is_public=True),
            self._route("/metrics", self._figures),
            self._route("/load_model", self._load_model, POST),
            self._route("/v1/openapi.json", self._openapi),
            self._route("/v1/models", self._models),
            self._route("/v1/models/{name:path}", self._model),
            self._route("/v1/chat/completions", self._chat, POST),
            self._route("/v1/completions", self._complete, POST),
        )

    def drain(self, timeout_s: float) -> None:
        """Refuses what is new, lets running answers go on for so long at most, then ends them as they are."""
        self._is_draining = True
        self._wait_for_answers(timeout_s)
        self._answering.is_ending = True
        self._wait_for_answers(_CUT_S)

    def _wait_for_answers(self, timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        while self._answering.num_running and time.monotonic() < deadline_s:
            time.sleep(_LOOK_S)

    def _max_body_bytes(self) -> int:
        chat_model = self._load.chat_model
        window = chat_model.context_length if chat_model is not None else 0
        return max(_LEAST_BODY_BYTES, window * _BYTES_PER_TOKEN)

    def _route(self, path: str, handle: Handle, methods: frozenset[str] = GET, *, is_public: bool = False) -> Route:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            exchange = Exchange(scope, receive, send)
            try:
                await handle(exchange, "" if is_public else self._access.owner(exchange.headers, exchange.client))
            except ClientGone:
                exchange.status = 499
            except Exception as error:
                answer = api_error(error)
                if exchange.status == 499:  # nothing was sent yet
                    await exchange.reply(answer.status, answer.to_json(), headers=answer.headers)
            finally:
                self._metrics.note_request(path, exchange.status)

        return Route(path, _Application(serve), methods=sorted(methods))

    def _trouble(self) -> str | None:
        """Why no answers are made now, in one word; None if they are."""
        if self._is_draining:
            return "draining"
        chat_model = self._load.chat_model
        if chat_model is None:
            return "loading" if self._load.error is None else "failed"
        return None if chat_model.problem is None else "unhealthy"

    def _chat_model(self) -> ChatSource:
        """
        Raises:
            ApiError: 503, there is none now.
        """
        chat_model, trouble = self._load.chat_model, self._trouble()
        if trouble in ("draining", "loading"):
            what = "The server is ending." if trouble == "draining" else "The model is still being loaded."
            raise unavailable(what)
        if chat_model is None or trouble is not None:
            raise unavailable((chat_model.problem if chat_model else None) or "The model could not be loaded.")
        return chat_model

    async def _health(self, exchange: Exchange, _owner: str) -> None:
        await exchange.reply_json(200, {"status": "ok"})

    async def _ready(self, exchange: Exchange, _owner: str) -> None:
        trouble = self._trouble()
        await exchange.reply_json(503 if trouble else 200, {"status": trouble or "ready"})

    async def _figures(self, exchange: Exchange, _owner: str) -> None:
        await exchange.reply(200, self._metrics.text(), MEDIA_TYPE)

    async def _load_model(self, exchange: Exchange, _owner: str) -> None:
        """What `transformers chat` asks before it begins, of `transformers serve`; nothing is ever loaded by it."""
        request = read_body(await exchange.body(), exchange.headers, LoadRequest)
        check_model(request.model, self._chat_model())
        await exchange.begin_stream()
        ready = {"status": "ready", "model": request.model, "cached": True}
        await exchange.send_text(f"data: {json.dumps(ready)}\n\n")
        await exchange.end_stream()

    async def _openapi(self, exchange: Exchange, _owner: str) -> None:
        await asyncio.to_thread(_import_openai)
        from ui.http_api.openapi import document

        chat_model = self._load.chat_model
        name = served_name(chat_model) if chat_model is not None else None
        await exchange.reply_json(200, document(name, has_keys=self.needs_key))

    async def _models(self, exchange: Exchange, _owner: str) -> None:
        await exchange.reply_json(200, {"object": "list", "data": [self._card(self._chat_model())]})

    async def _model(self, exchange: Exchange, _owner: str) -> None:
        chat_model = self._chat_model()
        check_model(exchange.path_name, chat_model)
        await exchange.reply_json(200, self._card(chat_model))

    def _card(self, chat_model: ChatSource) -> dict[str, object]:
        """The model as OpenAI lists models, and its window under the name that vLLM gives it."""
        card = {"id": served_name(chat_model), "object": "model", "created": self._created, "owned_by": "local"}
        return {**card, "max_model_len": chat_model.context_length}

    async def _chat(self, exchange: Exchange, owner: str) -> None:
        chat_model = self._chat_model()
        request = read_body(await exchange.body(), exchange.headers, ChatRequest)
        check_model(request.model, chat_model)
        questions = chat_questions(request, chat_model, owner)
        await asyncio.to_thread(_import_openai)
        from ui.http_api.answers import make_head
        from ui.http_api.stream import ChatStream, ChatWhole

        head, num_choices, is_legacy = make_head("chatcmpl", chat_model), len(questions), request.is_legacy
        answer = (
            ChatStream(head, num_choices, is_legacy=is_legacy, has_usage=request.wants_usage)
            if request.stream
            else ChatWhole(head, num_choices, is_legacy=is_legacy)
        )
        await self._answering.carry_out(
            exchange, questions, answer, chat_model.activity, is_streamed=bool(request.stream)
        )

    async def _complete(self, exchange: Exchange, owner: str) -> None:
        chat_model = self._chat_model()
        request = read_body(await exchange.body(), exchange.headers, CompletionRequest)
        check_model(request.model, chat_model)
        questions = completion_questions(request, chat_model, owner)
        await asyncio.to_thread(_import_openai)
        from ui.http_api.answers import make_head
        from ui.http_api.completions import TextCompletions, echoes_of

        prompts = request.prompts
        answer = TextCompletions(
            make_head("cmpl", chat_model),
            echoes_of(prompts, chat_model.decode) if request.echo else [""] * len(prompts),
            request.n or 1,
            is_streamed=bool(request.stream),
            has_usage=request.wants_usage,
            has_answer=request.max_tokens != 0,
        )
        await self._answering.carry_out(
            exchange, questions, answer, chat_model.activity, is_streamed=bool(request.stream)
        )


class _Application:
    """An ASGI application made of a function: Starlette takes a bare one for a handler of its own kind."""

    def __init__(self, serve: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._serve(scope, receive, send)


def _import_openai() -> None:
    """Half a second, the first time: not before the port opens, and not on the event loop."""
    import ui.http_api.answers  # noqa: F401
