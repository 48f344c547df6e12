"""The same on NVIDIA GPUs: keys and values in pages, torch's flash attention over them, decoding as CUDA graphs.

At one token for each sequence a GPU waits for Python, not the other way round. So a step in which everybody only
decodes has fixed shapes: as many rows as the next bucket has, unused ones writing to a page that nobody reads. It is
recorded once and replayed. Pages let sequences of any length share one tensor per layer, whose address never changes.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch.nn import functional

from model_loader.engine.attention import Segment
from model_loader.engine.batch_runner import BatchRunner
from model_loader.engine.paged_attention import PAGED_ATTENTION, PagedStep, attend
from model_loader.engine.pages import PAGE_TOKENS, SPARE_PAGE, PagedSlot, Pages
from model_loader.engine.runner import Feed
from model_loader.engine.slots import Slot, SlotPlan, Slots
from model_loader.loading.load import LoadedModel

logger = logging.getLogger(__name__)

_MAX_HEAD_DIM = 256
_BUCKETS = (1, 2, 4, 8, 16, 24, 32)
_MOST_ERROR = 0.02
"""Of attention in 16 bits, as a share of its size; it is off by 0.002 where all is well."""


class PagedRunner(BatchRunner):
    """Many sequences at once in pages; steps that only decode are replayed from CUDA graphs."""

    attention = PAGED_ATTENTION

    def __init__(self, loaded: LoadedModel, plan: SlotPlan) -> None:
        num_pages = max(1, plan.max_tokens // PAGE_TOKENS)
        plan = replace(plan, max_tokens=num_pages * PAGE_TOKENS)  # nobody may be promised a part of a page
        self._pages = Pages(num_pages)
        self._recorded: dict[tuple[int, int], RecordedStep] = {}
        self._records = loaded.input_device.type == "cuda"
        self._graph_memory: Any = torch.cuda.graph_pool_handle() if self._records else None
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
        """As `Runner` says."""
        if self._records and all(len(feed.ids) == 1 for feed in feeds) and len(feeds) <= _BUCKETS[-1]:
            try:
                return self._replay(feeds)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:  # some experts' layers choose what to compute by looking at their input
                logger.info("%s is not recorded: %r", type(self._loaded.model).__name__, error)
                self._records = False
        return super().forward(feeds)

    def _make_slots(self) -> Slots:
        return Slots(
            self.plan.num_slots,
            self.plan.max_tokens,
            PAGE_TOKENS,
            lambda rope_alpha, capacity: PagedSlot(rope_alpha, capacity, self._pages),
        )

    def try_out(self) -> None:
        """As `BatchRunner` says; and attention must be right, which a wrong kernel would not tell by itself."""
        self._check_attention((PAGE_TOKENS + 9, 5))
        super().try_out()

    @torch.inference_mode()
    def _check_attention(self, lengths: Sequence[int]) -> None:
        """Compares two steps of random sequences with plain attention: whole prompts, then a token more of each."""
        num_heads, kv_heads, head_dim = self._loaded.head_shape
        dtype, device = getattr(torch, self._loaded.placement.dtype), self._loaded.input_device
        generator = torch.Generator().manual_seed(0)
        taken = [(length, self._slots.take((), length + 1, "", 1.0)) for length in lengths]
        taken = [(length, slot) for length, slot in taken if slot is not None]  # there may be room for one only
        drawn = [
            [torch.randn(heads, length + 1, head_dim, generator=generator).to(device, dtype) for length, _ in taken]
            for heads in (num_heads, kv_heads, kv_heads)
        ]
        try:
            self._compare([Segment(cast(Slot, slot), 0, length) for length, slot in taken], *drawn)
            self._compare([Segment(cast(Slot, slot), length, 1) for length, slot in taken], *drawn)
        finally:
            for _, slot in taken:
                self._slots.release(cast(Slot, slot), is_kept=False)

    def _compare(
        self,
        segments: Sequence[Segment],
        queries: Sequence[torch.Tensor],
        keys: Sequence[torch.Tensor],
        values: Sequence[torch.Tensor],
    ) -> None:
        """Raises if a step's attention is not the plain one; tensors are of whole sequences, `(heads, tokens, dim)`."""
        device = self._loaded.input_device
        new = [slice(part.start, part.start + part.length) for part in segments]
        query, key, value = (
            torch.cat([each[:, at] for each, at in zip(kind, new, strict=True)], dim=1).unsqueeze(0)
            for kind in (queries, keys, values)
        )
        step = self._make_step(segments, torch.zeros(1, 1, dtype=torch.long, device=device))
        step.query_scale = None
        found, _ = attend(cast(Any, SimpleNamespace(layer_idx=0)), query, key, value, None, step=step)
        parts = []
        for q, k, v, at in zip(queries, keys, values, new, strict=True):
            is_seen = torch.ones(at.stop, at.stop, dtype=torch.bool, device=device).tril()[at]
            k, v = k[None, :, : at.stop].float(), v[None, :, : at.stop].float()
            part = functional.scaled_dot_product_attention(q[None, :, at].float(), k, v, is_seen, enable_gqa=True)
            parts.append(part[0].transpose(0, 1))
        expected = torch.cat(parts)
        error = float((found[0].float() - expected).norm() / expected.norm())
        if not error < _MOST_ERROR:
            raise RuntimeError(f"attention over pages is wrong by {error:.1%}")

    def _check_tried(self, slot: Slot) -> None:
        if self._pages.num_layers != self._config.num_hidden_layers:
            raise KeyError("some layers keep no keys and values of their own")

    def _make_step(self, segments: Sequence[Segment], position_ids: torch.Tensor) -> PagedStep:
        slots = [cast(PagedSlot, part.slot) for part in segments]
        ends = [part.start + part.length for part in segments]
        first_queries = [0]
        for part in segments:
            first_queries.append(first_queries[-1] + part.length)
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

    @torch.inference_mode()
    def _replay(self, feeds: Sequence[Feed]) -> list[torch.Tensor]:
        slots = [cast(PagedSlot, feed.sequence) for feed in feeds]
        num_rows = next(size for size in _BUCKETS if size >= len(feeds))
        longest = max(len(slot.ids) for slot in slots) + 1
        num_pages = 1
        while num_pages * PAGE_TOKENS < longest:
            num_pages *= 2
        recorded = self._recorded.get((num_rows, num_pages))
        if recorded is None:
            recorded = RecordedStep(self._loaded, self._pages, num_rows, num_pages, self._graph_memory)
            self._recorded[num_rows, num_pages] = recorded
        logits = recorded.run(slots, [feed.ids[0] for feed in feeds])
        for feed in feeds:
            feed.sequence.ids.extend(feed.ids)
        return list(logits[: len(feeds)].split(1))


