"""A loaded checkpoint as its readers know it: messages in, a stream of events out.

Here the two halves meet: the chat format makes ids of messages and text of ids, the engine turns ids into ids. This
module knows stop strings and reasoning, and no user interface. Importing it imports no torch; opening a model does.
"""

import contextlib
import time
from bisect import bisect_left
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from model_loader.answer_rules import AnswerRules
from model_loader.chat_format.answer_reader import TextReader
from model_loader.chat_format.chatml import IM_END, NO_OPENING, ChatML, Opening
from model_loader.chat_format.detokenizer import Detokenizer, Vocabulary
from model_loader.chat_format.dialect import Dialect, NoTools
from model_loader.chat_format.json_tools import JsonTools
from model_loader.chat_format.messages import NO_TOOLS, Message, ToolUse
from model_loader.chat_format.react_tools import ReactTools
from model_loader.chat_format.xml_tools import XmlTools
from model_loader.checkpoint.context_length import explain_context_length
from model_loader.checkpoint.resolve import Checkpoint
from model_loader.defaults import default_sampling, eos_ids, is_completion_model
from model_loader.engine.request import EngineActivity, Logprob, Request, Sampling, Token, TokenFilter
from model_loader.errors import ContextLengthExceeded
from model_loader.events import Event, Finished, Scores, TokenScore, Waiting
from model_loader.loading.placement import Placement

if TYPE_CHECKING:
    from model_loader.engine.engine import Engine
    from model_loader.loading.load import LoadedModel

