"""A stand-in for a loaded model that follows a script, to stage speeds, queues and faults on the page.

It has the shape of `model_loader.chat_source.ChatSource` and `model_loader.background_load.BackgroundLoad` and needs
neither torch nor files.
"""

import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field

from model_loader.chat_format.chatml import NO_OPENING, Opening
from model_loader.chat_format.messages import NO_TOOLS, Message, ToolUse
from model_loader.chat_model import NO_CONTROLS, Controls, Fitted, PromptCost
from model_loader.chat_source import ChatSource
from model_loader.engine.request import EngineActivity, Sampling
from model_loader.errors import ContextLengthExceeded, GenerationFailed
from model_loader.events import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    Scores,
    TextDelta,
    TokenScore,
    ToolCall,
    Usage,
    Waiting,
)
from model_loader.progress import LoadProgress, Stage


@dataclass
class Script:
    """What the model does next; tests change it between questions.

    Attributes:
        answer: the text, or a function of the last question.
        reasoning: what it thinks first.
        tool_calls: what it asks for after the answer, if it was offered tools.
        finish_reason: why an answer without calls ends.
        tokens_per_s: speed; a token is one word with its space.
        fail_at: number of tokens after which it raises `error`.
        hang_at: number of tokens after which it says nothing until `released` is set.
        queue: its place in the queue at first; one is served each `queue_step_s`.
        reads: how many tokens of how many it has read, one after the other, each for `queue_step_s`.
    """

    answer: str | Callable[[str], str] = "One two three four five six seven eight nine ten."
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason = "stop"
    tokens_per_s: float = 50.0
    fail_at: int | None = None
    error: Exception = field(default_factory=lambda: GenerationFailed("The scripted model failed as it was told to."))
    hang_at: int | None = None
    queue: int = 0
    queue_step_s: float = 0.3
    reads: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class ScriptedPlacement:
    """The part of a placement that front ends read."""

    reason: str = "Scripted answers run on the CPU in float32 because there is nothing to compute."
    summary: str = "float32 on cpu"


@dataclass(frozen=True)
class ScriptedCheckpoint:
    """The part of a checkpoint that front ends read."""

    source: str = ""
    revision: str = "0123abcd"
    template_hash: str = "feedc0ffee42"


