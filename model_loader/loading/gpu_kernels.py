"""Small kernels for NVIDIA GPUs, in Triton, which torch brings along there.

At one token a step a GPU spends as long on starting many small kernels as on a small product, so what stands between
two products is one kernel each. torch's own product of 4-bit weights is quick up to four rows and then takes time in
proportion to them; here it reads the weights once for many rows, in the same packed order. Where Triton is missing or
cannot compile, the callers compute the same with torch's operations.
"""

import functools
import logging

import torch
from torch.nn import functional

try:
    import triton
    from triton import language as tl
except ImportError:  # builds of torch for processors alone have none
    triton = None

logger = logging.getLogger(__name__)

_PACKED_CHANNELS = 128
"""Input channels that torch's kernel keeps together, in the order that `_reordered` gives the activations."""
_MOST_ROWS = 64
"""From here on unpacking the weight once and leaving the product to cuBLAS is quicker."""
_COLUMNS, _SPLITS = 64, 4


@functools.cache
def are_available(device: torch.device) -> bool:
    """Whether kernels compile and run on a device; tried out once."""
    if triton is None or device.type != "cuda" or torch.version.hip:  # AMD's packed weights have another order
        return False
    try:
        found = gated(torch.tensor([[2.0, 3.0]], device=device))
    except Exception as error:  # no compiler, an old driver: whatever it is, torch's own operations do it too
        logger.info("No Triton kernels on %s: %r", device, error)
        return False
    return bool((found - functional.silu(torch.tensor(2.0)).item() * 3).abs() < 1e-3)


