"""A model on another machine, or in another program on this one, with the surface of `ChatModel`.

It composes the parts beside it: bodies go out, chunks come in, events go on. What a server does not tell is marked as
an estimate or left unsaid. Nothing of a conversation is kept here.
"""

import logging
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from model_loader.chat_format.chatml import NO_OPENING, Opening
from model_loader.chat_format.messages import NO_TOOLS, Message, ToolUse, check_conversation
from model_loader.chat_model import NO_CONTROLS, Controls, Fitted, PromptCost
from model_loader.engine.request import DEFAULT_MAX_NEW_TOKENS, EngineActivity, Sampling
from model_loader.errors import (
    ContextLengthExceeded,
    InvalidSetting,
    ServerUnreachable,
)
from model_loader.events import Event
from model_loader.progress import LoadProgress, ReportProgress
from model_loader.remote.answer import RemoteAnswer
from model_loader.remote.chunk_reader import ChunkReader
from model_loader.remote.connection import MAX_CONNECTIONS, Connection
from model_loader.remote.failures import Asked, Refusal, Refused, explain
from model_loader.remote.options import RemoteOptions
from model_loader.remote.request_body import CONTINUES, EXTRA_FIELDS, chat_body, prompt_texts, text_body
from model_loader.remote.served_model import ServedModel, find_served_model
from model_loader.remote.token_counter import Count, TokenCounter, estimate_tokens

logger = logging.getLogger(__name__)

_PROBLEM_S = 10.0
"""A failed connection counts as the server's state for so long; the next question tries again."""
_DEFAULT_SAMPLING = Sampling(temperature=0.7, top_p=0.8, top_k=20)
"""What the model cards of Qwen2.5 and Qwen3 recommend for answers without reasoning."""


@dataclass(frozen=True, slots=True)
class RemoteCheckpoint:
    """What is known of a checkpoint that lies elsewhere: nothing but its name."""

    source: str = ""
    revision: str = ""
    template_hash: str = ""


@dataclass(frozen=True, slots=True)
class RemotePlacement:
    """Where a model elsewhere runs, as a sentence's end and in a few words."""

    reason: str
    summary: str


@dataclass(frozen=True, slots=True)
class _Window:
    tokens: int
    reason: str


def open_remote_model(options: RemoteOptions, wanted: str, report: ReportProgress) -> "RemoteModel":
    """Connects to a server and finds out what it has. Takes a moment, or as long as it loads what is asked for.

    Args:
        options: where the server is.
        wanted: the name of one of its models; "builtin" stands for the only one.
        report: told of the stage, from this thread.

    Raises:
        ModelLoaderError: one of its classes, as `find_served_model` says.
    """
    report(LoadProgress("server"))
    connection = Connection(options)
    try:
        served = find_served_model(connection, options, wanted)
        return RemoteModel(connection, options, served)
    except BaseException:
        connection.close()
        raise


