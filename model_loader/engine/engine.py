"""One background thread that owns the model and turns requests into tokens, many requests in one step.

    admit waiting requests -> schedule their next tokens -> compute -> sample -> hand out

A reader gets an iterator; closing it is the only way to cancel. The thread looks for that between two steps, and on a
processor, where large pieces of a prompt are read best and take long, between two layers; there it also looks for who
has come since. It knows ids only: no text, no roles, no stop strings.
"""

import logging
import queue
import threading
import time
from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from model_loader.engine.choose_runner import choose_runner
from model_loader.engine.fair_queue import FairQueue
from model_loader.engine.job import Job
from model_loader.engine.pace import PIECE_S, Pace
from model_loader.engine.request import EngineActivity, Request, Token
from model_loader.engine.runner import Feed, Runner
from model_loader.engine.sampling import InvalidNumbers
from model_loader.engine.slots import SlotPlan, common_length
from model_loader.errors import (
    ContextLengthExceeded,
    EngineStopped,
    GenerationFailed,
    InvalidSetting,
    ModelLoaderError,
)
from model_loader.events import Waiting
from model_loader.loading.hardware import use_device
from model_loader.loading.load import LoadedModel, on_a_passing_thread

logger = logging.getLogger(__name__)

WAITING_INTERVAL_S = 0.25
"""How often a reader that has nothing to read is told so."""
HANG_S = 30.0
"""A step, or a layer where they are watched, that takes longer has hung."""
_LAYER_S = 0.5
"""So long may a layer take, where they are watched, before somebody who has left is noticed."""
_ANEW_SHARE = 0.25
"""Of its layers; when a step has come through them, it may be begun anew for somebody who can be read in it."""
_MAX_JOIN_S = 10.0


