"""What is asked of the engine and what it answers: settings, requests and tokens, without torch.

`Sampling` is the one place where each setting's range is written; the page's sliders and error messages quote it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    "repetition_penalty": Range(0.5, 2.0),
    "seed": Range(0, 2**63 - 1),
}
_WHOLE_NUMBERS = frozenset({"max_new_tokens", "top_k", "seed"})


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. Names and meanings are those of transformers' `GenerationConfig`.

    Attributes:
        max_new_tokens: tokens of the answer at most.
        temperature: logits are divided by it; 0 takes the likeliest token every time.
        top_p: only the likeliest tokens that together reach this probability stay; 1 keeps all.
        top_k: only this many of the likeliest tokens stay; 0 keeps all.
        repetition_penalty: logits of tokens already in prompt or answer are divided by it when positive and
            multiplied when negative (Keskar et al. 2019, arXiv:1909.05858); 1 changes nothing.
        seed: the same seed, prompt and settings give the same answer; None draws a fresh one.

    Raises:
        InvalidSetting: a value is not a finite number inside its range.
    """

    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
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


def _check_range(name: str, value: Any, allowed: Range) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if is_number and name in _WHOLE_NUMBERS and not isinstance(value, int):
        is_number = False
    if not is_number or not allowed.low <= value <= allowed.high:
        kind = "a whole number" if name in _WHOLE_NUMBERS else "a number"
        raise InvalidSetting(f"{name} is {value!r}; give {kind} from {allowed.low:,} to {allowed.high:,}.")


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to make: settings are copied into it, so nothing it holds changes while it runs.

    Attributes:
        prompt_ids: the prompt, at least one id.
        sampling: how tokens are drawn.
        stop_ids: the ids that end the answer; the one that did is its last token.
    """

    prompt_ids: tuple[int, ...]
    sampling: Sampling
    stop_ids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Token:
    """One sampled token.

    Attributes:
        id: its id.
        usage: what the request has cost up to here.
        finish_reason: why it was the last one; None when more will follow.
    """

    id: int
    usage: Usage
    finish_reason: FinishReason | None = None