def gated(gate_up: torch.Tensor) -> torch.Tensor:
    """`silu(gate) * up` of `(..., 2 * width)`, where the gate comes first; `(..., width)`."""
    width = gate_up.shape[-1] // 2
    output = gate_up.new_empty(*gate_up.shape[:-1], width)
    _gate[(output.numel() // width, triton.cdiv(width, 1024))](gate_up, output, width, BLOCK=1024)
    return output


def added_and_normed(
    x: torch.Tensor, delta: torch.Tensor, weight: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """`x + delta` and its RMS norm, all `(..., width)` and contiguous."""
    width = x.shape[-1]
    total, normed = torch.empty_like(x), torch.empty_like(x)
    _add_and_norm[(x.numel() // width,)](
        x, delta, weight, total, normed, epsilon, width, BLOCK=triton.next_power_of_2(width), num_warps=8
    )
    return total, normed


def rotated(heads: torch.Tensor, cos: torch.Tensor, signed_sin: torch.Tensor) -> torch.Tensor:
    """Heads `(1, length, heads, head_dim)` turned by their positions; cos and sin are `(1, length, head_dim)`."""
    _, length, num_heads, head_dim = heads.shape
    output = heads.new_empty(heads.shape)
    _rotate[(length, num_heads)](
        heads, output, cos, signed_sin, heads.stride(1), heads.stride(2),
        HALF=head_dim // 2, BLOCK=triton.next_power_of_2(head_dim // 2), num_warps=1,
    )  # fmt: skip
    return output


def store(keys: torch.Tensor, values: torch.Tensor, places: torch.Tensor, layer: torch.Tensor) -> None:
    """Puts keys and values `(tokens, kv_heads, head_dim)` at places of a layer `(2, ..., kv_heads, head_dim)`."""
    tokens, kv_heads, head_dim = keys.shape
    _store[(tokens, kv_heads)](
        keys, values, places, layer, keys.stride(0), keys.stride(1), values.stride(0), values.stride(1),
        layer.stride(0), HEADS=kv_heads, DIM=head_dim, BLOCK=triton.next_power_of_2(head_dim), num_warps=1,
    )  # fmt: skip


def int4_product(
    x: torch.Tensor, packed: torch.Tensor, scales_and_zeros: torch.Tensor, group_size: int
) -> torch.Tensor:
    """`(rows, in_features)` times weights in the order of torch's 4-bit kernel; `(rows, out_features)`."""
    rows, in_features = x.shape
    out_features = scales_and_zeros.shape[1]
    x = _reordered(x)
    groups = in_features // _PACKED_CHANNELS
    if rows > _MOST_ROWS:
        weight = x.new_empty(out_features, in_features)
        _unpack_int4[(out_features // _COLUMNS, groups)](
            packed, scales_and_zeros, weight, out_features, groups, GROUP=group_size, COLUMNS=_COLUMNS
        )
        return functional.linear(x, weight)
    block = max(16, triton.next_power_of_2(rows))
    sums = x.new_empty(_SPLITS, rows, out_features, dtype=torch.float32)
    _multiply_int4[(out_features // _COLUMNS, _SPLITS)](
        x, packed, scales_and_zeros, sums, rows, out_features, groups,
        GROUP=group_size, ROWS=block, COLUMNS=_COLUMNS, SPLITS=_SPLITS, num_warps=4, num_stages=4,
    )  # fmt: skip
    return sums.sum(0).to(x.dtype)


def int8_product(x: torch.Tensor, q: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """`(rows, in_features)` times `q * scales`, `(out_features, in_features)` in int8; `(rows, out_features)`."""
    rows, in_features = x.shape
    out_features = q.shape[0]
    if rows > _MOST_ROWS or out_features % _COLUMNS or in_features % _PACKED_CHANNELS:
        return functional.linear(x, q.to(x.dtype)) * scales
    block = max(16, triton.next_power_of_2(rows))
    sums = x.new_empty(_SPLITS, rows, out_features, dtype=torch.float32)
    _multiply_int8[(out_features // _COLUMNS, _SPLITS)](
        x, q, scales, sums, rows, out_features, in_features // _PACKED_CHANNELS,
        ROWS=block, COLUMNS=_COLUMNS, SPLITS=_SPLITS, num_warps=4, num_stages=4,
    )  # fmt: skip
    return sums.sum(0).to(x.dtype)


def _reordered(x: torch.Tensor) -> torch.Tensor:
    """Input channels in the order in which a packed weight unpacks.

    Of each 128 channels torch's kernel gives a thread those that its matrix instruction wants: the bits of a channel's
    number mean, from the highest, 4 words of a thread, 2 tiles, 2 halves, 4 threads, 2 neighbours.
    """
    return x.view(x.shape[0], -1, 4, 2, 2, 4, 2).permute(0, 1, 3, 4, 6, 5, 2).reshape(x.shape)


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
    def _add_and_norm(x, delta, weight, total, normed, epsilon, width, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
        row = tl.program_id(0).to(tl.int64)
        column = tl.arange(0, BLOCK)
        is_in = column < width
        first = tl.load(x + row * width + column, is_in, 0.0).to(tl.float32)
        second = tl.load(delta + row * width + column, is_in, 0.0).to(tl.float32)
        added = (first + second).to(total.dtype.element_ty)
        tl.store(total + row * width + column, added, is_in)
        values = added.to(tl.float32)
        scale = tl.rsqrt(tl.sum(values * values, 0) / width + epsilon)
        factors = tl.load(weight + column, is_in, 0.0).to(tl.float32)
        tl.store(normed + row * width + column, (values * scale * factors).to(normed.dtype.element_ty), is_in)

    @triton.jit
    def _rotate(  # type: ignore[no-untyped-def]
        heads, output, cos, signed_sin, row_stride, head_stride, HALF: tl.constexpr, BLOCK: tl.constexpr
    ):
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
        HEADS: tl.constexpr, DIM: tl.constexpr, BLOCK: tl.constexpr,
    ):  # fmt: skip
        row = tl.program_id(0).to(tl.int64)
        head = tl.program_id(1)
        place = tl.arange(0, BLOCK)
        is_in = place < DIM
        target = layer + (tl.load(places + row) * HEADS + head) * DIM + place
        tl.store(target, tl.load(keys + row * key_row + head * key_head + place, is_in), is_in)
        tl.store(target + plane, tl.load(values + row * value_row + head * value_head + place, is_in), is_in)

    @triton.jit
    def _int4_block(packed, scales_and_zeros, columns, group, out_features, num_groups, GROUP: tl.constexpr):  # type: ignore[no-untyped-def]
        """128 input channels, in the order of `_reordered`, of some output channels: `(128, columns)` in float32."""
        word = tl.arange(0, 16)
        words = tl.load(
            packed + (columns // 8 * num_groups + group)[None, :] * 128 + (columns % 8 * 16)[None, :] + word[:, None]
        )
        place = tl.arange(0, 8)
        shift = (place & 1) * 16 + (place >> 1 & 1) * 4 + (place >> 2) * 8
        q = ((words[None, :, :] >> shift[:, None, None]) & 15).to(tl.float32) - 8
        if GROUP >= 128:
            at = ((group * 128 // GROUP * out_features + columns) * 2)[None, None, :]
        else:
            at = (((group * 128 + word % 4 * 32) // GROUP)[:, None] * out_features + columns[None, :])[None, :, :] * 2
        scale = tl.load(scales_and_zeros + at).to(tl.float32)
        zero = tl.load(scales_and_zeros + at + 1).to(tl.float32)
        return tl.reshape(q * scale + zero, (128, columns.shape[0]))

    @triton.jit
    def _unpack_int4(  # type: ignore[no-untyped-def]
        packed, scales_and_zeros, weight, out_features, num_groups, GROUP: tl.constexpr, COLUMNS: tl.constexpr
    ):
        columns = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
        group = tl.program_id(1)
        block = _int4_block(packed, scales_and_zeros, columns, group, out_features, num_groups, GROUP)
        target = weight + columns[None, :] * num_groups * 128 + group * 128 + tl.arange(0, 128)[:, None]
        tl.store(target, block.to(weight.dtype.element_ty))

    @triton.jit
    def _multiply_int4(  # type: ignore[no-untyped-def]
        x, packed, scales_and_zeros, sums, num_rows, out_features, num_groups,
        GROUP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SPLITS: tl.constexpr,
    ):  # fmt: skip
        columns = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
        rows = tl.arange(0, ROWS)
        is_row = rows[:, None] < num_rows
        source = x + rows[:, None] * num_groups * 128 + tl.arange(0, 128)[None, :]
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        for group in range(tl.program_id(1), num_groups, SPLITS):
            block = _int4_block(packed, scales_and_zeros, columns, group, out_features, num_groups, GROUP)
            part = tl.load(source + group * 128, is_row, 0.0)
            total = tl.dot(part, block.to(part.dtype), total)
        target = sums + (tl.program_id(1) * num_rows + rows[:, None]) * out_features + columns[None, :]
        tl.store(target, total, is_row)

    @triton.jit
    def _multiply_int8(  # type: ignore[no-untyped-def]
        x, q, scales, sums, num_rows, out_features, num_groups,
        ROWS: tl.constexpr, COLUMNS: tl.constexpr, SPLITS: tl.constexpr,
    ):  # fmt: skip
        columns = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
        rows = tl.arange(0, ROWS)
        is_row = rows[:, None] < num_rows
        place = tl.arange(0, 128)
        source = x + rows[:, None] * num_groups * 128 + place[None, :]
        weights = q + columns[None, :] * num_groups * 128 + place[:, None]
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        for group in range(tl.program_id(1), num_groups, SPLITS):
            part = tl.load(source + group * 128, is_row, 0.0)
            total = tl.dot(part, tl.load(weights + group * 128).to(part.dtype), total)
        total *= tl.load(scales + columns).to(tl.float32)[None, :]
        target = sums + (tl.program_id(1) * num_rows + rows[:, None]) * out_features + columns[None, :]
        tl.store(target, total, is_row)
