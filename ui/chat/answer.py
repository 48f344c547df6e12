"""An answer on its way: one thread reads a model's events and writes them into a conversation.

What comes in is a conversation and a question in it; what goes out is a growing message that ends in exactly one of
the states complete, stopped, interrupted or failed, whatever happens. A screen looks at the conversation and may go
away; when nobody has looked for a while, the answer ends. It knows no widgets and no model, only its stream.
"""

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from model_loader.chat_format.chatml import Opening
from model_loader.chat_format.messages import Message
from model_loader.chat_source import ChatSource
from model_loader.engine.request import Sampling
from model_loader.errors import ModelLoaderError
from model_loader.events import Event, Finished, ReasoningDelta, TextDelta, Usage, Waiting
from model_loader.progress import LoadProgress
from ui.chat.answer_watch import AnswerWatch
from ui.chat.audience import Audience
from ui.chat.conversation import Conversation
from ui.chat.fault import log_fault
from ui.chat.message import MessageState, StoredMessage
from ui.chat.receipt import make_receipt
from ui.chat.script_watch import AnswerLanguage
from ui.chat.settings import LANGUAGE_REQUESTS, Settings

logger = logging.getLogger(__name__)

_LOOK_S = 0.2
_PATIENCE_S = 2.0


class ModelSource(Protocol):
    """Where the model will be: a `BackgroundLoad`."""

    progress: LoadProgress
    chat_model: ChatSource | None
    error: str | None
    error_class: str
    notice: str | None


@dataclass(frozen=True, slots=True)
class AnswerStatus:
    """What a running answer is doing.

    Attributes:
        phase: waiting for the model to load, for its turn, for the first token, or being written.
        ahead, waiting: its place in the queue and how many wait there, while it is queued.
        tokens_read, tokens: how much of the prompt the model has read, while it reads.
        progress: how far the load is, while it waits for it.
        thought_s: how long it has been thinking, in whole seconds, while it thinks.
    """

    phase: Literal["loading", "queued", "reading", "thinking", "writing"]
    ahead: int = 0
    tokens_read: int = 0
    tokens: int = 0
    progress: LoadProgress | None = None
    thought_s: int = 0
    waiting: int = 0


