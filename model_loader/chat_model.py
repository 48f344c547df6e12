"""A loaded checkpoint as its readers know it: messages in, a stream of events out.

Here the two halves meet: the chat format makes ids of messages and text of ids, the engine turns ids into ids. This
module knows stop strings and reasoning, and no user interface. Importing it imports no torch; opening a model does.
"""

import contextlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from model_loader.chat_format.answer_reader import AnswerReader, TextReader
from model_loader.chat_format.chatml import IM_END, NO_OPENING, ChatML, Opening
from model_loader.chat_format.detokenizer import Detokenizer, Vocabulary
from model_loader.chat_format.messages import NO_TOOLS, Message, ToolUse, check_conversation
from model_loader.checkpoint.context_length import explain_context_length
from model_loader.checkpoint.resolve import Checkpoint
from model_loader.defaults import default_sampling, eos_ids, is_completion_model
from model_loader.engine.request import EngineActivity, Request, Sampling, Token
from model_loader.errors import ContextLengthExceeded
from model_loader.events import Event, Finished, Waiting
from model_loader.loading.placement import Placement

if TYPE_CHECKING:
    from model_loader.engine.engine import Engine
    from model_loader.loading.load import LoadedModel


@dataclass(frozen=True, slots=True)
class Controls:
    """What a program may ask of an answer beyond how it is sampled.

    Attributes:
        logit_bias: what is added to the logits of these ids.
        top_logprobs: how many of the likeliest tokens are told with each token; None tells no scores at all.
        has_prompt_scores: whether the scores of the prompt's tokens come before everything else.
        json_schema: the answer is JSON of this schema; an empty one allows any object.
    """

    logit_bias: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    top_logprobs: int | None = None
    has_prompt_scores: bool = False
    json_schema: Mapping[str, Any] | None = None


NO_CONTROLS = Controls()


