"""A loaded checkpoint as its readers know it: messages in, a stream of events out.

Here the two halves meet: the chat format makes ids of messages and text of ids, the engine turns ids into ids. This
module knows stop strings and reasoning, and no user interface. Importing it imports no torch; opening a model does.
"""

import contextlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from model_loader.chat_format.answer_reader import AnswerReader, TextReader
from model_loader.chat_format.chatml import IM_END, NO_OPENING, ChatML, Opening
from model_loader.chat_format.detokenizer import Vocabulary
from model_loader.chat_format.messages import Message, check_conversation
from model_loader.checkpoint.context_length import (
    explain_context_length,
    parse_long_context,
    set_context_length,
    switch_long_context,
)
from model_loader.checkpoint.hub import ANY_HUB, HubOptions
from model_loader.checkpoint.resolve import Checkpoint, resolve_checkpoint
from model_loader.engine.request import DEFAULT_MAX_NEW_TOKENS, SAMPLING_RANGES, Request, Sampling, Token
from model_loader.errors import CheckpointDamaged, ContextLengthExceeded, InvalidSetting, NotEnoughMemory
from model_loader.events import Event, Finished, Waiting
from model_loader.loading.estimate import advise
from model_loader.loading.placement import LoadOptions, Placement, choose_placement
from model_loader.progress import LoadProgress, ReportProgress

