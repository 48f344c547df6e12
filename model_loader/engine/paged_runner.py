"""The same on NVIDIA GPUs: keys and values in pages, torch's flash attention over them, decoding as CUDA graphs.

At one token for each sequence a GPU waits for Python, not the other way round. So a step in which everybody only
decodes has fixed shapes: as many rows as the next bucket has, unused ones writing to a page that nobody reads. It is
recorded once and replayed. Pages let sequences of any length share one tensor per layer, whose address never changes.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.nn.attention.varlen import varlen_attn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from model_loader.engine.attention import Segment
from model_loader.engine.batch_runner import BatchRunner
from model_loader.engine.runner import Feed
from model_loader.engine.slots import Slot, SlotPlan, Slots
from model_loader.loading import gpu_kernels
from model_loader.loading.load import LoadedModel

logger = logging.getLogger(__name__)

PAGED_ATTENTION = "paged"
PAGE_TOKENS = 256
"""Flash attention 2 reads pages of a multiple of 256 tokens."""
_MAX_HEAD_DIM = 256
_BUCKETS = (1, 2, 4, 8, 16, 24, 32)
_SPARE_PAGE = 0
"""Where unused rows of a recorded step write."""


class Pages:
    """One tensor of keys and values for each layer, cut into pages, and which of them are free.

    Args:
        num_pages: how many there are, the spare one not counted.
    """

    def __init__(self, num_pages: int) -> None:
        self._num_pages = num_pages + 1
        self._free = list(range(num_pages, _SPARE_PAGE, -1))
        self._layers: dict[int, torch.Tensor] = {}

    @property
    def num_free(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    @property
    def num_layers(self) -> int:
        """Layers that have written something."""
        return len(self._layers)

    def take(self, number: int) -> list[int]:
        """Some free pages.

        Raises:
            IndexError: there are not so many.
        """
        return [self._free.pop() for _ in range(number)]

    def give_back(self, pages: Sequence[int]) -> None:
        """Frees pages."""
        self._free.extend(pages)

    def layer(self, index: int, like: torch.Tensor) -> torch.Tensor:
        """Keys and values of a layer, `(2, pages, PAGE_TOKENS, kv_heads, head_dim)`.

        Args:
            index: the layer's number.
            like: new keys or values of it, `(tokens, kv_heads, head_dim)`.
        """
        if index not in self._layers:
            self._layers[index] = like.new_zeros(2, self._num_pages, PAGE_TOKENS, *like.shape[1:])
        return self._layers[index]

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copies whole pages in all layers."""
        for layer in self._layers.values():
            layer[:, list(targets)] = layer[:, list(sources)]


class PagedSlot(Slot):
    """A sequence whose keys and values lie in pages.

    Attributes:
        pages: their numbers, in the order of the tokens.
    """

    def __init__(self, rope_alpha: float, capacity: int, pool: Pages) -> None:
        super().__init__(rope_alpha, capacity)
        self._pool = pool
        self.pages = pool.take(capacity // PAGE_TOKENS)

    def copy_from(self, other: Slot, num_tokens: int) -> None:
        """As `Slot` says."""
        num_pages = -(-num_tokens // PAGE_TOKENS)
        self._pool.copy(cast(PagedSlot, other).pages[:num_pages], self.pages[:num_pages])
        self.ids = other.ids[:num_tokens]

    def grow(self, capacity: int) -> None:
        """As `Slot` says."""
        self.pages += self._pool.take((capacity - self.capacity) // PAGE_TOKENS)
        self.capacity = capacity

    def free(self) -> None:
        """As `Slot` says."""
        self._pool.give_back(self.pages)
        self.pages = []

    def places(self, start: int, length: int) -> list[int]:
        """Where tokens lie, counted through all pages."""
        return [self.pages[at // PAGE_TOKENS] * PAGE_TOKENS + at % PAGE_TOKENS for at in range(start, start + length)]


@dataclass(slots=True)
class PagedStep:
    """What one forward pass computes; tensors are on the model's device, counts in int32.

    Attributes:
        pages: where keys and values live.
        places: where each new token's go, `(tokens,)` in int64.
        first_queries: where each sequence's new tokens begin, and their number at the end, `(sequences + 1,)`.
        lengths: tokens of each sequence, the new ones included, `(sequences,)`.
        page_table: each sequence's pages, `(sequences, most pages)`.
        max_new, max_length: at least the most new tokens and the most tokens that any of them has.
        query_scale: by how much each token's queries are multiplied, `(1, tokens)`; None for not at all.
    """

    pages: Pages
    places: torch.Tensor
    first_queries: torch.Tensor
    lengths: torch.Tensor
    page_table: torch.Tensor
    max_new: int
    max_length: int
    query_scale: torch.Tensor | None = None


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    step: PagedStep,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **unused: Any,
) -> tuple[torch.Tensor, None]:
    """As `model_loader.engine.attention.attend`, over pages."""
    if step.query_scale is not None:
        query = query * step.query_scale[..., None].to(query.dtype)
    queries, keys, values = (each[0].transpose(0, 1) for each in (query, key, value))
    layer = step.pages.layer(cast(int, module.layer_idx), keys)
    if gpu_kernels.are_available(keys.device):
        gpu_kernels.store(keys, values, step.places, layer)
    else:
        flat = layer.view(2, -1, *keys.shape[1:])
        flat[0].index_copy_(0, step.places, keys)
        flat[1].index_copy_(0, step.places, values)
    output = varlen_attn(
        queries, layer[0], layer[1], step.first_queries, step.first_queries, step.max_new, step.max_length,
        scale=scaling,
        window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
        enable_gqa=queries.shape[1] != keys.shape[1],
        seqused_k=step.lengths,
        block_table=step.page_table,
    )  # fmt: skip
    return cast(torch.Tensor, output).unsqueeze(0), None


class PagedRunner(BatchRunner):
    """Many sequences at once in pages; steps that only decode are replayed from CUDA graphs."""

    attention = PAGED_ATTENTION

    def __init__(self, loaded: LoadedModel, plan: SlotPlan) -> None:
        self._pages = Pages(plan.max_tokens // PAGE_TOKENS)
        self._recorded: dict[tuple[int, int], RecordedStep] = {}
        self._records = loaded.input_device.type == "cuda"
        self._graph_memory: Any = torch.cuda.graph_pool_handle() if self._records else None
        super().__init__(loaded, plan)

    @staticmethod
    def supports(loaded: LoadedModel) -> bool:
        """Whether torch's flash attention computes the model's heads on its device."""
        config = loaded.model.config
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return (
            BatchRunner.supports(loaded)
            and loaded.placement.device.startswith("cuda")
            and loaded.placement.dtype in ("bfloat16", "float16")
            and torch.cuda.get_device_capability(loaded.input_device) >= (8, 0)
            and head_dim <= _MAX_HEAD_DIM
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
            self.plan.max_tokens // PAGE_TOKENS * PAGE_TOKENS,
            PAGE_TOKENS,
            lambda rope_alpha, capacity: PagedSlot(rope_alpha, capacity, self._pages),
        )

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
        table = [(slot.pages + [_SPARE_PAGE] * most_pages)[:most_pages] for slot in slots]
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
        self._table = torch.full((num_rows, num_pages), _SPARE_PAGE, dtype=torch.int32, device=device)
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
        table = [pages + [_SPARE_PAGE] * (self._num_pages - len(pages)) for _, pages in [*rows, *[(1.0, [])] * unused]]
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


ALL_ATTENTION_FUNCTIONS.register(PAGED_ATTENTION, attend)
