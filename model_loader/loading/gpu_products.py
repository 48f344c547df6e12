"""Products of few rows with large weights on NVIDIA GPUs, in Triton: their time is that of reading the weights.

One row, an answer alone, is multiplied without the matrix units, and what stands before and after the product is
computed with it: the norm, the bias, the gate, the residual. On Hopper and later such a kernel starts while the one
before it still runs and waits for it only when it has asked for its first weights.
"""

import torch
from torch.nn import functional

from model_loader.loading.gpu_kernels import overlap

try:
    import triton
    from triton import language as tl
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
except ImportError:  # see gpu_kernels
    triton = None

CHANNELS_AT_ONCE = 128
MOST_ROWS = 64
"""From here on unpacking the weight once and leaving the product to cuBLAS is quicker."""
COLUMNS, SPLITS = 64, 4
"""Output channels of a program that multiplies some rows, and programs that share the input channels."""
_ROW_COLUMNS, _ROW_BLOCK = 2, 1024


def row_product(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    scales: torch.Tensor | None = None,
    norm: torch.Tensor | None = None,
    epsilon: float = 0.0,
    residual: torch.Tensor | None = None,
    is_gated: bool = False,
) -> torch.Tensor:
    """One row times a weight, `(..., in_features)` to `(..., out_features)`.

    Args:
        x: the row.
        weight: `(out_features, in_features)` in 16 bits, or in int8 with `scales`.
        bias: `(out_features,)`.
        scales: `(out_features,)`, by which the weight's output channels are multiplied.
        norm: `(in_features,)`, the factors of an RMS norm that comes before, with its `epsilon`.
        residual: what is added to the result, of its shape.
        is_gated: whether the weight's first half is that of a gate; the result is `silu(gate) * other`.
    """
    out_features, in_features = weight.shape
    if is_gated:
        out_features //= 2
    output = x.new_empty(*x.shape[:-1], out_features)
    _multiply_row[(triton.cdiv(out_features, _ROW_COLUMNS),)](
        x, norm, weight, scales, bias, residual, output, epsilon, out_features, in_features,
        HAS_NORM=norm is not None, HAS_SCALES=scales is not None, HAS_BIAS=bias is not None,
        HAS_RESIDUAL=residual is not None, IS_GATED=is_gated, COLUMNS=_ROW_COLUMNS, BLOCK=_ROW_BLOCK,
        num_warps=4, **overlap(x.device),
    )  # fmt: skip
    return output


def int8_product(x: torch.Tensor, q: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """`(rows, in_features)` times `q * scales`, `(out_features, in_features)` in int8; `(rows, out_features)`."""
    rows, in_features = x.shape
    if rows == 1:
        return row_product(x, q, scales=scales)
    out_features = q.shape[0]
    if rows > MOST_ROWS or in_features % CHANNELS_AT_ONCE:
        return functional.linear(x, q.to(x.dtype)) * scales
    sums = x.new_empty(SPLITS, rows, out_features, dtype=torch.float32)
    _multiply_int8[(triton.cdiv(out_features, COLUMNS), SPLITS)](
        x, q, scales, sums, rows, out_features, in_features,
        ROWS=max(16, triton.next_power_of_2(rows)), COLUMNS=COLUMNS, SPLITS=SPLITS, num_warps=4, num_stages=4,
    )  # fmt: skip
    return sums.sum(0).to(x.dtype)


if triton is not None:

    @triton.jit
    def _multiply_row(  # type: ignore[no-untyped-def]
        x, norm, weight, scales, bias, residual, output, epsilon, out_features, in_features,
        HAS_NORM: tl.constexpr, HAS_SCALES: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
        IS_GATED: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr, OVERLAPS: tl.constexpr,
    ):  # fmt: skip
        columns = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
        is_column = columns < out_features
        place = tl.arange(0, BLOCK)
        source = weight + tl.where(is_column, columns, 0)[:, None] * in_features + place[None, :]
        others_source = source + out_features.to(tl.int64) * in_features
        total = tl.zeros((COLUMNS, BLOCK), tl.float32)
        others = tl.zeros((COLUMNS, BLOCK), tl.float32)
        squares = tl.zeros((BLOCK,), tl.float32)
        weights = tl.load(source, (place < in_features)[None, :], 0)
        if IS_GATED:
            other_weights = tl.load(others_source, (place < in_features)[None, :], 0)
        if OVERLAPS:
            gdc_launch_dependents()
            gdc_wait()
        for start in range(0, in_features, BLOCK):
            is_in = place < in_features - start
            part = tl.load(x + start + place, is_in, 0.0).to(tl.float32)
            if HAS_NORM:
                squares += part * part
                part *= tl.load(norm + start + place, is_in, 0.0).to(tl.float32)
            total += weights.to(tl.float32) * part[None, :]
            is_next = (place < in_features - start - BLOCK)[None, :]
            weights = tl.load(source + start + BLOCK, is_next, 0)
            if IS_GATED:
                others += other_weights.to(tl.float32) * part[None, :]
                other_weights = tl.load(others_source + start + BLOCK, is_next, 0)
        y = tl.sum(total, 1)
        z = tl.sum(others, 1)
        if HAS_SCALES:
            y *= tl.load(scales + columns, is_column, 0.0).to(tl.float32)
            if IS_GATED:
                z *= tl.load(scales + out_features + columns, is_column, 0.0).to(tl.float32)
        if HAS_NORM:
            scale = tl.rsqrt(tl.sum(squares, 0) / in_features + epsilon)
            y *= scale
            z *= scale
        finish(y, z, bias, residual, output, columns, out_features, HAS_BIAS, HAS_RESIDUAL, IS_GATED)

    @triton.jit
    def finish(  # type: ignore[no-untyped-def]
        y, z, bias, residual, output, columns, out_features,
        HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr, IS_GATED: tl.constexpr,
    ):  # fmt: skip
        """Bias, gate and residual; `z` is the half that is gated."""
        is_column = columns < out_features
        if HAS_BIAS:
            y += tl.load(bias + columns, is_column, 0.0).to(tl.float32)
            if IS_GATED:
                z += tl.load(bias + out_features + columns, is_column, 0.0).to(tl.float32)
        if IS_GATED:
            y = y * tl.sigmoid(y) * z
        if HAS_RESIDUAL:
            y += tl.load(residual + columns, is_column, 0.0).to(tl.float32)
        tl.store(output + columns, y.to(output.dtype.element_ty), is_column)

    @triton.jit
    def _multiply_int8(  # type: ignore[no-untyped-def]
        x, q, scales, sums, num_rows, out_features, in_features,
        ROWS: tl.constexpr, COLUMNS: tl.constexpr, SPLITS: tl.constexpr,
    ):  # fmt: skip
        columns = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
        is_column = columns < out_features
        rows = tl.arange(0, ROWS)[:, None]
        place = tl.arange(0, 128)
        source = x + rows * in_features + place[None, :]
        weights = q + tl.where(is_column, columns, 0)[None, :] * in_features + place[:, None]
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        for group in range(tl.program_id(1), in_features // 128, SPLITS):
            part = tl.load(source + group * 128, rows < num_rows, 0.0)
            total = tl.dot(part, tl.load(weights + group * 128).to(part.dtype), total)
        total *= tl.load(scales + columns, is_column, 0.0).to(tl.float32)[None, :]
        target = sums + (tl.program_id(1) * num_rows + rows) * out_features + columns[None, :]
        tl.store(target, total, (rows < num_rows) & is_column[None, :])