class Answer:
    """One running answer. Any thread may read it, stop it and wait for it.

    Attributes:
        message_id: the message it writes.
        status: what it is doing now.
        num_tokens: what it has cost so far; measured once it has ended, before that a token for each piece.
    """

    def __init__(
        self,
        source: ModelSource,
        conversation: Conversation,
        message_id: str,
        is_watched: Callable[[], bool],
        linger_s: float,
        on_end: Callable[["Answer"], None],
        settings: Settings | None = None,
    ) -> None:
        self.conversation = conversation
        self.message_id = message_id
        self.status = AnswerStatus("reading")
        self.num_tokens = 0
        self._source = source
        self._settings = settings or conversation.settings
        self._audience = Audience(is_watched, linger_s)
        self._on_end = on_end
        self._ending: MessageState | None = None
        self._thinks_since: float | None = None
        self._usage_before: Usage | None = None
        self._watch: AnswerWatch | None = None
        self._lock = threading.Lock()
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="answer", daemon=True)

    def start(self) -> None:
        """Begins. Call it once."""
        self._thread.start()

    def end_as(self, state: Literal["stopped", "interrupted"]) -> None:
        """Asks it to end with what it has; the first request counts. Returns at once."""
        self._ending = self._ending or state

    def wait(self, timeout_s: float) -> bool:
        """Waits until the message has its final state; False when the time is over first."""
        return self._has_ended.wait(timeout_s)

    def give_up(self) -> None:
        """Ends the message now, although the model has not come back; what it still says is thrown away."""
        self._end(self._ending or "interrupted")

    def _run(self) -> None:
        try:
            chat_model = self._wait_for_model()
            if chat_model is not None:
                self._read(chat_model)
        except ModelLoaderError as error:
            self._end("failed", error=str(error), error_class=type(error).__name__)
        except Exception as error:
            self._end("failed", fault_id=log_fault(logger, "Answer failed", error))
        finally:
            self._end(self._ending or "interrupted")

    def _wait_for_model(self) -> ChatSource | None:
        while not self._should_end():
            if self._source.chat_model is not None:
                return self._source.chat_model
            if self._source.error is not None:
                self._end("failed", error=self._source.error, error_class=self._source.error_class)
                return None
            self.status = AnswerStatus("loading", progress=self._source.progress)
            time.sleep(_LOOK_S)
        return None

    def _read(self, chat_model: ChatSource) -> None:
        self.status = AnswerStatus("reading")
        settings = self._settings
        seed = settings.sampling.get("seed")
        drawn = random.getrandbits(32) if seed is None else seed  # known afterwards, so that it can be done again
        sampling = chat_model.default_sampling.changed(**{**settings.sampling, "seed": drawn})
        begun = self.conversation.find(self.message_id)
        assert begun is not None
        self._usage_before = begun.usage
        is_resumed = bool(begun.text or begun.reasoning)
        if not is_resumed and settings.prefill:
            begun = replace(begun, text=settings.prefill)
            self.conversation.grow(self.message_id, settings.prefill)
        self._watch = AnswerWatch(settings, begun)
        opening = Opening(begun.text, begun.reasoning, settings.thinking)
        system = effective_system(chat_model, settings.system, settings.language)
        messages = self._prompt(chat_model, system, sampling, opening)
        receipt = make_receipt(chat_model, system, sampling, settings.stop, settings.prefill, settings.thinking)
        self.conversation.amend(self.message_id, receipt=None if is_resumed else receipt)
        stream = chat_model.stream(messages, sampling, stop=settings.stop, opening=opening, owner=self.conversation.id)
        with contextlib.closing(stream) as events:
            for event in events:
                self._take(event, chat_model)
                if self._watch.take(event):
                    self.end_as("stopped")
                if self._has_ended.is_set() or self._should_end():
                    return
        if not self._has_ended.is_set():
            raise RuntimeError("the model's stream ended without a Finished event")

    def _prompt(self, chat_model: ChatSource, system: str, sampling: Sampling, opening: Opening) -> tuple[Message, ...]:
        """The branch before the answer as the model reads it."""
        said = [one for one in self.conversation.path_to(self.message_id)[:-1] if one.content]
        fitted = chat_model.fit(as_prompt(system, said), sampling, opening)
        if fitted.left_out:
            reads_from = said[min(fitted.left_out, len(said) - 1)].id
            self.conversation.amend(self.message_id, left_out=fitted.left_out, reads_from=reads_from)
        return fitted.messages

    def _take(self, event: Event, chat_model: ChatSource) -> None:
        match event:
            case Waiting(ahead=ahead) if ahead:
                self.status = AnswerStatus("queued", ahead, waiting=max(ahead, chat_model.activity.num_waiting))
            case Waiting(prompt_tokens_read=tokens_read, prompt_tokens=tokens):
                self.num_tokens = tokens_read
                if self.status.phase not in ("thinking", "writing"):
                    self.status = AnswerStatus("reading", tokens_read=tokens_read, tokens=tokens)
            case ReasoningDelta(text=text):
                self.num_tokens += 1
                self._thinks_since = self._thinks_since or time.monotonic()
                self.status = AnswerStatus("thinking", thought_s=int(time.monotonic() - self._thinks_since))
                self.conversation.grow(self.message_id, reasoning=text)
            case TextDelta(text=text):
                self.num_tokens += 1
                self._end_reasoning()
                self.status = AnswerStatus("writing")
                self.conversation.grow(self.message_id, text)
            case Finished(reason=reason, usage=usage):
                self.num_tokens = usage.computed_tokens
                self._end("complete", finish_reason=reason, usage=_together(self._usage_before, usage))

    def _end_reasoning(self) -> None:
        if self._thinks_since is not None:
            begun = self.conversation.find(self.message_id)
            before = (begun and begun.reasoning_s) or 0.0
            thought_s = before + time.monotonic() - self._thinks_since
            self.conversation.amend(self.message_id, reasoning_s=thought_s)
            self._thinks_since = None

    def _should_end(self) -> bool:
        """Whether the user has stopped it, or nobody has looked at it for long enough."""
        if self._audience.has_left():
            self.end_as("interrupted")
        return self._ending is not None

    def _end(self, state: MessageState, **facts: object) -> None:
        with self._lock:
            if self._has_ended.is_set():
                return
            self._end_reasoning()
            seen = self._watch.facts() if self._watch is not None else {}
            self.conversation.amend(self.message_id, state=state, **seen, **facts)
            self._on_end(self)
            self._has_ended.set()


def effective_system(chat_model: ChatSource, system: str | None, language: AnswerLanguage | None = None) -> str:
    """The system prompt that is sent: the conversation's own, or else the checkpoint's, and which language to use."""
    own = chat_model.default_system if system is None else system
    return own if language is None else "\n\n".join(filter(None, [own.strip(), LANGUAGE_REQUESTS[language]]))


def as_prompt(system: str, said: Sequence[StoredMessage]) -> list[Message]:
    """Stored messages as a model reads them, with their files; answers that never began are no part of it."""
    prompt = [Message("system", system)] if system.strip() else []
    return prompt + [Message(one.role, content) for one in said if (content := one.content)]


def _together(before: Usage | None, usage: Usage) -> Usage:
    """What an answer has cost that went on after it had ended."""
    if before is None:
        return usage
    tokens = before.completion_tokens + usage.completion_tokens
    return replace(usage, completion_tokens=tokens, decode_s=before.decode_s + usage.decode_s)
