"""One background thread that owns the model and turns requests into tokens, one request after the other.

A reader gets an iterator; closing it is the only way to cancel. The thread looks for that between two steps and
between two pieces of a prompt. It knows ids only: no text, no roles, no stop strings.
"""

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import torch
import transformers

from model_loader.engine.request import Request, Token
from model_loader.engine.sampling import Sampler
from model_loader.errors import EngineStopped, GenerationFailed, InvalidSetting
from model_loader.events import FinishReason, Usage, Waiting
from model_loader.loading.load import LoadedModel

logger = logging.getLogger(__name__)

Forward = Callable[[torch.Tensor], torch.Tensor]
"""Reads ids `(tokens,)` into a request's cache and returns the logits `(vocab,)` after the last one."""

PREFILL_CHUNK_TOKENS = 512
"""Prompt tokens read in one forward pass; a closed stream is noticed between two of them."""
WAITING_INTERVAL_S = 0.25
"""How often a reader that has nothing to read is told so."""
_MAX_JOIN_S = 10.0


class Engine:
    """Serves requests in the order they came. Every method may be called from any thread."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    @property
    def num_requests(self) -> int:
        """Requests that are running or waiting."""
        with self._changed:
            return len(self._jobs)

    def stream(self, request: Request) -> Generator[Token | Waiting]:
        """The tokens of a request as they are sampled; each carries the usage so far, the last one the finish reason.

        The request is queued at the first `next()`. `Waiting` comes whenever nothing else has for a quarter second.
        Closing the iterator ends the request within one step.

        Raises (where it is read):
            InvalidSetting: the prompt is empty or holds an id that the model does not know.
            GenerationFailed: this request failed; others go on.
            EngineStopped: the engine was closed.
        """
        self._check(request)
        job = _Job(request)
        with self._changed:
            if self._is_closed:
                raise _closed()
            self._jobs.append(job)
            self._changed.notify()
        try:
            while True:
                try:
                    item = job.output.get(timeout=WAITING_INTERVAL_S)
                except queue.Empty:
                    yield Waiting(self._num_ahead(job))
                    continue
                if isinstance(item, Exception):
                    raise item
                yield item
                if item.finish_reason is not None:
                    return
        finally:
            self._cancel(job)

    def close(self) -> None:
        """Ends every request with `EngineStopped` and stops the thread. May be called twice."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(_MAX_JOIN_S)

    def _check(self, request: Request) -> None:
        vocab_size = self._loaded.vocab_size
        if not request.prompt_ids:
            raise InvalidSetting("The prompt is empty; give at least one token.")
        if not all(0 <= each < vocab_size for each in request.prompt_ids):
            raise InvalidSetting(
                f"The prompt holds a token id outside 0 to {vocab_size - 1:,}, the model's vocabulary."
            )

    def _num_ahead(self, job: "_Job") -> int:
        with self._changed:
            return self._jobs.index(job) if job in self._jobs else 0

    def _cancel(self, job: "_Job") -> None:
        """Marks a job; a waiting one leaves the queue at once, the running one is left to the thread."""
        with self._changed:
            job.is_cancelled = True
            if job in self._jobs and self._jobs[0] is not job:
                self._jobs.remove(job)

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._is_closed)
                if self._is_closed:
                    break
                job = self._jobs[0]
            try:
                self._run(job)
            except Exception as error:
                job.output.put(_for_reader(error))
                # The traceback holds the tensors of the failed step; they are freed with it, before the next request.
                error.__traceback__ = None
            finally:
                with self._changed, contextlib.suppress(ValueError):
                    self._jobs.remove(job)
        with self._changed:
            for job in self._jobs:
                job.output.put(_closed())
            self._jobs.clear()

    @torch.inference_mode()
    def _run(self, job: "_Job") -> None:
        job.started_s = time.monotonic()
        request = job.request
        prompt_ids = torch.tensor(request.prompt_ids, device=self._loaded.input_device)
        cache = transformers.DynamicCache(config=self._loaded.model.config)
        forward = partial(self._forward, cache, self._loaded.request_arguments(len(request.prompt_ids)))
        logits = self._prefill(job, prompt_ids, forward)
        if logits is None:
            return
        sampler = Sampler(request.sampling, prompt_ids.to(logits.device), logits.shape[-1])
        for count in range(1, request.sampling.max_new_tokens + 1):
            token_id = sampler.next_id(logits)
            now = time.monotonic()
            job.first_token_s = job.first_token_s or now
            reason = self._finish_reason(request, token_id, count)
            job.output.put(Token(token_id, job.usage(count, now), reason))
            if reason is not None or self._is_abandoned(job):
                return
            logits = forward(torch.tensor([token_id], device=prompt_ids.device))

    def _prefill(self, job: "_Job", prompt_ids: torch.Tensor, forward: Forward) -> torch.Tensor | None:
        """Logits `(vocab,)` after the last prompt token, or None when the reader left meanwhile."""
        logits = None
        for chunk in prompt_ids.split(PREFILL_CHUNK_TOKENS):
            if self._is_abandoned(job):
                return None
            logits = forward(chunk)
        return logits

    def _is_abandoned(self, job: "_Job") -> bool:
        """Whether the reader has left; raises `EngineStopped` for one who has not when the engine closes."""
        if self._is_closed:
            raise _closed()
        return job.is_cancelled

    def _forward(self, cache: transformers.Cache, arguments: dict[str, Any], ids: torch.Tensor) -> torch.Tensor:
        """Reads ids of shape `(tokens,)` into the cache; returns the logits `(vocab,)` after the last one."""
        output = self._loaded.model(
            input_ids=ids.unsqueeze(0), past_key_values=cache, use_cache=True, logits_to_keep=1, **arguments
        )
        return output.logits[0, -1]

    @staticmethod
    def _finish_reason(request: Request, token_id: int, count: int) -> FinishReason | None:
        if token_id in request.stop_ids:
            return "stop"
        return "length" if count == request.sampling.max_new_tokens else None


class _Job:
    """A request inside the engine: its way to the reader and its clock."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.output: queue.SimpleQueue[Token | Exception] = queue.SimpleQueue()
        self.is_cancelled = False
        self.arrived_s = time.monotonic()
        self.started_s = self.arrived_s
        self.first_token_s: float | None = None

    def usage(self, completion_tokens: int, now_s: float) -> Usage:
        first_token_s = self.first_token_s or now_s
        return Usage(
            prompt_tokens=len(self.request.prompt_ids),
            completion_tokens=completion_tokens,
            cached_prompt_tokens=0,
            queue_s=self.started_s - self.arrived_s,
            first_token_s=first_token_s - self.arrived_s,
            decode_s=now_s - first_token_s,
        )


def _closed() -> EngineStopped:
    return EngineStopped("The model was closed before the answer was finished. Start the program again.")


def _for_reader(error: Exception) -> Exception:
    """The error as the reader gets it: ours as it is, memory and anything unforeseen as `GenerationFailed`."""
    if isinstance(error, GenerationFailed | EngineStopped):
        return error.with_traceback(None)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return GenerationFailed("The memory ran out during this answer. Shorten the conversation and ask again.")
    logger.error("A request failed in the engine", exc_info=error)
    return GenerationFailed("The answer failed inside the engine; the program's log says why. Ask again.")
