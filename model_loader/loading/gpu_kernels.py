"""Small kernels for NVIDIA GPUs, in Triton, which torch brings along there.

At one token a step a GPU spends as long on starting many small kernels as on a small product, so what stands between
two products is one kernel each, and on Hopper and later those of one row start while the kernel before them still runs
and wait for it then. Where Triton is missing or cannot compile, the callers compute the same with torch's operations.
"""

import functools
import logging

import torch
from torch.nn import functional

try:
    import triton
    from triton import language as tl
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
except ImportError:  # builds of torch for processors alone have none
    triton = None

logger = logging.getLogger(__name__)

_KEYS_AT_ONCE = 64
_MOST_SPLITS = 16
_ENOUGH_PROGRAMS = 512
"""So many keep a large GPU busy; fewer sequences than that are cut into parts."""


@functools.cache
def are_available(device: torch.device) -> bool:
    """Whether kernels compile and run on a device; tried out once."""
    if triton is None or device.type != "cuda" or torch.version.hip:  # never tried on AMD's
        return False
    try:
        found = gated(torch.tensor([[2.0, 3.0]], device=device))
        ones = torch.ones(1, 1, 1, 32, device=device, dtype=torch.bfloat16)
        rotated(ones, ones, ones)  # it overlaps, where the device can
    except Exception as error:  # no compiler, an old driver: whatever it is, torch's own operations do it too
        logger.info("No Triton kernels on %s: %r", device, error)
        return False
    return bool((found - functional.silu(torch.tensor(2.0)).item() * 3).abs() < 1e-3)


@functools.cache
def overlap(device: torch.device) -> dict[str, bool]:
    """How a kernel is told that it may start before the one before it has ended."""
    is_hopper = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)
    return {"OVERLAPS": True, "launch_pdl": True} if is_hopper else {"OVERLAPS": False}