_SILENCE_S = 0.25
"""A reader is told something this often even while text is held back, as the arguments of a call are."""


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
        self._dialect = _choose_dialect(loaded.checkpoint, self._format, self._vocabulary)
        self._rules = AnswerRules(
            self._format,
            self._vocabulary,
            self._dialect,
            vocab_size=loaded.vocab_size,
            stop_ids=self._stop_ids,
        )
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
        """Whether it can be asked to think first, or not to."""
        return self._format.can_switch_thinking

    @property
    def thinks_by_default(self) -> bool:
        """Whether it thinks first when nobody asks, where it can be asked."""
        return self._format.thinks_by_default

    @property
    def activity(self) -> EngineActivity:
        """How busy the engine is now."""
        return self._engine.activity

    @property
    def supports_tools(self) -> bool:
        """Whether it was taught to call functions in a way that is known here."""
        return self._dialect.supports_tools

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
        prompt_ids = self._prompt_ids(fitted.messages, opening, NO_TOOLS)
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

        The system message and the last question always stay, and with it the calls of tools that followed it.

        Raises:
            ContextLengthExceeded: they alone are too long.
            InvalidSetting: no prompt can be made of the messages.
        """
        system = [message for message in messages[:1] if message.role == "system"]
        rest = messages[len(system) :]
        questions = [at for at, message in enumerate(rest) if at and message.role == "user"]
        room = self._max_prompt_tokens(sampling)

        def prompt_tokens(first: int) -> int:
            return len(self._prompt_ids((*system, *rest[first:]), opening, tools))

        if prompt_tokens(0) <= room:
            return Fitted(tuple(messages), 0)
        place = bisect_left(questions, True, key=lambda first: prompt_tokens(first) <= room)
        if place == len(questions):
            self._check_length(prompt_tokens(questions[-1] if questions else 0), sampling)
        return Fitted((*system, *rest[questions[place] :]), questions[place])

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

        Each call of a tool is one event, when it is whole; with one or more the answer ends for "tool_calls".

        Args:
            messages: the conversation, with a question or a tool's result at its end.
            sampling: how tokens are drawn; None takes the checkpoint's defaults.
            stop: texts that end the answer; they are no part of it.
            opening: how the answer begins; the events go on from there.
            owner: whose conversation it is: owners take turns, and what was read for one is never reused for another.
            tools: the functions that the answer may call.
            controls: what else is asked of it.

        Raises (where it is read):
            ContextLengthExceeded: prompt and answer do not fit the window.
            InvalidSetting: no prompt can be made of the messages, a stop string is empty, the model knows no tools, or
                a control cannot be obeyed.
            GenerationFailed, EngineStopped: as the engine says.
        """
        prompt_ids = self._prompt_ids(messages, opening, tools)
        reader = self._dialect.reader(messages, tools, stop, opening)
        token_filter = self._rules.of_answer(messages, tools, opening, controls.json_schema)
        num_shared = 0 if tools.offered else self._shared_tokens(messages)
        yield from self._generate(prompt_ids, sampling, reader, owner, controls, token_filter, num_shared)

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

        Args:
            text: the text, or its ids, which may be those of control tokens.
            sampling, stop, owner, controls: as `stream` takes them.

        Raises (where it is read):
            ContextLengthExceeded: text and continuation do not fit the window.
            InvalidSetting: the text or a stop string is empty, or a control cannot be obeyed.
            GenerationFailed, EngineStopped: as the engine says.
        """
        prompt_ids = self.encode(text) if isinstance(text, str) else list(text)
        reader = TextReader(self._format, self._vocabulary, stop)
        token_filter = self._rules.of_text(controls.json_schema)
        yield from self._generate(prompt_ids, sampling, reader, owner, controls, token_filter)

    def _generate(
        self,
        prompt_ids: list[int],
        sampling: Sampling | None,
        reader: TextReader,
        owner: str,
        controls: Controls,
        token_filter: TokenFilter | None,
        num_shared_tokens: int = 0,
    ) -> Generator[Event]:
        sampling = sampling or self.default_sampling
        self._check_length(len(prompt_ids), sampling)
        request = Request(
            tuple(prompt_ids),
            sampling,
            self._stop_ids,
            owner,
            num_shared_tokens,
            logit_bias=controls.logit_bias,
            token_filter=token_filter,
            top_logprobs=controls.top_logprobs,
            has_prompt_logprobs=controls.has_prompt_scores,
        )
        with contextlib.closing(self._engine.stream(request)) as tokens:
            yield from self._read(tokens, reader, prompt_ids)

    def close(self) -> None:
        """Ends every running answer and frees the engine."""
        self._engine.close()

    def _read(
        self, tokens: Iterator[Token | Waiting], reader: TextReader, prompt_ids: Sequence[int]
    ) -> Iterator[Event]:
        told_s = time.monotonic()
        for token in tokens:
            if isinstance(token, Waiting):
                yield token
                continue
            events: list[Event] = [*self._scores(token, prompt_ids, reader), *reader.feed(token.id)]
            if not events and time.monotonic() - told_s > _SILENCE_S:
                events.append(Waiting(0, len(prompt_ids), len(prompt_ids)))
            told_s = time.monotonic() if events else told_s
            yield from events
            if token.finish_reason or reader.is_over:
                reason = "stop" if reader.is_over else token.finish_reason or "stop"
                yield from reader.flush(is_cut=reason == "length")
                yield Finished("tool_calls" if reader.num_calls else reason, token.usage)
                return

    def _scores(self, token: Token, prompt_ids: Sequence[int], reader: TextReader) -> Iterator[Scores]:
        """The scores that came with a token; the one that ends an answer has none, as it has no text."""
        if token.prompt_logprobs is not None:
            logprobs = (None, *token.prompt_logprobs)
            yield Scores(tuple(map(self._score, prompt_ids, logprobs)), is_prompt=True)
        if token.logprob is not None and (reader.scores_end or token.id not in self._stop_ids):
            yield Scores((self._score(token.id, token.logprob),))

    def _score(self, token_id: int, logprob: Logprob | None) -> TokenScore:
        name = self._vocabulary.name_bytes
        if logprob is None:
            return TokenScore(name(token_id), None)
        return TokenScore(name(token_id), logprob.logprob, tuple((name(each), value) for each, value in logprob.top))

    def _prompt_ids(self, messages: Sequence[Message], opening: Opening, tools: ToolUse) -> list[int]:
        return self._format.render_turns(self._dialect.turns(messages, tools), opening)

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


def _choose_dialect(checkpoint: Checkpoint, chat_format: ChatML, vocabulary: Vocabulary) -> Dialect:
    """How the checkpoint was taught to call tools, as its files tell."""
    if checkpoint.is_qwen1:
        return ReactTools(chat_format, vocabulary)
    if JsonTools.is_in(checkpoint.chat_template):
        return JsonTools(chat_format, vocabulary, checkpoint.chat_template)
    if XmlTools.is_in(checkpoint.chat_template):
        return XmlTools(chat_format, vocabulary, checkpoint.chat_template)
    return NoTools(chat_format, vocabulary, checkpoint.name)