class RecordedStep:
    """A decoding step of fixed shapes: `num_rows` sequences of at most `num_pages` pages, one token each.

    On a CUDA device it is recorded at the first run and replayed from then on; elsewhere it is computed each time.
    """

    def __init__(
        self, loaded: LoadedModel, pages: Pages, num_rows: int, num_pages: int, graph_memory: Any = None
    ) -> None:
        """Args: `graph_memory` is the pool of memory that all recordings share; they never run side by side."""
        self._loaded = loaded
        self._pages = pages
        self._num_rows, self._num_pages = num_rows, num_pages
        self._graph_memory = graph_memory
        device = loaded.input_device
        # What changes at every step lies in one tensor, in memory that the GPU reads without the processor's help.
        self._next = torch.zeros(2, num_rows, dtype=torch.int64, pin_memory=device.type == "cuda")
        self._ids_and_positions = torch.zeros_like(self._next, device=device)
        self._alphas = torch.ones(1, num_rows, device=device)
        self._table = torch.full((num_rows, num_pages), SPARE_PAGE, dtype=torch.int32, device=device)
        self._first_queries = torch.arange(num_rows + 1, dtype=torch.int32, device=device)
        self._rows: list[tuple[float, list[int]]] = []  # what `_alphas` and `_table` hold
        self._graph: Any = None
        self._logits: torch.Tensor | None = None

    def run(self, slots: Sequence[PagedSlot], ids: Sequence[int]) -> torch.Tensor:
        """Reads one token into each slot; returns logits `(num_rows, vocab)`, overwritten by the next run."""
        unused = [0] * (self._num_rows - len(slots))
        self._next.copy_(torch.tensor([[*ids, *unused], [*(len(slot.ids) for slot in slots), *unused]]))
        self._ids_and_positions.copy_(self._next, non_blocking=True)
        self._lay_out([(slot.rope_alpha, slot.pages[: self._num_pages]) for slot in slots])
        if self._table.device.type != "cuda":
            return self._forward()
        if self._graph is None:
            self._record()
        self._graph.replay()
        assert self._logits is not None
        return self._logits

    def _lay_out(self, rows: list[tuple[float, list[int]]]) -> None:
        """Brings each row's stretch and pages over, if they are others than at the last step."""
        if rows == self._rows:
            return
        self._rows = rows
        unused = self._num_rows - len(rows)
        self._alphas.copy_(torch.tensor([[*(alpha for alpha, _ in rows), *[1.0] * unused]]))
        table = [pages + [SPARE_PAGE] * (self._num_pages - len(pages)) for _, pages in [*rows, *[(1.0, [])] * unused]]
        self._table.copy_(torch.tensor(table, dtype=torch.int32))

    def _forward(self) -> torch.Tensor:
        ids, positions = self._ids_and_positions
        position_ids = positions.unsqueeze(0)
        pages = self._table.gather(1, (positions // PAGE_TOKENS).unsqueeze(1)).squeeze(1)
        step = PagedStep(
            self._pages,
            pages * PAGE_TOKENS + positions % PAGE_TOKENS,
            self._first_queries,
            (positions + 1).to(torch.int32),
            self._table,
            1,
            self._num_pages * PAGE_TOKENS,
            self._loaded.query_scale(position_ids),
        )
        output = self._loaded.model(
            input_ids=ids.unsqueeze(0),
            position_ids=position_ids,
            use_cache=False,
            step=step,
            **self._loaded.rope_arguments(self._alphas),
        )
        return cast(torch.Tensor, output.logits[0])

    def _record(self) -> None:
        """Records the step after a run outside of the recording, which is what makes the libraries ready."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._forward()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the GPU meanwhile; only what this one does is recorded.
        with torch.cuda.graph(graph, pool=self._graph_memory, capture_error_mode="thread_local"):
            self._logits = self._forward()
        self._graph = graph
