"""What every answer of the API has: its head, what it cost, and how likely its tokens were.

`stream` and `completions` make OpenAI's objects of events with it. Importing this module imports openai, half a second.
"""

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from openai.types import CompletionUsage
from openai.types.completion_usage import PromptTokensDetails
from pydantic import BaseModel

from model_loader.chat_source import ChatSource
from model_loader.events import Event, Usage
from ui.http_api.translate import served_name

_LEAST_LOGPROB = -9999.0
"""OpenAI's word for a probability of nothing, whose logarithm JSON cannot hold."""


@dataclass(frozen=True, slots=True)
class Head:
    """What all pieces of one answer repeat.

    Attributes:
        id: of the answer.
        created: seconds since 1970.
        model: the name it is served under.
        fingerprint: the same as long as the same weights run in the same way.
    """

    id: str
    created: int
    model: str
    fingerprint: str


def make_head(prefix: str, chat_model: ChatSource) -> Head:
    """A new answer's head; `prefix` tells kinds of answers apart."""
    checkpoint, placement = chat_model.checkpoint, chat_model.placement
    ground = "\n".join((chat_model.name, checkpoint.revision, checkpoint.template_hash, placement.summary))
    fingerprint = "fp_" + hashlib.sha256(ground.encode()).hexdigest()[:10]
    return Head(f"{prefix}-{secrets.token_hex(16)}", int(time.time()), served_name(chat_model), fingerprint)


class Answer(Protocol):
    """Makes objects for the client of the events of one request's streams; `number` says which stream's."""

    def begin(self) -> Sequence[BaseModel]:
        """What is sent before the first event."""

    def feed(self, number: int, event: Event) -> Sequence[BaseModel]:
        """What an event adds."""

    def end(self) -> Sequence[BaseModel]:
        """What is sent after the last event."""


@dataclass
class Costs:
    """What the streams of one request have cost; `num_each` of them share a prompt."""

    num_each: int
    usages: dict[int, Usage] = field(default_factory=dict)

    def total(self, *, counts_answers: bool = True) -> CompletionUsage:
        """The sum; a prompt that several answers share counts once."""
        prompts = [usage for number, usage in sorted(self.usages.items()) if number % self.num_each == 0]
        prompt_tokens = sum(usage.prompt_tokens for usage in prompts)
        answer_tokens = sum(usage.completion_tokens for usage in self.usages.values()) if counts_answers else 0
        return CompletionUsage(
            prompt_tokens=prompt_tokens,
            completion_tokens=answer_tokens,
            total_tokens=prompt_tokens + answer_tokens,
            prompt_tokens_details=PromptTokensDetails(
                cached_tokens=sum(usage.cached_prompt_tokens for usage in prompts)
            ),
        )


def finite(logprob: float) -> float:
    """A logarithm that JSON can hold."""
    return max(logprob, _LEAST_LOGPROB)


def spell(token: bytes) -> str:
    """A token's text; half a character as OpenAI's completions spell it."""
    try:
        return token.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{each:02x}" for each in token)
