"""What is asked of the engine and what it answers: settings, requests and tokens, without torch.

`Sampling` is the one place where each setting's range is written; the page's sliders and error messages quote it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from model_loader.errors import InvalidSetting
from model_loader.events import FinishReason, Usage

DEFAULT_MAX_NEW_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class Range:
    """The values a setting may take, both ends included."""

    low: float
    high: float


SAMPLING_RANGES: Mapping[str, Range] = {
    "max_new_tokens": Range(1, 131_072),
    "temperature": Range(0.0, 2.0),
    "top_p": Range(0.01, 1.0),
    "top_k": Range(0, 1000),
    "min_p": Range(0.0, 1.0),
    "repetition_penalty": Range(0.5, 2.0),
    "presence_penalty": Range(-2.0, 2.0),
    "frequency_penalty": Range(-2.0, 2.0),
    "seed": Range(0, 2**63 - 1),
}
LOGIT_BIAS = Range(-100.0, 100.0)
TOP_LOGPROBS = Range(0, 20)
_WHOLE_NUMBERS = frozenset({"max_new_tokens", "top_k", "seed", "top_logprobs"})


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. Names and meanings are those of transformers' `GenerationConfig`.

    Attributes:
        max_new_tokens: tokens of the answer at most.
        temperature: logits are divided by it; 0 takes the likeliest token every time.
        top_p: only the likeliest tokens that together reach this probability stay; 1 keeps all.
        top_k: only this many of the likeliest tokens stay; 0 keeps all.
        min_p: only tokens at least this many times as likely as the likeliest stay; 0 keeps all.
        repetition_penalty: logits of tokens already in prompt or answer are divided by it when positive and
            multiplied when negative (Keskar et al. 2019, arXiv:1909.05858); 1 changes nothing.
        presence_penalty: taken off the logits of tokens that are in the answer so far, as in OpenAI's API; 0 is off.
        frequency_penalty: likewise, once for each time that they are there.
        seed: the same seed, prompt and settings give the same answer; None draws a fresh one.

    Raises:
        InvalidSetting: a value is not a finite number inside its range.
    """

    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, allowed in SAMPLING_RANGES.items():
            value = getattr(self, name)
            if name == "seed" and value is None:
                continue
            _check_range(name, value, allowed)

    def changed(self, **settings: Any) -> "Sampling":
        """The same settings with some replaced; checks them again."""
        return replace(self, **settings)


TokenFilter = Callable[[Sequence[int]], int]
"""Which ids may follow the answer so far: a number with a bit for each, lowest first; -1 allows all. The engine's
thread calls, and may ask for the same step again."""


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to make: settings are copied into it, so nothing it holds changes while it runs.

    Attributes:
        prompt_ids: the prompt, at least one id.
        sampling: how tokens are drawn.
        stop_ids: the ids that end the answer; the one that did is its last token.
        owner: whose request it is: owners take turns, and only an owner's own prompts are ever reused for it.
        num_shared_tokens: how many ids at the prompt's start are the application's own, so that anybody may reuse them.
        logit_bias: what is added to the logits of these ids.
        token_filter: which ids may come next; None allows all.
        top_logprobs: how many of the likeliest tokens are reported with each token; None reports no probabilities.
        has_prompt_logprobs: whether the first token brings the probabilities of the prompt's tokens.

    Raises:
        InvalidSetting: the prompt is empty, or a bias or a number is outside its range.
    """

    prompt_ids: tuple[int, ...]
    sampling: Sampling
    stop_ids: frozenset[int]
    owner: str = ""
    num_shared_tokens: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    token_filter: TokenFilter | None = None
    top_logprobs: int | None = None
    has_prompt_logprobs: bool = False

    def __post_init__(self) -> None:
        if not self.prompt_ids:
            raise InvalidSetting("The prompt is empty; give at least one token.")
        for token_id, bias in self.logit_bias.items():
            _check_range(f"logit_bias of token {token_id}", bias, LOGIT_BIAS)
        if self.top_logprobs is not None:
            _check_range("top_logprobs", self.top_logprobs, TOP_LOGPROBS)

    @property
    def max_tokens(self) -> int:
        """Tokens that prompt and answer may come to."""
        return len(self.prompt_ids) + self.sampling.max_new_tokens

    def known_to(self, owner: str) -> tuple[int, ...]:
        """The beginning of the prompt that may be reused for an owner's requests."""
        return self.prompt_ids if owner == self.owner else self.prompt_ids[: self.num_shared_tokens]


@dataclass(frozen=True, slots=True)
class Logprob:
    """How likely a token was, before penalties and temperature.

    Attributes:
        logprob: natural logarithm of its probability.
        top: the likeliest ids at its place with theirs, likeliest first.
    """

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Token:
    """One sampled token.

    Attributes:
        id: its id.
        usage: what the request has cost up to here.
        finish_reason: why it was the last one; None when more will follow.
        logprob: how likely it was, if the request asks.
        prompt_logprobs: with the first token, if the request asks: of each prompt token but the first, in order.
    """

    id: int
    usage: Usage
    finish_reason: FinishReason | None = None
    logprob: Logprob | None = None
    prompt_logprobs: tuple[Logprob, ...] | None = None


@dataclass(frozen=True, slots=True)
class EngineActivity:
    """How busy an engine is at one moment.

    Attributes:
        num_running: requests that are being answered.
        num_waiting: requests that wait for their turn.
        max_running: how many can be answered at once.
        kv_tokens_used: tokens that the running requests may come to.
        kv_tokens: tokens that there is room for.
    """

    num_running: int
    num_waiting: int
    max_running: int
    kv_tokens_used: int
    kv_tokens: int


def _check_range(name: str, value: Any, allowed: Range) -> None:
    try:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        raise InvalidSetting(
            f"{name} has far too many digits; give a number from {allowed.low:,} to {allowed.high:,}."
        ) from None
    if is_number and name in _WHOLE_NUMBERS and not isinstance(value, int):
        is_number = False
    if not is_number or not allowed.low <= value <= allowed.high:
        kind = "a whole number" if name in _WHOLE_NUMBERS else "a number"
        raise InvalidSetting(f"{name} is {value!r}; give {kind} from {allowed.low:,} to {allowed.high:,}.")
