"""Steps of fixed shapes, recorded as CUDA graphs and replayed: at one token a step a GPU waits for Python otherwise."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, cast

import torch

from model_loader.engine.attention import Segment
from model_loader.engine.gpu.paged_attention import PagedStep
from model_loader.engine.gpu.pages import PAGE_TOKENS, SPARE_PAGE, PagedSlot, Pages
from model_loader.engine.request import Sampling
from model_loader.engine.sampling import LIKELIEST, Sampler, choose, settings_of
from model_loader.loading.load import LoadedModel

_FEW_LIKELIEST = 64
"""Requests that limit themselves to so many tokens are drawn for without looking at the others."""
_UNUSED = Sampling()


class Recording:
    """A computation between tensors that stay where they are; its result is overwritten by the next call.

    On a CUDA device it is recorded at the first call and replayed from then on; elsewhere it is computed each time.

    Args:
        memory: the pool of memory that recordings share, which never run side by side; None computes each time.
    """

    def __init__(self, memory: Any) -> None:
        self._memory = memory
        self._graph: Any = None
        self._result = torch.empty(0)

    def __call__(self, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Computes, or puts the computation into the GPU's queue; it must be the same each time."""
        if self._memory is None:
            return compute()
        if self._graph is None:
            self._record(compute)
        self._graph.replay()
        return self._result

    def _record(self, compute: Callable[[], torch.Tensor]) -> None:
        """Records after a run outside of the recording, which is what makes the libraries ready."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            compute()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the GPU meanwhile; only what this one does is recorded.
        with torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"):
            self._result = compute()
        self._graph = graph


class RecordedStep:
    """A step of `num_tokens` new tokens of up to `num_rows` sequences, and the draw that follows it.

    With as many rows as tokens each sequence has one new token. What is unused belongs to no sequence and is
    written to a page that nobody reads.

    Args:
        most_pages: of a sequence.
        memory: as of `Recording`.

    Attributes:
        is_one_each: whether every sequence has one new token.
        logits: of the last run, as it returned them.
        uniforms: the random number of each row at the last draw.
    """

    def __init__(
        self, loaded: LoadedModel, pages: Pages, num_tokens: int, num_rows: int, most_pages: int, memory: Any
    ) -> None:
        self._loaded, self._pages = loaded, pages
        self._num_tokens, self._num_rows, self._most_pages = num_tokens, num_rows, most_pages
        device = loaded.input_device
        # Ids, positions and places of the tokens; where sequences begin, how long they are, whose logits are wanted.
        self._sizes = (num_tokens, num_tokens, num_tokens, num_rows + 1, num_rows, num_rows)
        self._inputs = torch.zeros(sum(self._sizes), dtype=torch.int64, device=device)
        self._alphas = torch.ones(1, num_tokens, device=device)
        self._table = torch.full((num_rows, most_pages), SPARE_PAGE, dtype=torch.int32, device=device)
        self._settings = torch.ones(5, num_rows, dtype=torch.float64, device=device)
        self.is_one_each = num_tokens == num_rows
        self._has_alphas = bool(loaded.rope_arguments(self._alphas))
        self._rows: list[list[int]] = []  # what `_table` holds
        self.logits = torch.empty(0)
        self.uniforms: list[float] = []
        self._forward = Recording(memory)
        self._draws = {number: Recording(memory) for number in (0, _FEW_LIKELIEST, LIKELIEST)}

    def record(self) -> None:
        """Computes everything once for nobody."""
        self.run((), (), ())
        for num_likeliest in self._draws:
            self._draw(num_likeliest)

    def run(
        self, segments: Sequence[Segment], ids: Sequence[int] | torch.Tensor, wanted: Sequence[int]
    ) -> torch.Tensor:
        """Reads new tokens into slots.

        Args:
            segments: whose they are; each continues its slot.
            ids: theirs, one segment's behind the other's; a tensor may be one that is still being computed.
            wanted: the tokens whose logits are wanted, counted through all segments.

        Returns:
            Logits, `(num_rows, vocab)`: of all tokens where each sequence has one, otherwise the first rows are those
            of the wanted ones.
        """
        slots = [cast(PagedSlot, part.slot) for part in segments]
        given = [0] * sum(part.length for part in segments) if isinstance(ids, torch.Tensor) else ids
        columns = (
            given,
            [at for part in segments for at in range(part.start, part.start + part.length)],
            [at for slot, part in zip(slots, segments, strict=True) for at in slot.places(part.start, part.length)],
            list(accumulate((part.length for part in segments), initial=0)),
            [part.start + part.length for part in segments],
            wanted,
        )
        unused = (0, 0, 0, len(given), 0, 0)
        inputs = [
            value
            for column, size, filler in zip(columns, self._sizes, unused, strict=True)
            for value in (*column, *[filler] * (size - len(column)))
        ]
        self._put(self._inputs, inputs)
        if isinstance(ids, torch.Tensor):
            self._inputs[: len(given)].copy_(ids)
        if self._has_alphas:
            alphas = [part.slot.rope_alpha for part in segments for _ in range(part.length)]
            self._put(self._alphas, [[*alphas, *[1.0] * (self._num_tokens - len(alphas))]])
        rows = [list(slot.pages) for slot in slots]
        if rows != self._rows:
            empty: list[list[int]] = [[]] * (self._num_rows - len(rows))
            self._put(self._table, [row + [SPARE_PAGE] * (self._most_pages - len(row)) for row in (*rows, *empty)])
            self._rows = rows
        self.logits = self._forward(self._compute)
        return self.logits

    def _put(self, target: torch.Tensor, values: Sequence[Any]) -> None:
        """Brings values over without waiting for what is in the GPU's queue."""
        source = torch.tensor(values, dtype=target.dtype, pin_memory=target.device.type == "cuda")
        target.copy_(source, non_blocking=True)

    def _compute(self) -> torch.Tensor:
        ids, positions, places, first_queries, lengths, wanted = self._inputs.split(self._sizes)
        position_ids = positions.unsqueeze(0)
        step = PagedStep(
            self._pages,
            places,
            first_queries.to(torch.int32),
            lengths.to(torch.int32),
            self._table,
            1 if self.is_one_each else self._num_tokens,
            self._most_pages * PAGE_TOKENS,
            self._loaded.query_scale(position_ids),
        )
        output = self._loaded.model(
            input_ids=ids.unsqueeze(0),
            position_ids=position_ids,
            use_cache=False,
            logits_to_keep=0 if self.is_one_each else wanted,
            step=step,
            **self._loaded.rope_arguments(self._alphas),
        )
        return cast(torch.Tensor, output.logits[0])

    def draw(self, rows: Sequence[int], samplers: Sequence[Sampler]) -> tuple[torch.Tensor, bool]:
        """Draws the next ids of the last run's rows.

        Args:
            rows: the logits' rows; `samplers` are theirs.

        Returns:
            `(3, num_rows)`: ids, whether all was finite, whether the id is what all tokens would have given. And
            whether that last one is sure beforehand.
        """
        settings = [_UNUSED] * self._num_rows
        uniforms = self.uniforms = [0.0] * self._num_rows
        num_likeliest = 0
        vocab_size = self.logits.shape[-1]
        for row, sampler in zip(rows, samplers, strict=True):
            if not sampler.is_greedy:
                settings[row], uniforms[row] = sampler.sampling, sampler.next_uniform()
                is_few = 0 < sampler.sampling.top_k <= min(_FEW_LIKELIEST, vocab_size)
                num_likeliest = max(num_likeliest, _FEW_LIKELIEST if is_few else LIKELIEST)
        if num_likeliest:
            self._put(self._settings, settings_of(settings, uniforms, vocab_size))
        return self._draw(num_likeliest), num_likeliest < LIKELIEST

    def _draw(self, num_likeliest: int) -> torch.Tensor:
        return self._draws[num_likeliest](lambda: self._choose(num_likeliest))

    def _choose(self, num_likeliest: int) -> torch.Tensor:
        logits = self.logits.float()
        highest, ids = logits.max(dim=-1)  # a row that holds a NaN has it as its maximum
        is_certain = torch.ones_like(ids)
        if num_likeliest:
            num_likeliest, are_limited = min(num_likeliest, logits.shape[-1]), num_likeliest < LIKELIEST
            drawn, are_certain = choose(logits, self._settings, num_likeliest, are_limited=are_limited)
            ids = torch.where(self._settings[4] > 0, drawn, ids)  # 0, the random number of the greedy, is the likeliest
            is_certain = are_certain.long()
        return torch.stack([ids, torch.isfinite(highest).long(), is_certain])
