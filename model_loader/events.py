"""What flows from a model to its reader: immutable values, the vocabulary every front end shares.

A stream is any mix of `Waiting`, `ReasoningDelta`, `TextDelta`, `ToolCall` and `Scores`, then exactly one `Finished`.
Joining the text of all `TextDelta` gives the whole answer. An error is raised where the stream is read.
"""

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing new yet; repeated several times a second, so that a reader can look around and leave.

    Attributes:
        ahead: its place in the queue, the first being 1; 0 while the model works on it.
        prompt_tokens_read: how many of the prompt's tokens the model has read; of those it is reading, the share of
            the layers that they have passed.
        prompt_tokens: how many there are; 0 while it waits in the queue.
    """

    ahead: int
    prompt_tokens_read: int = 0
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer, never empty, always whole characters."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """The next piece of what the model thinks before it answers, never empty, always whole characters."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a function to be called.

    Attributes:
        name: of the function.
        arguments: a JSON object as text, exactly as the model wrote it; from Qwen-1 it may be other text.
    """

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class TokenScore:
    """How likely one token was, before penalties and temperature.

    Attributes:
        token: its bytes; half a character is possible, control tokens have their name.
        logprob: natural logarithm of its probability; None for the first token of a text.
        top: the likeliest tokens at its place with theirs, likeliest first.
    """

    token: bytes
    logprob: float | None
    top: tuple[tuple[bytes, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of the next tokens, if they were asked for; they come before the text that the tokens complete.

    Attributes:
        tokens: in order. The one that ends an answer is not among them.
        is_prompt: whether they are the prompt's tokens; those come once, before everything else.
    """

    tokens: tuple[TokenScore, ...]
    is_prompt: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What one request cost, measured by the engine, or told by a server elsewhere.

    Attributes:
        prompt_tokens: tokens of the prompt, cached ones included.
        completion_tokens: tokens that were sampled, the stop token included.
        cached_prompt_tokens: prompt tokens whose keys and values were already there.
        queue_s: seconds between the request's arrival and its turn.
        first_token_s: seconds between its arrival and the first sampled token.
        decode_s: seconds between the first and the last sampled token.
        is_estimate: whether the tokens were not counted but judged by the text, because a server tells no numbers.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int
    queue_s: float
    first_token_s: float
    decode_s: float
    is_estimate: bool = False

    @property
    def computed_tokens(self) -> int:
        """Tokens that were computed for the request: those read anew and those written."""
        return self.prompt_tokens - self.cached_prompt_tokens + self.completion_tokens

    @property
    def tokens_per_s(self) -> float | None:
        """Decoding speed in tokens per second; None while fewer than two tokens were sampled."""
        if self.completion_tokens < 2 or self.decode_s <= 0:
            return None
        return (self.completion_tokens - 1) / self.decode_s


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer.

    Attributes:
        reason: "stop" when the model ended its turn or a stop string appeared, "length" when `max_new_tokens` did,
            "tool_calls" when it waits for the results of its calls.
        usage: what the request cost.
    """

    reason: FinishReason
    usage: Usage


Event = Waiting | TextDelta | ReasoningDelta | ToolCall | Scores | Finished