@dataclass(frozen=True, slots=True)
class Fitted:
    """A conversation cut to the window.

    Attributes:
        messages: what is left of it.
        left_out: how many of its oldest messages are gone, the system message not counted.
    """

    messages: tuple[Message, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class PromptCost:
    """What a question would cost.

    Attributes:
        tokens: of the whole prompt.
        cached_tokens: how many of them need not be read again.
        max_tokens: how many a prompt may have beside the longest answer.
        left_out: how many of the oldest messages have no room.
        is_estimate: whether the tokens were not counted by the model's own tokenizer.
    """

    tokens: int
    cached_tokens: int
    max_tokens: int
    left_out: int
    is_estimate: bool = False


class ChatModel:
    """One model, ready to answer. Every method may be called from any thread."""

    def __init__(self, loaded: "LoadedModel", engine: "Engine") -> None:
        self.checkpoint: Checkpoint = loaded.checkpoint
        self.placement: Placement = loaded.placement
        self._engine = engine
        self._format = ChatML(loaded.tokenizer, loaded.checkpoint.chat_template)
        self._vocabulary = Vocabulary(loaded.tokenizer)
        self._stop_ids = self._format.stop_ids | eos_ids(loaded.checkpoint)
        self._is_completion_model = is_completion_model(loaded.checkpoint, loaded.tokenizer.token_to_id(IM_END))
        self.default_sampling = default_sampling(loaded.checkpoint)

    @property
    def name(self) -> str:
        """What the user asked for: "builtin", a folder or a hub name."""
        return self.checkpoint.name

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer may have together: the checkpoint's window, or what memory there is for."""
        return min(self.checkpoint.context_length, self._engine.plan.max_tokens)

    @property
    def window_reason(self) -> str:
        """What makes the window as long or as short as it is, in a few words; "" when it is simply the checkpoint's."""
        if self._engine.plan.max_tokens < self.checkpoint.context_length:
            return f"the checkpoint reads {self.checkpoint.context_length:,}, memory allows this"
        return explain_context_length(self.checkpoint.config)

    @property
    def capacity(self) -> str:
        """How many answers run at once and why, as a sentence for the user."""
        return self._engine.plan.reason

    @property
    def problem(self) -> str | None:
        """Why the engine is unhealthy, as a sentence for the user; None while it is well."""
        return self._engine.problem

    @property
    def default_system(self) -> str:
        """The system message that the checkpoint's own template uses; "" when it uses none."""
        return self._format.default_system

    @property
    def is_completion_model(self) -> bool:
        """Whether it continues texts and was never taught to chat; chatting with it is possible and disappointing."""
        return self._is_completion_model

    @property
    def can_switch_thinking(self) -> bool:
        """Whether it can be asked to answer without thinking first."""
        return self._format.can_switch_thinking

    @property
    def activity(self) -> EngineActivity:
        """How busy the engine is now."""
        return self._engine.activity

    @property
    def supports_tools(self) -> bool:
        """Whether it was taught to call functions in a way that is known here."""
        return False

    def encode(self, text: str) -> list[int]:
        """The ids of a text in which nothing is a control token."""
        return self._format.encode_text(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; control tokens and halves of characters have none."""
        detokenizer = Detokenizer(self._vocabulary)
        return "".join(map(detokenizer.feed, ids))

    def measure(
        self, messages: Sequence[Message], sampling: Sampling, *, opening: Opening = NO_OPENING, owner: str = ""
    ) -> PromptCost:
        """What `fit` and `stream` would make of a conversation, without computing anything.

        Raises:
            ContextLengthExceeded, InvalidSetting: as `fit` does.
        """
        fitted = self.fit(messages, sampling, opening)
        prompt_ids = self._format.render(fitted.messages, opening)
        room = self._max_prompt_tokens(sampling)
        return PromptCost(len(prompt_ids), self._engine.num_known(prompt_ids, owner), room, fitted.left_out)

    def fit(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        opening: Opening = NO_OPENING,
        tools: ToolUse = NO_TOOLS,
    ) -> Fitted:
        """Leaves out whole turns, oldest first, until prompt and answer fit the window.

        The system message and the last question always stay.

        Raises:
            ContextLengthExceeded: they alone are too long.
            InvalidSetting: no prompt can be made of the messages.
        """
        check_conversation(messages)
        system = [message for message in messages[:1] if message.role == "system"]
        turns = list(messages[len(system) :])
        room = self._max_prompt_tokens(sampling) - len(self._format.opening_ids(opening))
        room -= sum(map(self._message_tokens, system))
        costs = [self._message_tokens(message) for message in turns]
        first = 0
        while sum(costs[first:]) > room and (later := _later_questions(turns, first)):
            first = later[0]
        kept = (*system, *turns[first:])
        self._check_length(len(self._format.render(kept, opening)), sampling)
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
        """The answer to a conversation, as events; closing the iterator cancels it within one step.

        Args:
            messages: the conversation, with a question at its end.
            sampling: how tokens are drawn; None takes the checkpoint's defaults.
            stop: texts that end the answer; they are no part of it.
            opening: how the answer begins; the events go on from there.
            owner: whose conversation it is: owners take turns, and what was read for one is never reused for another.
            tools: the functions that the answer may call.
            controls: what else is asked of it.

        Raises (where it is read):
            ContextLengthExceeded: prompt and answer do not fit the window.
            InvalidSetting: no prompt can be made of the messages, or a stop string is empty.
            GenerationFailed, EngineStopped: as the engine says.
        """
        prompt_ids = self._format.render(messages, opening)
        reader = AnswerReader(self._format, self._vocabulary, stop, opening)
        yield from self._generate(prompt_ids, sampling, reader, owner, self._shared_tokens(messages))

    def complete(
        self,
        text: str | Sequence[int],
        sampling: Sampling | None = None,
        *,
        stop: Sequence[str] = (),
        owner: str = "",
        controls: Controls = NO_CONTROLS,
    ) -> Generator[Event]:
        """How a text goes on, as events: no roles, no system message; for base checkpoints above all.

        Raises (where it is read):
            ContextLengthExceeded: text and continuation do not fit the window.
            InvalidSetting: the text or a stop string is empty.
            GenerationFailed, EngineStopped: as the engine says.
        """
        reader = TextReader(self._format, self._vocabulary, stop)
        prompt_ids = self.encode(text) if isinstance(text, str) else list(text)
        yield from self._generate(prompt_ids, sampling, reader, owner)

    def _generate(
        self,
        prompt_ids: list[int],
        sampling: Sampling | None,
        reader: TextReader,
        owner: str,
        num_shared_tokens: int = 0,
    ) -> Generator[Event]:
        sampling = sampling or self.default_sampling
        self._check_length(len(prompt_ids), sampling)
        request = Request(tuple(prompt_ids), sampling, self._stop_ids, owner, num_shared_tokens)
        with contextlib.closing(self._engine.stream(request)) as tokens:
            yield from self._read(tokens, reader)

    def close(self) -> None:
        """Ends every running answer and frees the engine."""
        self._engine.close()

    def _read(self, tokens: Iterator[Token | Waiting], reader: TextReader) -> Iterator[Event]:
        for token in tokens:
            if isinstance(token, Waiting):
                yield token
                continue
            yield from reader.feed(token.id)
            if token.finish_reason or reader.has_matched_stop:
                yield from reader.flush()
                yield Finished(token.finish_reason or "stop", token.usage)
                return

    def _shared_tokens(self, messages: Sequence[Message]) -> int:
        """Length of the checkpoint's own system message, if the conversation begins with it: that is no secret."""
        first = messages[0]
        return self._message_tokens(first) if first == Message("system", self.default_system) else 0

    def _message_tokens(self, message: Message) -> int:
        return len(self._format.encode_message(message)) + self._format.separator_tokens

    def _max_prompt_tokens(self, sampling: Sampling) -> int:
        return min(self.checkpoint.max_prompt_tokens, self.context_length - sampling.max_new_tokens)

    def _check_length(self, prompt_tokens: int, sampling: Sampling) -> None:
        if prompt_tokens > self._max_prompt_tokens(sampling):
            limit = self._max_prompt_tokens(sampling) + sampling.max_new_tokens
            raise ContextLengthExceeded(prompt_tokens, sampling.max_new_tokens, limit)


def _later_questions(turns: Sequence[Message], first: int) -> list[int]:
    """Positions after `first` at which a user's turn begins."""
    return [at for at in range(first + 1, len(turns)) if turns[at].role == "user"]