if TYPE_CHECKING:
    from model_loader.engine.engine import Engine
    from model_loader.loading.load import LoadedModel


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
    """

    tokens: int
    cached_tokens: int
    max_tokens: int
    left_out: int


class ChatModel:
    """One model, ready to answer. Every method may be called from any thread."""

    def __init__(self, loaded: "LoadedModel", engine: "Engine") -> None:
        self.checkpoint: Checkpoint = loaded.checkpoint
        self.placement: Placement = loaded.placement
        self._engine = engine
        self._format = ChatML(loaded.tokenizer, loaded.checkpoint.chat_template)
        self._vocabulary = Vocabulary(loaded.tokenizer)
        self._stop_ids = self._format.stop_ids | _eos_ids(loaded.checkpoint)
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

    def fit(self, messages: Sequence[Message], sampling: Sampling, opening: Opening = NO_OPENING) -> Fitted:
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
    ) -> Generator[Event]:
        """The answer to a conversation, as events; closing the iterator cancels it within one step.

        Args:
            messages: the conversation, with a question at its end.
            sampling: how tokens are drawn; None takes the checkpoint's defaults.
            stop: texts that end the answer; they are no part of it.
            opening: how the answer begins; the events go on from there.
            owner: whose conversation it is: owners take turns, and what was read for one is never reused for another.

        Raises (where it is read):
            ContextLengthExceeded: prompt and answer do not fit the window.
            InvalidSetting: no prompt can be made of the messages, or a stop string is empty.
            GenerationFailed, EngineStopped: as the engine says.
        """
        prompt_ids = self._format.render(messages, opening)
        reader = AnswerReader(self._format, self._vocabulary, stop, opening)
        yield from self._generate(prompt_ids, sampling, reader, owner, self._shared_tokens(messages))

    def complete(
        self, text: str, sampling: Sampling | None = None, *, stop: Sequence[str] = (), owner: str = ""
    ) -> Generator[Event]:
        """How a text goes on, as events: no roles, no system message; for base checkpoints above all.

        Raises (where it is read):
            ContextLengthExceeded: text and continuation do not fit the window.
            InvalidSetting: the text or a stop string is empty.
            GenerationFailed, EngineStopped: as the engine says.
        """
        reader = TextReader(self._format, self._vocabulary, stop)
        yield from self._generate(self._format.encode_text(text), sampling, reader, owner)

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


def open_chat_model(
    checkpoint: str, options: LoadOptions, report: ReportProgress, *, hub: HubOptions = ANY_HUB
) -> ChatModel:
    """Finds, places and loads a checkpoint, and computes one token with it. Takes seconds to minutes.

    Args:
        checkpoint: a folder, a hub name or "builtin".
        options: what the user asks of the placement.
        report: told of every stage, from this thread.
        hub: where hub names are looked up.

    Raises:
        ModelLoaderError: one of its classes, as each step says.
    """
    report(LoadProgress("download"))
    resolved = resolve_checkpoint(
        checkpoint, lambda done, total: report(LoadProgress("download", done / total, _gb_of(done, total))), hub
    )
    default_sampling(resolved)  # raises for defaults that cannot be
    resolved = _with_context(resolved, options)
    report(LoadProgress("libraries"))
    from model_loader.engine.engine import Engine  # torch and transformers: seconds
    from model_loader.loading.hardware import probe_hardware
    from model_loader.loading.load import load_model

    hardware = probe_hardware()
    try:
        placement = choose_placement(resolved, hardware, options)
    except NotEnoughMemory as error:
        raise NotEnoughMemory(f"{error}{advise(checkpoint, hardware, options)}") from None
    loaded = load_model(resolved, placement, report)
    chat_model = ChatModel(loaded, Engine(loaded))
    report(LoadProgress("warm_up"))
    try:
        _warm_up(chat_model)
    except BaseException:
        chat_model.close()
        raise
    return chat_model


def _with_context(checkpoint: Checkpoint, options: LoadOptions) -> Checkpoint:
    """The checkpoint with the window that the options ask for."""
    config = checkpoint.config
    if options.long_context is not None:
        config = switch_long_context(config, parse_long_context(options.long_context))
    if options.context_length is None:
        return replace(checkpoint, config=config)
    defaults = {name: value for name, value in checkpoint.generation_config.items() if name != "max_window_size"}
    return replace(checkpoint, config=set_context_length(config, options.context_length), generation_config=defaults)


def default_sampling(checkpoint: Checkpoint) -> Sampling:
    """The sampling that a checkpoint's generation config asks for; what it leaves open changes nothing.

    The length is capped so that half of a small window stays free for the conversation.

    Raises:
        CheckpointDamaged: a value is out of range.
    """
    config = checkpoint.generation_config
    given = {name: config[name] for name in SAMPLING_RANGES if config.get(name) is not None}
    if not config.get("do_sample", False):
        given["temperature"] = 0.0
    longest = max(1, min(DEFAULT_MAX_NEW_TOKENS, checkpoint.context_length // 2))
    try:
        sampling = Sampling(**{"max_new_tokens": longest, **given})
    except InvalidSetting as error:
        raise CheckpointDamaged(f"{checkpoint.folder / 'generation_config.json'}: {error}") from None
    return sampling.changed(max_new_tokens=min(sampling.max_new_tokens, longest))


def is_completion_model(checkpoint: Checkpoint, im_end_id: int | None) -> bool:
    """Whether the files describe a base model: Qwen-1 says so, later families let `<|im_end|>` end only a chat."""
    chat_format = checkpoint.generation_config.get("chat_format")
    if chat_format is not None:
        return bool(chat_format == "raw")
    return im_end_id not in _eos_ids(checkpoint)


def _warm_up(chat_model: ChatModel) -> None:
    """One greedy token: the first pass is the slowest, and weights that compute no numbers show at once."""
    greedy = chat_model.default_sampling.changed(max_new_tokens=1, temperature=0.0)
    for _event in chat_model.stream([Message("user", "Hello")], greedy):
        pass


def _eos_ids(checkpoint: Checkpoint) -> frozenset[int]:
    value = checkpoint.generation_config.get("eos_token_id", checkpoint.config.get("eos_token_id"))
    return frozenset(value if isinstance(value, list) else [] if value is None else [value])


def _later_questions(turns: Sequence[Message], first: int) -> list[int]:
    """Positions after `first` at which a user's turn begins."""
    return [at for at in range(first + 1, len(turns)) if turns[at].role == "user"]


def _gb_of(done: int, total: int) -> str:
    return f"{done / 1e9:.1f} of {total / 1e9:.1f} GB"