class RemoteModel:
    """One model of a server, ready to answer. Every method may be called from any thread."""

    checkpoint = RemoteCheckpoint()
    default_system = ""
    """The template's own is added where it is applied."""
    is_completion_model = False
    supports_tools = True
    """Whether the server can is found out by asking it."""
    capacity = "as many answers at once as that server does"

    def __init__(self, connection: Connection, options: RemoteOptions, served: ServedModel) -> None:
        self.name = served.name
        self.placement = RemotePlacement(
            f"another program, {f'{served.program} ' if served.program else ''}at {options.api}",
            f"{served.program or 'server'} at {options.where}",
        )
        self._connection = connection
        self._options = options
        self._window = _Window(served.context_length, served.window_reason)
        self._counter = TokenCounter(connection, options, served.name)
        self._lock = threading.Lock()
        self._num_running = 0
        self._trouble: tuple[str, float] | None = None
        self._has_reasoned = False
        self._unknown_fields: frozenset[str] = frozenset()

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self._window.tokens

    @property
    def window_reason(self) -> str:
        """Where the window is from, in a few words; "" when the server has told it."""
        return self._window.reason

    @property
    def problem(self) -> str | None:
        """Why the last connection failed, as a sentence for the user; None once that is a while ago."""
        trouble = self._trouble
        return trouble[0] if trouble is not None and time.monotonic() - trouble[1] < _PROBLEM_S else None

    @property
    def default_sampling(self) -> Sampling:
        """What Qwen's model cards recommend, as far as the server takes it."""
        longest = max(1, min(DEFAULT_MAX_NEW_TOKENS, self.context_length // 2))
        top_k = 0 if "top_k" in self._unknown_fields else _DEFAULT_SAMPLING.top_k
        return _DEFAULT_SAMPLING.changed(max_new_tokens=longest, top_k=top_k)

    @property
    def can_switch_thinking(self) -> bool:
        """Whether it can be asked to answer without thinking first: known once it has thought."""
        return self._has_reasoned and "chat_template_kwargs" not in self._unknown_fields

    @property
    def thinks_by_default(self) -> bool:
        """Yes: it is known that it can only because it did."""
        return True

    @property
    def activity(self) -> EngineActivity:
        """What of the server's work is ours."""
        return EngineActivity(self._num_running, 0, MAX_CONNECTIONS, 0, 0)

    def encode(self, text: str) -> list[int]:
        """The ids of a text.

        Raises:
            ServerIncompatible: the server has no way to tell them.
        """
        return self._counter.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids.

        Raises:
            ServerIncompatible: the server has no way to tell it.
        """
        return self._counter.decode(ids)

    def measure(
        self, messages: Sequence[Message], sampling: Sampling, *, opening: Opening = NO_OPENING, owner: str = ""
    ) -> PromptCost:
        """What a question would cost; what the server has read already is not known.

        Raises:
            ContextLengthExceeded, InvalidSetting: as `fit` does.
        """
        fitted = self.fit(messages, sampling, opening)
        counted = self._count(fitted.messages, sampling, opening, NO_TOOLS)
        room = max(1, self.context_length - sampling.max_new_tokens)
        return PromptCost(counted.tokens, 0, room, fitted.left_out, counted.is_estimate)

    def fit(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        opening: Opening = NO_OPENING,
        tools: ToolUse = NO_TOOLS,
    ) -> Fitted:
        """Leaves out whole turns, oldest first, until prompt and answer fit the window.

        The system message and the last question always stay. Where tokens can only be estimated, the server has the
        last word.

        Raises:
            ContextLengthExceeded: they alone are too long.
            InvalidSetting: no prompt can be made of the messages.
        """
        check_conversation(messages)
        system = [message for message in messages[:1] if message.role == "system"]
        turns = list(messages[len(system) :])
        room = self.context_length - sampling.max_new_tokens
        first = 0
        while True:
            kept = (*system, *turns[first:])
            counted = self._count(kept, sampling, opening, tools)
            later = [at for at in range(first + 1, len(turns)) if turns[at].role == "user"]
            if counted.tokens <= room or not later:
                break
            first = _cut(turns, first, later, counted.tokens, room)
        if room <= 0 or (counted.tokens > room and not counted.is_estimate):
            tokens = 0 if counted.is_estimate else counted.tokens
            raise ContextLengthExceeded(tokens, sampling.max_new_tokens, self.context_length)
        return Fitted(kept, first)

    def stream(
        self,
        messages: Sequence[Message],
        sampling: Sampling | None = None,
        *,
        stop: Sequence[str] = (),
        opening: Opening = NO_OPENING,
        owner: str = "",
        tools: ToolUse = NO_TOOLS,
        controls: Controls = NO_CONTROLS,
    ) -> Generator[Event]:
        """The answer to a conversation, as events; closing the iterator closes the connection at once.

        A setting at its neutral value is left to the server. Whose conversation it is stays here.

        Raises (where it is read):
            ContextLengthExceeded: prompt and answer do not fit the window.
            InvalidSetting: no prompt can be made of the messages, or the server refuses a setting.
            ServerUnreachable, ServerRefusesKey, ServerBusy, ServerIncompatible: as their names say.
            GenerationFailed: the server fails, or the connection is lost in the middle of the answer.
            EngineStopped: this model was closed.
        """
        sampling = sampling or self.default_sampling
        body = chat_body(self.name, messages, sampling, stop, opening, tools, controls)
        reader = ChunkReader(stop, tells_thinking=not opening.text)
        yield from self._answer("chat/completions", body, reader)

    def complete(
        self,
        text: str | Sequence[int],
        sampling: Sampling | None = None,
        *,
        stop: Sequence[str] = (),
        owner: str = "",
        controls: Controls = NO_CONTROLS,
    ) -> Generator[Event]:
        """How a text goes on, as events: no roles, no system message.

        Raises (where it is read): as `stream` does.
        """
        body = text_body(self.name, text, sampling or self.default_sampling, stop, controls)
        yield from self._answer("completions", body, ChunkReader(stop, tells_thinking=False))

    def close(self) -> None:
        """Ends every running answer and gives the connections up."""
        self._connection.close()

    def _answer(self, route: str, body: Mapping[str, Any], reader: ChunkReader) -> Iterator[Event]:
        """Asks, and again without the fields that the server turns out not to know."""
        with self._counted():
            while True:
                sent = {name: value for name, value in body.items() if name not in self._unknown_fields}
                try:
                    yield from self._read(route, sent, reader)
                    return
                except ServerUnreachable as error:
                    self._trouble = (str(error), time.monotonic())
                    raise
                except Refused as refused:
                    unknown = refused.refusal.unknown_fields(EXTRA_FIELDS & sent.keys())
                    if not unknown or reader.num_deltas:
                        raise self._explain(refused.refusal, sent) from None
                self._unknown_fields |= unknown
                logger.warning(
                    "The server at %s does not know %s; it is left out from now on.",
                    self._options.where,
                    ", ".join(sorted(unknown)),
                )

    def _read(self, route: str, body: Mapping[str, Any], reader: ChunkReader) -> Iterator[Event]:
        answer = RemoteAnswer(self._options.where, reader, body, self._counter)
        with closing(self._connection.stream(f"{self._options.api}/{route}", body)) as stream:
            yield from answer.read(stream)
        self._trouble = None
        self._has_reasoned = self._has_reasoned or reader.has_reasoned
        yield answer.finished()

    def _explain(self, refusal: Refusal, body: Mapping[str, Any]) -> Exception:
        if refusal.unknown_fields({CONTINUES} & body.keys()):
            return InvalidSetting(
                f"The server at {self._options.where} cannot go on with an answer that has begun. Answer again from "
                "the beginning, and prescribe none."
            )
        secrets = [*prompt_texts(body), self._options.key]
        asked = Asked(self._options.where, self.name, body["max_tokens"], self.context_length, secrets)
        error = explain(refusal, asked)
        if isinstance(error, ContextLengthExceeded):
            if 0 < error.context_length < self.context_length:
                self._window = _Window(error.context_length, "as the server said of a longer prompt")
            self._counter.learn(body, error.prompt_tokens)
        return error

    def _count(self, messages: Sequence[Message], sampling: Sampling, opening: Opening, tools: ToolUse) -> Count:
        spoken = Opening(opening.text, thinking=opening.thinking)
        return self._counter.count(chat_body(self.name, messages, sampling, (), spoken, tools, NO_CONTROLS))

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._num_running += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_running -= 1


def _cut(turns: Sequence[Message], first: int, later: Sequence[int], tokens: int, room: int) -> int:
    """The turn to begin with so that about enough is left out; always a later one."""
    costs = [estimate_tokens([message.content]) + 1 for message in turns]
    excess = sum(costs[first:]) * (tokens - room) / tokens
    return next((at for at in later if sum(costs[first:at]) >= excess), later[-1])