class ScriptedModel:
    """Answers from `script`; `num_streams` says how many streams are open now, the lists what was asked.

    A character counts as one token, whose id is its code point; every token is as likely as any other.
    """

    name = "scripted"
    is_completion_model = False
    can_switch_thinking = False
    thinks_by_default = True
    supports_tools = True
    problem: str | None = None
    capacity = "4 answers at once, because this is a test"
    window_reason = ""
    checkpoint = ScriptedCheckpoint()
    placement = ScriptedPlacement()
    default_sampling = Sampling(max_new_tokens=256, temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.05)
    default_system = "You are a scripted assistant."

    def __init__(self, script: Script | None = None, context_length: int = 4096) -> None:
        self.script = script or Script()
        self.context_length = context_length
        self.num_streams = 0
        self.prompts: list[tuple[Message, ...]] = []
        self.samplings: list[Sampling | None] = []
        self.openings: list[Opening] = []
        self.tools: list[ToolUse] = []
        self.controls: list[Controls] = []
        self.stops: list[tuple[str, ...]] = []
        self.owners: list[str] = []
        self.released = threading.Event()
        self._lock = threading.Lock()

    @property
    def activity(self) -> EngineActivity:
        """As many run as there are streams; nothing ever waits."""
        return EngineActivity(self.num_streams, 0, 4, self.num_streams * 100, self.context_length)

    def encode(self, text: str) -> list[int]:
        """Its code points."""
        return list(map(ord, text))

    def decode(self, ids: Sequence[int]) -> str:
        """The characters of code points; other numbers have none."""
        found = "".join(chr(each) for each in ids if each <= sys.maxunicode)
        return found.encode("utf-8", "ignore").decode("utf-8")

    def measure(
        self, messages: Sequence[Message], sampling: Sampling, *, opening: Opening = NO_OPENING, owner: str = ""
    ) -> PromptCost:
        """Every character counts as one token, and half of them are known."""
        fitted = self.fit(messages, sampling, opening)
        tokens = sum(len(one.content) for one in fitted.messages)
        return PromptCost(tokens, tokens // 2, self.context_length, fitted.left_out)

    def fit(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        opening: Opening = NO_OPENING,
        tools: ToolUse = NO_TOOLS,
    ) -> Fitted:
        """Leaves out whole turns; every character counts as one token."""
        system = [one for one in messages if one.role == "system"]
        rest = list(messages[len(system) :])
        left_out = 0
        while sum(len(one.content) for one in system + rest) > self.context_length:
            following = next((at for at, one in enumerate(rest[1:], start=1) if one.role == "user"), None)
            if following is None:
                raise ContextLengthExceeded(len(rest[-1].content), sampling.max_new_tokens, self.context_length)
            del rest[:following]
            left_out += following
        return Fitted((*system, *rest), left_out)

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
        """Follows the script."""
        script = self.script
        with self._lock:
            self.num_streams += 1
            self.prompts.append(tuple(messages))
            self.samplings.append(sampling)
            self.openings.append(opening)
            self.tools.append(tools)
            self.controls.append(controls)
            self.stops.append(tuple(stop))
            self.owners.append(owner)
        try:
            yield from self._events(script, messages[-1].content, tools, controls)
        finally:
            with self._lock:
                self.num_streams -= 1

    def complete(
        self,
        text: str | Sequence[int],
        sampling: Sampling | None = None,
        *,
        stop: Sequence[str] = (),
        owner: str = "",
        controls: Controls = NO_CONTROLS,
    ) -> Generator[Event]:
        """Follows the script, whatever the text is."""
        asked = text if isinstance(text, str) else self.decode(text)
        yield from self.stream([Message("user", asked)], sampling, stop=stop, owner=owner, controls=controls)

    def begin_again(self, script: Script) -> None:
        """Follows another script and forgets what was asked."""
        self.script = script
        self.problem = None
        for asked in (self.prompts, self.samplings, self.openings, self.tools, self.controls, self.stops, self.owners):
            asked.clear()

    def close(self) -> None:
        """Lets a hanging stream go."""
        self.released.set()

    def _events(self, script: Script, question: str, tools: ToolUse, controls: Controls) -> Iterator[Event]:
        began = time.monotonic()
        for ahead in range(script.queue, -1, -1):
            yield Waiting(ahead)
            time.sleep(script.queue_step_s if ahead else 0)
        for num_read, num_tokens in script.reads:
            yield Waiting(0, num_read, num_tokens)
            time.sleep(script.queue_step_s)
        if controls.has_prompt_scores:
            yield Scores(_scores(question, controls.top_logprobs or 0, is_prompt=True), is_prompt=True)
        answer = script.answer if isinstance(script.answer, str) else script.answer(question)
        thoughts = [ReasoningDelta(piece) for piece in _words(script.reasoning)]
        deltas: list[TextDelta | ReasoningDelta] = [*thoughts, *(TextDelta(piece) for piece in _words(answer))]
        first_token = time.monotonic()
        for number, delta in enumerate(deltas):
            if number == script.fail_at:
                raise script.error
            if number == script.hang_at:
                self.released.wait(60)
            time.sleep(1 / script.tokens_per_s)
            if controls.top_logprobs is not None:
                yield Scores(_scores(delta.text, controls.top_logprobs))
            yield delta
        calls = script.tool_calls if tools.offered else ()
        yield from calls
        decode_s = time.monotonic() - first_token
        usage = Usage(len(question), len(deltas), 0, 0.0, max(first_token - began, 0.01), decode_s)
        yield Finished("tool_calls" if calls else script.finish_reason, usage)


class ScriptedLoad:
    """A load whose end the test decides: at once, after `finish()`, or as a failure with `fail()`."""

    def __init__(self, model: ScriptedModel, *, is_loaded: bool = True) -> None:
        self.model = model
        self.progress = LoadProgress("ready", 1.0) if is_loaded else LoadProgress("libraries")
        self.chat_model: ChatSource | None = model if is_loaded else None
        self.error: str | None = None
        self.error_class = ""
        self.notice: str | None = None
        self.has_started = False
        self._ended = threading.Event()
        if is_loaded:
            self._ended.set()

    def start(self) -> None:
        """Remembers that it was called."""
        self.has_started = True

    def report(self, stage: Stage, fraction: float | None, detail: str = "") -> None:
        """The load has come this far."""
        self.progress = LoadProgress(stage, fraction, detail)

    def finish(self) -> None:
        """The model is there now."""
        self.progress, self.chat_model = LoadProgress("ready", 1.0), self.model
        self._ended.set()

    def fail(self, message: str) -> None:
        """There will be no model."""
        self.error = message
        self._ended.set()

    def wait(self, timeout_s: float | None = None) -> ChatSource | None:
        """As `BackgroundLoad.wait`."""
        self._ended.wait(timeout_s)
        return self.chat_model

    def close(self) -> None:
        """Closes the model."""
        self.model.close()


def many_words(number: int) -> str:
    """As many words, each another: an answer that repeats itself would be stopped."""
    return "".join(f"word{at} " for at in range(number))


def _words(text: str) -> list[str]:
    """The text cut after every space, so that joining the pieces gives it back."""
    pieces = text.split(" ")
    return [piece + " " for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])


def _scores(text: str, num_top: int, *, is_prompt: bool = False) -> tuple[TokenScore, ...]:
    top = tuple((chr(ord("a") + number).encode(), -0.5 - number) for number in range(num_top))
    scores = [TokenScore(character.encode(), -0.5, top) for character in text]
    if is_prompt and scores:
        scores[0] = TokenScore(scores[0].token, None)
    return tuple(scores)
