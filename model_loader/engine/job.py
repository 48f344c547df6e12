"""A request inside the engine: its sequence, its way to the reader and its clock.

The engine's thread alone changes it, but for `is_cancelled`.
"""

import queue
import time
from typing import Any

import torch

from model_loader.engine.request import Logprob, Request, Token
from model_loader.engine.runner import Feed
from model_loader.engine.sampling import Sampler, logprobs
from model_loader.events import FinishReason, Usage

_MAX_LOGPROB_TOKENS = 128
"""Prompt tokens whose probabilities are computed at a time: each takes a row of the whole vocabulary."""


class Job:
    """A request inside the engine: its sequence, its way to the reader and its clock.

    Attributes:
        sequence: what the runner gave it.
        num_begun: tokens of the prompt that are read, and the share of the next ones that the model has come through.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.output: queue.SimpleQueue[Token | Exception] = queue.SimpleQueue()
        self.sampler = Sampler(request)
        self.is_cancelled = False
        self.sequence: Any = None
        self.num_begun = 0
        self._num_cached = 0
        self._prompt_logprobs: list[Logprob] = []
        self._arrived_s = self._started_s = time.monotonic()
        self._first_token_s = 0.0

    @property
    def count(self) -> int:
        """Tokens of the answer so far; the last one is not read yet."""
        return len(self.sampler.answer_ids)

    @property
    def num_read(self) -> int:
        """How many of the prompt's tokens the model has read."""
        return min(len(self.sequence.ids), len(self.request.prompt_ids)) if self.sequence is not None else 0

    @property
    def is_reading(self) -> bool:
        """Whether some of the prompt is still unread."""
        return self.num_read < len(self.request.prompt_ids)

    def begin(self, sequence: Any) -> None:
        """Takes a place among the running."""
        self.sequence = sequence
        self._num_cached = self.num_begun = len(sequence.ids)
        self._started_s = time.monotonic()

    def next_piece(self, max_tokens: int) -> Feed:
        """The next tokens of the prompt."""
        if self.request.has_prompt_logprobs:
            max_tokens = min(max_tokens, _MAX_LOGPROB_TOKENS)
        ids = self.request.prompt_ids[self.num_read : self.num_read + max_tokens]
        if self.request.has_prompt_logprobs:
            return Feed(self.sequence, ids, len(ids))
        return Feed(self.sequence, ids, 1 if self.num_read + len(ids) == len(self.request.prompt_ids) else 0)

    def note_prompt(self, scores: torch.Tensor) -> None:
        """Keeps how likely the prompt's next tokens were; `scores` belongs to the piece that was just read."""
        first = self.num_read - len(scores)
        following = self.request.prompt_ids[first + 1 : self.num_read + 1]
        if following:
            self._prompt_logprobs += logprobs(scores[: len(following)], following, self.request.top_logprobs or 0)

    def hand_out(self, token_id: int, scores: torch.Tensor, now_s: float) -> bool:
        """Gives a new token to the reader; says whether it is the last one."""
        request, num_top = self.request, self.request.top_logprobs
        logprob = None if num_top is None else logprobs(scores[None], [token_id], num_top)[0]
        prompt_logprobs = None
        if self.count == 1:
            self._first_token_s = now_s
            prompt_logprobs = tuple(self._prompt_logprobs) if request.has_prompt_logprobs else None
        reason: FinishReason | None = "length" if self.count == request.sampling.max_new_tokens else None
        reason = "stop" if token_id in request.stop_ids else reason
        usage = Usage(
            prompt_tokens=len(request.prompt_ids),
            completion_tokens=self.count,
            cached_prompt_tokens=self._num_cached,
            queue_s=self._started_s - self._arrived_s,
            first_token_s=self._first_token_s - self._arrived_s,
            decode_s=now_s - self._first_token_s,
        )
        self.output.put(Token(token_id, usage, reason, logprob, prompt_logprobs))
        return reason is not None