def gated(gate_up: torch.Tensor) -> torch.Tensor:
    """`silu(gate) * up` of `(..., 2 * width)`, where the gate comes first; `(..., width)`."""
    width = gate_up.shape[-1] // 2
    output = gate_up.new_empty(*gate_up.shape[:-1], width)
    _gate[(output.numel() // width, triton.cdiv(width, 1024))](gate_up, output, width, BLOCK=1024)
    return output


def rotated(heads: torch.Tensor, cos: torch.Tensor, signed_sin: torch.Tensor) -> torch.Tensor:
    """Heads `(1, length, heads, head_dim)` turned by cos and sin, `(1, length, 1, head_dim)`."""
    _, length, num_heads, head_dim = heads.shape
    output = heads.new_empty(heads.shape)
    _rotate[(length, num_heads)](
        heads, output, cos, signed_sin, heads.stride(1), heads.stride(2),
        HALF=head_dim // 2, BLOCK=triton.next_power_of_2(head_dim // 2), num_warps=1, **overlap(heads.device),
    )  # fmt: skip
    return output


def store(keys: torch.Tensor, values: torch.Tensor, places: torch.Tensor, layer: torch.Tensor) -> None:
    """Puts keys and values `(tokens, kv_heads, head_dim)` at places of a layer `(2, ..., kv_heads, head_dim)`."""
    tokens, kv_heads, head_dim = keys.shape
    _store[(tokens, kv_heads)](
        keys, values, places, layer, keys.stride(0), keys.stride(1), values.stride(0), values.stride(1),
        layer.stride(0), HEADS=kv_heads, DIM=head_dim, BLOCK=triton.next_power_of_2(head_dim), num_warps=1,
        **overlap(keys.device),
    )  # fmt: skip


def attend_to_pages(
    query: torch.Tensor,
    layer: torch.Tensor,
    lengths: torch.Tensor,
    page_table: torch.Tensor,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    """Attention of one query to each sequence, whose keys and values lie in pages; long ones are read in parts.

    Args:
        query: `(sequences, heads, head_dim)`.
        layer: keys and values, `(2, pages, tokens of a page, kv_heads, head_dim)`.
        lengths: tokens of each sequence, `(sequences,)`; 0 gives zeros.
        page_table: each one's pages, `(sequences, most pages)`.
        scaling: of the scores; None for `head_dim ** -0.5`.
        sliding_window: how many tokens back a query sees, itself included; None for all.

    Source: Dao et al. 2023, "Flash-Decoding for long-context inference".
    """
    num_sequences, num_heads, head_dim = query.shape
    page_tokens, kv_heads = layer.shape[2:4]
    wanted = triton.next_power_of_2(_ENOUGH_PROGRAMS // (num_sequences * kv_heads) or 1)
    splits = min(_MOST_SPLITS, wanted)
    output = query.new_empty(query.shape)
    parts = query.new_empty(num_sequences * num_heads * splits, head_dim, dtype=torch.float32)
    weights = query.new_empty(num_sequences * num_heads * splits, dtype=torch.float32)
    shared = num_heads // kv_heads
    block = triton.next_power_of_2(head_dim)
    _attend_to_part[(num_sequences, kv_heads, splits)](
        query, layer, page_table, lengths, parts, weights, scaling or head_dim**-0.5, sliding_window or 0,
        query.stride(0), query.stride(1), layer.stride(0), page_table.shape[1],
        HEADS=kv_heads, SHARED=shared, ROWS=max(16, triton.next_power_of_2(shared)), DIM=head_dim,
        SPLITS=splits, PAGE=page_tokens, KEYS=_KEYS_AT_ONCE, BLOCK=block, num_warps=4, **overlap(query.device),
    )  # fmt: skip
    _join_parts[(num_sequences * num_heads,)](
        parts, weights, output, DIM=head_dim, SPLITS=splits, BLOCK=block, num_warps=1, **overlap(query.device)
    )
    return output


if triton is not None:

    @triton.jit
    def _gate(gate_up, output, width, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
        row = tl.program_id(0).to(tl.int64)
        column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        is_in = column < width
        gate = tl.load(gate_up + row * 2 * width + column, is_in, 0.0).to(tl.float32)
        up = tl.load(gate_up + row * 2 * width + width + column, is_in, 0.0).to(tl.float32)
        tl.store(output + row * width + column, (gate * tl.sigmoid(gate) * up).to(output.dtype.element_ty), is_in)

    @triton.jit
    def _rotate(  # type: ignore[no-untyped-def]
        heads, output, cos, signed_sin, row_stride, head_stride,
        HALF: tl.constexpr, BLOCK: tl.constexpr, OVERLAPS: tl.constexpr,
    ):  # fmt: skip
        if OVERLAPS:
            gdc_launch_dependents()
            gdc_wait()
        row = tl.program_id(0).to(tl.int64)
        head = tl.program_id(1)
        place = tl.arange(0, BLOCK)
        is_in = place < HALF
        source = heads + row * row_stride + head * head_stride + place
        target = output + (row * tl.num_programs(1) + head) * 2 * HALF + place
        angles = row * 2 * HALF + place
        first = tl.load(source, is_in, 0.0).to(tl.float32)
        second = tl.load(source + HALF, is_in, 0.0).to(tl.float32)
        turned_first = first * tl.load(cos + angles, is_in, 0.0).to(tl.float32)
        turned_first += second * tl.load(signed_sin + angles, is_in, 0.0).to(tl.float32)
        turned_second = second * tl.load(cos + angles + HALF, is_in, 0.0).to(tl.float32)
        turned_second += first * tl.load(signed_sin + angles + HALF, is_in, 0.0).to(tl.float32)
        tl.store(target, turned_first.to(output.dtype.element_ty), is_in)
        tl.store(target + HALF, turned_second.to(output.dtype.element_ty), is_in)

    @triton.jit
    def _store(  # type: ignore[no-untyped-def]
        keys, values, places, layer, key_row, key_head, value_row, value_head, plane,
        HEADS: tl.constexpr, DIM: tl.constexpr, BLOCK: tl.constexpr, OVERLAPS: tl.constexpr,
    ):  # fmt: skip
        if OVERLAPS:
            gdc_launch_dependents()
            gdc_wait()
        row = tl.program_id(0).to(tl.int64)
        head = tl.program_id(1)
        place = tl.arange(0, BLOCK)
        is_in = place < DIM
        target = layer + (tl.load(places + row) * HEADS + head) * DIM + place
        tl.store(target, tl.load(keys + row * key_row + head * key_head + place, is_in), is_in)
        tl.store(target + plane, tl.load(values + row * value_row + head * value_head + place, is_in), is_in)

    @triton.jit
    def _attend_to_part(  # type: ignore[no-untyped-def]
        query, layer, page_table, lengths, parts, part_weights, scaling, window,
        query_row, query_head, plane, table_width,
        HEADS: tl.constexpr, SHARED: tl.constexpr, ROWS: tl.constexpr, DIM: tl.constexpr, SPLITS: tl.constexpr,
        PAGE: tl.constexpr, KEYS: tl.constexpr, BLOCK: tl.constexpr, OVERLAPS: tl.constexpr,
    ):  # fmt: skip
        """The query heads that share a key head over a part of a sequence; weights are logarithms of base 2."""
        if OVERLAPS:
            gdc_launch_dependents()
            gdc_wait()
        sequence = tl.program_id(0).to(tl.int64)
        head = tl.program_id(1)
        split = tl.program_id(2)
        row = tl.arange(0, ROWS)
        dim = tl.arange(0, BLOCK)
        is_dim = (dim < DIM)[None, :]
        is_row = row < SHARED
        length = tl.load(lengths + sequence)
        first_seen = 0
        if window > 0:
            first_seen = tl.maximum(length - window, 0)
        share = tl.cdiv(tl.cdiv(length - first_seen // KEYS * KEYS, SPLITS), KEYS) * KEYS
        begin = first_seen // KEYS * KEYS + split * share
        end = tl.minimum(begin + share, length)
        source = query + sequence * query_row + (head * SHARED + row)[:, None] * query_head + dim[None, :]
        q = tl.load(source, is_row[:, None] & is_dim, 0.0)
        highest = tl.full((ROWS,), -1e30, tl.float32)
        total = tl.zeros((ROWS,), tl.float32)
        mixed = tl.zeros((ROWS, BLOCK), tl.float32)
        for at in range(begin, end, KEYS):
            token = at + tl.arange(0, KEYS)
            is_seen = (token >= first_seen) & (token < end)
            page = tl.load(page_table + sequence * table_width + at // PAGE).to(tl.int64)
            place = layer + ((page * PAGE + token % PAGE) * HEADS + head)[:, None] * DIM + dim[None, :]
            k = tl.load(place, is_seen[:, None] & is_dim, 0.0)
            v = tl.load(place + plane, is_seen[:, None] & is_dim, 0.0)
            scores = tl.dot(q, tl.trans(k)) * (scaling * 1.4426950408889634)
            scores = tl.where(is_seen[None, :], scores, -1e30)
            higher = tl.maximum(highest, tl.max(scores, 1))
            shares = tl.where(is_seen[None, :], tl.exp2(scores - higher[:, None]), 0.0)
            kept = tl.exp2(highest - higher)
            total = total * kept + tl.sum(shares, 1)
            mixed = tl.dot(shares.to(v.dtype), v, mixed * kept[:, None])
            highest = higher
        target = ((sequence * HEADS + head) * SHARED + row) * SPLITS + split
        total = tl.maximum(total, 1e-30)
        tl.store(parts + target[:, None] * DIM + dim[None, :], mixed / total[:, None], is_row[:, None] & is_dim)
        tl.store(part_weights + target, highest + tl.log2(total), is_row)

    @triton.jit
    def _join_parts(  # type: ignore[no-untyped-def]
        parts, part_weights, output,
        DIM: tl.constexpr, SPLITS: tl.constexpr, BLOCK: tl.constexpr, OVERLAPS: tl.constexpr,
    ):  # fmt: skip
        if OVERLAPS:
            gdc_launch_dependents()
            gdc_wait()
        row = tl.program_id(0).to(tl.int64)
        split = tl.arange(0, SPLITS)
        dim = tl.arange(0, BLOCK)
        is_dim = dim < DIM
        weights = tl.load(part_weights + row * SPLITS + split)
        weights = tl.exp2(weights - tl.max(weights, 0))
        mixed = tl.load(parts + (row * SPLITS + split)[:, None] * DIM + dim[None, :], is_dim[None, :], 0.0)
        joined = tl.sum(mixed * weights[:, None], 0) / tl.sum(weights, 0)
        tl.store(output + row * DIM + dim, joined.to(output.dtype.element_ty), is_dim)
