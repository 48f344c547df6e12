"""The same on NVIDIA GPUs: keys and values in pages, torch's flash attention over them, steps as CUDA graphs.

A step has one of a few fixed shapes and is recorded once: in one each sequence has one new token, in the others there
are prompts to read. Pages let sequences of any length share one tensor per layer, whose address never changes. While
all that is to do is to decode, the next step is begun with the drawn ids before Python has looked at them.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from types import SimpleNamespace
from typing import Any, cast

import torch

from model_loader.engine.attention import Segment, Step
from model_loader.engine.attention import attend as attend_to_slots
from model_loader.engine.batch_runner import BatchRunner
from model_loader.engine.gpu.paged_attention import PAGED_ATTENTION, PagedStep, attend
from model_loader.engine.gpu.pages import PAGE_TOKENS, SPARE_PAGE, PagedSlot, Pages
from model_loader.engine.gpu.recorded_step import RecordedStep
from model_loader.engine.runner import Feed
from model_loader.engine.sampling import Sampler, draw, settle
from model_loader.engine.slots import Slot, SlotPlan, Slots
from model_loader.loading.load import LoadedModel

logger = logging.getLogger(__name__)

_MAX_HEAD_DIM = 256
_ROWS = (1, 2, 4, 8, 16, 24, 32)
"""Sequences of the steps in which each has one new token; the others have room for the most of them."""
_TOKENS = (64, 128, 256, 512, 768, 1056)
_MOST_ERROR = 0.02
"""Of attention in 16 bits, as a share of its size; it is off by 0.002 where all is well."""


@dataclass(slots=True)
class RunStep:
    """A recorded step that was run, or is in the GPU's queue.

    Attributes:
        step: which shape.
        slots: the sequences whose next tokens it tells.
        rows: where each one's logits are.
        ids: each one's token that it read, where it was begun before that was known.
        positions: and where that token stands.
    """

    step: RecordedStep
    slots: list[PagedSlot]
    rows: list[int]
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)


class PagedRunner(BatchRunner):
    """Many sequences at once in pages; steps of a few shapes are replayed from CUDA graphs."""

    attention = PAGED_ATTENTION
    fewest_tokens = _TOKENS[0] - _ROWS[-1]

    def __init__(self, loaded: LoadedModel, plan: SlotPlan) -> None:
        num_pages = max(1, plan.max_tokens // PAGE_TOKENS)
        plan = replace(plan, max_tokens=num_pages * PAGE_TOKENS)  # nobody may be promised a part of a page
        self._pages = Pages(num_pages)
        self._records = loaded.input_device.type == "cuda"
        self._graph_memory: Any = torch.cuda.graph_pool_handle() if self._records else None
        self._most_pages = min(num_pages, -(-loaded.checkpoint.context_length // PAGE_TOKENS))
        self._recorded: dict[int, RecordedStep] = {}
        self._last: RunStep | None = None
        self._ahead: RunStep | None = None
        super().__init__(loaded, plan)

    @staticmethod
    def supports(loaded: LoadedModel) -> bool:
        """Whether torch's flash attention computes the model's heads on its device."""
        return (
            BatchRunner.supports(loaded)
            and loaded.placement.device.startswith("cuda")
            and loaded.placement.dtype in ("bfloat16", "float16")
            and torch.cuda.get_device_capability(loaded.input_device) >= (8, 0)
            and loaded.head_shape[2] <= _MAX_HEAD_DIM
        )

    def forward(self, feeds: Sequence[Feed]) -> list[torch.Tensor]:
        ahead, self._ahead, self._last = self._ahead, None, None
        if ahead is not None and (logits := self._taken_from(ahead, feeds)) is not None:
            return logits
        if self._records and self._has_shape_for(feeds):
            try:
                return self._replay(feeds)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                self._stop_recording(error)
        return super().forward(feeds)

    def _has_shape_for(self, feeds: Sequence[Feed]) -> bool:
        return (
            len(feeds) <= _ROWS[-1]
            and sum(len(feed.ids) for feed in feeds) <= _TOKENS[-1]
            and all(feed.num_logits <= 1 for feed in feeds)
            and all(len(cast(PagedSlot, feed.sequence).pages) <= self._most_pages for feed in feeds)
        )

    @torch.inference_mode()
    def _replay(self, feeds: Sequence[Feed]) -> list[torch.Tensor]:
        slots = [cast(PagedSlot, feed.sequence) for feed in feeds]
        segments = [Segment(slot, len(slot.ids), len(feed.ids)) for slot, feed in zip(slots, feeds, strict=True)]
        ends = list(accumulate(len(feed.ids) for feed in feeds))
        wanted = [end - 1 for feed, end in zip(feeds, ends, strict=True) if feed.num_logits]
        step = self._recorded_step(len(feeds), ends[-1])
        logits = step.run(segments, [each for feed in feeds for each in feed.ids], wanted)
        for slot, feed in zip(slots, feeds, strict=True):
            slot.ids.extend(feed.ids)
        wanting = [slot for slot, feed in zip(slots, feeds, strict=True) if feed.num_logits]
        self._last = RunStep(step, wanting, wanted if step.is_one_each else list(range(len(wanted))))
        if not wanting and logits.device.type == "cuda":
            torch.cuda.current_stream().synchronize()  # or a long prompt would be in the queue at once, past recall
        found = [logits[row : row + 1] for row in self._last.rows]
        return [found.pop(0) if feed.num_logits else logits[:0] for feed in feeds]

    def _recorded_step(self, num_sequences: int, num_tokens: int) -> RecordedStep:
        sizes = _ROWS if num_tokens == num_sequences else _TOKENS
        size = next(each for each in sizes if each >= num_tokens)
        if size not in self._recorded:
            num_rows = size if sizes is _ROWS else _ROWS[-1]
            self._recorded[size] = RecordedStep(
                self._loaded, self._pages, size, num_rows, self._most_pages, self._graph_memory
            )
        return self._recorded[size]

    @torch.inference_mode()
    def sample(
        self, logits: Sequence[torch.Tensor], samplers: Sequence[Sampler], *, looks_ahead: bool
    ) -> list[int | Exception]:
        """As `Runner` says; recorded with the step that the logits come from, if that was."""
        last, self._last = self._last, None
        if last is None or len(last.slots) != len(samplers) or not all(sampler.is_plain for sampler in samplers):
            return super().sample(logits, samplers, looks_ahead=looks_ahead)
        drawn, is_certain = last.step.draw(last.rows, samplers)
        is_cuda = drawn.device.type == "cuda"
        found = torch.empty(drawn.shape, dtype=drawn.dtype, pin_memory=is_cuda)
        found.copy_(drawn, non_blocking=True)
        is_found = torch.cuda.Event() if is_cuda else None
        if is_found is not None:
            is_found.record()
        ahead = None
        if looks_ahead and is_certain and last.rows == list(range(len(last.rows))):
            ahead = self._begin_next(last.slots, samplers, drawn[0])
        if is_found is not None:
            is_found.synchronize()
        ids, is_finite, are_certain = ([row[at] for at in last.rows] for row in found.tolist())
        if not is_certain and not all(are_certain):  # a wider nucleus than was looked at
            uncertain = [place for place, each in enumerate(are_certain) if not each]
            rows = torch.stack([logits[place] for place in uncertain]).float()
            again = draw(
                rows,
                [samplers[place].sampling for place in uncertain],
                [last.step.uniforms[last.rows[place]] for place in uncertain],
            )
            for place, token_id in zip(uncertain, again.tolist(), strict=True):
                ids[place] = token_id
        if ahead is not None:
            ahead.ids = ids
            self._ahead = ahead
        return settle(samplers, ids, is_finite, {})

    def _begin_next(self, slots: Sequence[PagedSlot], samplers: Sequence[Sampler], ids: torch.Tensor) -> RunStep | None:
        """Puts the next step into the GPU's queue; None where somebody has no room for it or nobody wants it."""
        have_room = all(len(slot.ids) < len(slot.pages) * PAGE_TOKENS for slot in slots)
        is_wanted = any(len(sampler.answer_ids) + 1 < sampler.sampling.max_new_tokens for sampler in samplers)
        if not have_room or not is_wanted:
            return None
        rows = list(range(len(slots)))
        positions = [len(slot.ids) for slot in slots]
        step = self._recorded_step(len(slots), len(slots))
        segments = [Segment(slot, at, 1) for slot, at in zip(slots, positions, strict=True)]
        try:
            step.run(segments, ids[: len(slots)], rows)
        except RuntimeError as error:  # the answers have their tokens already
            self._stop_recording(error)
            return None
        return RunStep(step, list(slots), rows, positions=positions)

    def _taken_from(self, ahead: RunStep, feeds: Sequence[Feed]) -> list[torch.Tensor] | None:
        """The logits of a step that was begun ahead, if it is the one that is asked for now, or some of its rows."""
        begun = zip(map(id, ahead.slots), ahead.positions, ahead.ids, strict=True)
        row_of: dict[tuple[int, ...], int] = {sequence: row for row, sequence in enumerate(begun)}
        wanted = [(id(feed.sequence), len(feed.sequence.ids), *feed.ids) for feed in feeds]
        if not all(feed.num_logits for feed in feeds) or not row_of.keys() >= set(wanted):
            return None
        found = [row_of[sequence] for sequence in wanted]
        for feed in feeds:
            feed.sequence.ids.extend(feed.ids)
        self._last = RunStep(ahead.step, [ahead.slots[row] for row in found], found)
        return [ahead.step.logits[row : row + 1] for row in found]

    def _make_slots(self) -> Slots:
        pages = self._pages  # and not the runner, which would then be held by itself
        return Slots(
            self.plan.num_slots,
            self.plan.max_tokens,
            PAGE_TOKENS,
            lambda rope_alpha, capacity: PagedSlot(rope_alpha, capacity, pages),
        )

    def try_out(self) -> None:
        """As `BatchRunner` says; and attention must be right, which a wrong kernel would not tell by itself."""
        self._check_attention((PAGE_TOKENS + 9, 5))
        super().try_out()
        if self._records:
            self._record_all()

    @torch.inference_mode()
    def _record_all(self) -> None:
        """Now rather than while somebody waits for an answer."""
        try:
            for size in _ROWS:
                self._recorded_step(size, size).record()
            for size in _TOKENS:
                self._recorded_step(0, size).record()
        except RuntimeError as error:
            self._stop_recording(error)

    def _stop_recording(self, error: RuntimeError) -> None:
        """Computes step by step from now on: there is no memory, or layers choose what to do by looking at numbers."""
        logger.info("%s is not recorded: %r", type(self._loaded.model).__name__, error)
        self._records = False
        self._recorded.clear()

    @torch.inference_mode()
    def _check_attention(self, lengths: Sequence[int]) -> None:
        """Raises if the attention of random sequences, whole and then one token more, is not that of slots."""
        num_heads, kv_heads, head_dim = self._loaded.head_shape
        dtype, device = getattr(torch, self._loaded.placement.dtype), self._loaded.input_device
        generator = torch.Generator().manual_seed(0)
        layer: Any = SimpleNamespace(layer_idx=0)
        position_ids = torch.zeros(1, 1, dtype=torch.long, device=device)
        slots = [(self._slots.take((), length + 1, "", 1.0), length) for length in lengths]
        taken = [(slot, Slot(1.0, length + 1), length) for slot, length in slots if slot is not None]  # one at least
        try:
            for has_begun in (False, True):
                parts = [(paged, plain, (length, 1) if has_begun else (0, length)) for paged, plain, length in taken]
                num_tokens = sum(length for _, _, (_, length) in parts)
                query, key, value = (
                    torch.randn(1, heads, num_tokens, head_dim, generator=generator).to(device, dtype)
                    for heads in (num_heads, kv_heads, kv_heads)
                )
                step = self._make_step([Segment(paged, *part) for paged, _, part in parts], position_ids)
                step.query_scale = None
                found, _ = attend(layer, query, key, value, None, step=step)
                exact = Step([Segment(plain, *part) for _, plain, part in parts])
                expected, _ = attend_to_slots(layer, query.float(), key.float(), value.float(), None, step=exact)
                error = float((found.float() - expected).norm() / expected.norm())
                if not error < _MOST_ERROR:
                    raise RuntimeError(f"attention over pages is wrong by {error:.1%}")
        finally:
            for paged, _, _ in taken:
                self._slots.release(paged, is_kept=False)

    def close(self) -> None:
        self._recorded.clear()
        self._last = self._ahead = None
        super().close()
        self._pages.close()

    def _make_step(self, segments: Sequence[Segment], position_ids: torch.Tensor) -> PagedStep:
        slots = [cast(PagedSlot, part.slot) for part in segments]
        ends = [part.start + part.length for part in segments]
        first_queries = list(accumulate((part.length for part in segments), initial=0))
        most_pages = max(-(-end // PAGE_TOKENS) for end in ends)
        table = [(slot.pages + [SPARE_PAGE] * most_pages)[:most_pages] for slot in slots]
        places = [
            each for slot, part in zip(slots, segments, strict=True) for each in slot.places(part.start, part.length)
        ]
        device = self._loaded.input_device

        def counts(values: Sequence[Any]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.int32, device=device)

        return PagedStep(
            self._pages,
            torch.tensor(places, device=device),
            counts(first_queries),
            counts(ends),
            counts(table),
            max(part.length for part in segments),
            max(ends),
            self._loaded.query_scale(position_ids),
        )