class Engine:
    """Serves many requests side by side. Every method may be called from any thread.

    Args:
        loaded: the model; from now on this engine's thread alone touches it.
        plan: how many requests run at once; None divides what memory is free.
    """

    def __init__(self, loaded: LoadedModel, plan: SlotPlan | None = None) -> None:
        self._loaded = loaded
        self._runner: Runner = on_a_passing_thread(lambda: choose_runner(loaded, plan))
        self._waiting: FairQueue[Job] = FairQueue()
        self._running: list[Job] = []
        self._changed = threading.Condition()
        self._turns: Sequence[tuple[Job, Feed]] = ()
        self._num_layers_done = 0
        self._may_begin_anew = True
        self._hooks = self._watch_layers()
        self._pace = Pace(self._runner.fewest_tokens, alone_s=max(PIECE_S, _LAYER_S * len(self._hooks)))
        self._step_began_s: float | None = None
        self._stopped: str | None = None
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    @property
    def num_requests(self) -> int:
        """Requests that are running or waiting."""
        with self._changed:
            return len(self._running) + len(self._waiting)

    @property
    def activity(self) -> EngineActivity:
        """How busy it is now."""
        with self._changed:
            used = sum(job.request.max_tokens for job in self._running)
            return EngineActivity(
                len(self._running), len(self._waiting), self.plan.num_slots, used, self.plan.max_tokens
            )

    @property
    def plan(self) -> SlotPlan:
        """How many requests run at once, with how many tokens, and why."""
        return self._runner.plan

    @property
    def problem(self) -> str | None:
        """Why the engine is unhealthy, as a sentence for the user; None while it is well."""
        return self._hang() or self._problem

    def stream(self, request: Request) -> Generator[Token | Waiting]:
        """The tokens of a request as they are sampled; each carries the usage so far, the last one the finish reason.

        The request is queued at the first `next()`. `Waiting` comes whenever nothing else has for a quarter second.
        Closing the iterator ends the request within one step.

        Raises (where it is read):
            InvalidSetting: the prompt holds an id that the model does not know.
            ContextLengthExceeded: prompt and answer have no room in the memory that is there.
            GenerationFailed: this request failed; others go on.
            EngineStopped: the engine was closed, or has failed or hung.
        """
        self._check(request)
        job = Job(request)
        with self._changed:
            if self._stopped is not None:
                raise EngineStopped(self._stopped)
            self._waiting.put(request.owner, job)
            self._changed.notify()
        try:
            while True:
                try:
                    item = job.output.get(timeout=WAITING_INTERVAL_S)
                except queue.Empty:
                    if (hang := self._hang()) is not None:
                        raise EngineStopped(hang) from None
                    yield self._whereabouts(job)
                    continue
                if isinstance(item, Exception):
                    raise item
                yield item
                if item.finish_reason is not None:
                    return
        finally:
            with self._changed:
                job.is_cancelled = True  # if it is running; otherwise it leaves the queue at once
                self._waiting.remove(job)

    def num_known(self, prompt_ids: Sequence[int], owner: str) -> int:
        """How many of a prompt's first tokens need not be read again, as far as can be told now."""
        return self._runner.num_known(prompt_ids, owner)

    def close(self) -> None:
        """Ends every request with `EngineStopped` and stops the thread. May be called twice."""
        with self._changed:
            closed = "The model was closed before the answer was finished. Start the program again."
            self._stopped = self._stopped or closed
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(_MAX_JOIN_S)

    def _check(self, request: Request) -> None:
        vocab_size = self._loaded.vocab_size
        for name, ids in (("prompt", request.prompt_ids), ("logit_bias", tuple(request.logit_bias))):
            unknown = next((each for each in ids if not 0 <= each < vocab_size), None)
            if unknown is not None:
                raise InvalidSetting(
                    f"The {name} holds the token id {unknown}, outside 0 to {vocab_size - 1:,}, the model's vocabulary."
                )
        if request.max_tokens > self.plan.max_tokens:
            raise ContextLengthExceeded(len(request.prompt_ids), request.sampling.max_new_tokens, self.plan.max_tokens)

    def _hang(self) -> str | None:
        """That the step which is being computed has hung, as a sentence for the user; None if it has not."""
        began_s = self._step_began_s
        if began_s is None or time.monotonic() - began_s <= HANG_S:
            return None
        return f"The model has computed nothing for {HANG_S:.0f} seconds. Start the program again."

    def _whereabouts(self, job: Job) -> Waiting:
        with self._changed:
            for place, waiting in enumerate(self._waiting, start=1):
                if waiting is job:
                    return Waiting(place)
        return Waiting(0, job.num_begun, len(job.request.prompt_ids))

    @torch.inference_mode()
    def _serve(self) -> None:
        use_device(self._loaded.input_device)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._running or len(self._waiting) or self._stopped)
                if self._stopped is not None:
                    break
                for job in [each for each in self._running if each.is_cancelled]:
                    self._end(job)
                self._admit()
                jobs = list(self._running)
            try:
                self._step(jobs)
            except Exception as error:
                logger.critical("The engine cannot go on", exc_info=error)
                self._problem = "The model has failed and cannot go on; the log says why. Start the program again."
                self._stopped = self._problem
        self._end_all(self._stopped)

    def _admit(self) -> None:
        """Begins waiting requests, each owner's in turn, as long as there is room."""
        while (job := self._waiting.first()) is not None:
            try:
                sequence = self._runner.take(job.request)
            except Exception as error:
                self._waiting.take()
                job.output.put(_for_reader(error))
                continue
            if sequence is None:
                return
            self._waiting.take()
            job.begin(sequence)
            self._running.append(job)

    def _step(self, jobs: Sequence[Job]) -> None:
        """One more token for everybody who is answering, and the next piece of prompts that are being read."""
        num_answering = sum(not job.is_reading for job in jobs)
        num_reading = len(jobs) - num_answering
        num_left = self._pace.chunk_tokens(num_answering, num_reading)
        turns: list[tuple[Job, Feed]] = []
        for job in jobs:
            if not job.is_reading:
                turns.append((job, Feed(job.sequence, job.sampler.answer_ids[-1:], 1)))
            elif num_left > 0:
                feed = job.next_piece(num_left)
                num_left -= len(feed.ids)
                turns.append((job, feed))
        if turns:
            began_s = time.monotonic()
            try:
                self._compute(turns)
            except _Abandoned:
                return
            num_read = sum(len(feed.ids) for job, feed in turns if len(feed.ids) > 1)
            self._pace.note(time.monotonic() - began_s, num_read, num_answering, num_reading)

    def _watch_layers(self) -> list[RemovableHandle]:
        """Has `_before_layer` called where a model is on a processor; on a GPU that would not tell anything."""
        layers = getattr(self._loaded.model.base_model, "layers", ()) if self._loaded.input_device.type == "cpu" else ()
        return [layer.register_forward_pre_hook(self._before_layer) for layer in layers]

    def _before_layer(self, *unused: Any) -> None:
        """Before a layer: the step is still alive.

        Raises:
            _Abandoned: for what is being computed.
        """
        if not self._turns:
            return
        self._step_began_s = time.monotonic()
        if self._stopped is not None or all(job.is_cancelled for job, _ in self._turns):
            raise _Abandoned
        if self._num_layers_done == int(_ANEW_SHARE * len(self._hooks)) and self._is_better_anew():
            self._may_begin_anew = False
            raise _Abandoned
        for job, feed in self._turns:
            if len(feed.ids) > 1:  # an answer has one
                num_begun = job.num_read + len(feed.ids) * self._num_layers_done // len(self._hooks)
                job.num_begun = max(job.num_begun, num_begun)
        self._num_layers_done += 1

    def _is_better_anew(self) -> bool:
        """Whether somebody has come whose whole prompt can be read together with those that are being read.

        Later it would be read in small pieces beside answers, which takes far longer; and what programs ask at once
        comes some milliseconds after one another. Only once before a step is computed, so that one surely is.
        """
        running = self._running
        if not self._may_begin_anew or not all(job.is_reading for job in running):
            return False
        with self._changed:
            newcomer = self._waiting.first()
        if newcomer is None or not self._runner.has_room(newcomer.request):
            return False
        request = newcomer.request
        num_known = self.num_known(request.prompt_ids, request.owner)
        num_new = len(request.prompt_ids) - num_known
        num_copied = max(common_length(job.request.known_to(request.owner), request.prompt_ids) for job in running)
        if 2 * (num_copied - num_known) > num_new:
            return False  # most of it is being read for somebody else just now
        num_unread = num_new + sum(len(job.request.prompt_ids) - job.num_read for job in running)
        return num_unread <= self._pace.chunk_tokens(0, len(running) + 1)

    def _compute(self, turns: Sequence[tuple[Job, Feed]]) -> None:
        """Computes and hands out; if that fails, each sequence tries alone, so that only the guilty ones end."""
        self._step_began_s = time.monotonic()
        self._turns, self._num_layers_done = turns, 0
        try:
            logits = self._runner.forward([feed for _, feed in turns])
        except _Abandoned:
            raise
        except Exception as error:
            self._step_began_s = None
            self._try_again(turns, _survived(error))
        else:
            self._may_begin_anew = True
            for job, _ in turns:
                job.num_begun = max(job.num_begun, job.num_read)
            self._advance(turns, logits)
        finally:
            self._step_began_s, self._turns = None, ()

    def _try_again(self, turns: Sequence[tuple[Job, Feed]], error: Exception) -> None:
        """After a step that failed: without what is kept of ended sequences, if it was the memory, and one by one."""
        if _is_memory(error) and self._runner.forget():
            self._compute(turns)
        elif len(turns) == 1:
            self._end(turns[0][0], error)
        else:
            for turn in turns:
                self._compute([turn])

    def _advance(self, turns: Sequence[tuple[Job, Feed]], logits: Sequence[torch.Tensor]) -> None:
        """Samples for every sequence whose prompt is read to its end."""
        ready: list[tuple[Job, torch.Tensor]] = []
        for (job, feed), scores in zip(turns, logits, strict=True):
            try:
                if job.request.has_prompt_logprobs and len(feed.ids) == feed.num_logits and not job.count:
                    job.note_prompt(scores)
            except Exception as error:
                self._end(job, _survived(error))
                continue
            if not job.is_reading:
                ready.append((job, scores[-1]))
        sampled = self._sampled(ready)
        now_s = time.monotonic()
        for (job, scores), token in zip(ready, sampled, strict=True):
            if isinstance(token, Exception):
                self._problem = str(token) if isinstance(token, InvalidNumbers) else self._problem
                self._end(job, token)
                continue
            self._problem = None
            try:
                is_last = job.hand_out(token, scores, now_s)
            except Exception as error:
                self._end(job, _survived(error))
                continue
            if is_last:
                self._end(job)

    def _sampled(self, ready: Sequence[tuple[Job, torch.Tensor]]) -> list[int | Exception]:
        """The next id of each, or why it has none; if that fails for all together, each is tried alone."""
        if not ready:
            return []
        jobs = [job for job, _ in ready]
        reports = any(job.request.top_logprobs is not None for job in jobs)
        may_come = len(self._waiting) > 0 and len(jobs) < self.plan.num_slots
        looks_ahead = len(jobs) == len(self._running) and not may_come and not reports
        try:
            scores = [row for _, row in ready]
            return self._runner.sample(scores, [job.sampler for job in jobs], looks_ahead=looks_ahead)
        except Exception as error:
            survived = _survived(error)
        return [survived] if len(ready) == 1 else [token for each in ready for token in self._sampled([each])]

    def _end(self, job: Job, error: Exception | None = None) -> None:
        """Frees a request's slot; its reader gets the error, if there is one."""
        with self._changed:
            self._running.remove(job)
        self._runner.release(job.sequence, is_kept=error is None)
        if error is not None:
            job.output.put(_for_reader(error))

    def _end_all(self, reason: str) -> None:
        with self._changed:
            jobs = [*self._running, *self._waiting]
            self._running.clear()
            self._waiting = FairQueue()
        for job in jobs:
            job.output.put(EngineStopped(reason))
        for hook in self._hooks:
            hook.remove()
        self._runner.close()


class _Abandoned(Exception):
    """A step is not worth computing to its end: its readers have left, or more have come who can be read together."""


def _survived(error: Exception) -> Exception:
    """The error without the tensors of the failed step, which its traceback holds: they are freed with that.

    Raises:
        AcceleratorError: nothing can be computed any more; after an error inside a kernel CUDA stays broken.
    """
    if isinstance(error, torch.AcceleratorError) and not isinstance(error, torch.OutOfMemoryError):
        raise error
    return error.with_traceback(None)


def _is_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError)


def _for_reader(error: Exception) -> Exception:
    """The error as the reader gets it: ours as it is, memory and anything unforeseen as `GenerationFailed`."""
    if isinstance(error, ModelLoaderError):
        return error.with_traceback(None)
    if _is_memory(error):
        return GenerationFailed("The memory ran out during this answer. Shorten the conversation and ask again.")
    logger.error("A request failed in the engine", exc_info=error)
    return GenerationFailed("The answer failed inside the engine; the program's log says why. Ask again.")
