"""Products of few rows with large weights on NVIDIA GPUs, in Triton: their time is that of reading the weights.

One row, an answer alone, is multiplied without the matrix units, and what stands before and after the product is
computed with it: the norm, the bias, the gate, the residual. On Hopper and later such a kernel starts while the one
before it still runs and waits for it only when it has asked for its first weights.

4-bit weights lie in words of 32 bits, `(out_features, in_features / 8)`: digits 2 j and 2 j + 1 of word w of each 128
input channels are channel 32 j + 2 w and the next, so that neighbouring words want neighbouring pairs of activations.
"""

import functools

import torch
from torch.nn import functional

try:
    import triton
    from triton import language as tl
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
except ImportError:  # see gpu_kernels
    triton = None

CHANNELS_OF_WORDS = 128
"""Input channels come in groups of so many."""
_WORDS = 16
_DIGITS = 8
_MOST_ROWS = 64
"""From here on unpacking the weight once and leaving the product to cuBLAS is quicker."""
_COLUMNS, _SPLITS = 64, 4
_ROW_COLUMNS, _ROW_BLOCK = 2, 1024
_INT4_ROW_COLUMNS, _INT4_ROW_WORDS, _WORDS_OF_A_WARP = 4, 512, 128
"""A thread reads four words at once, of all the columns: so the activations need not be exchanged between threads."""


def pack_int4(q: torch.Tensor) -> torch.Tensor:
    """Whole numbers from 0 to 15, `(out_features, in_features)`, as words of the order that this module reads."""
    digits = _reordered(q).view(q.shape[0], -1, _DIGITS, _WORDS).to(torch.int32)
    words = digits[:, :, 0].clone()
    for place in range(1, _DIGITS):
        words |= digits[:, :, place] << (4 * place)
    return words.view(q.shape[0], -1)


def _reordered(x: torch.Tensor) -> torch.Tensor:
    """Input channels in the order of the words' digits: all first ones of 16 words, then all second ones, and so on."""
    return x.view(x.shape[0], -1, _DIGITS // 2, _WORDS, 2).transpose(-1, -2).reshape(x.shape)


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
        num_warps=4, **_overlap(x.device),
    )  # fmt: skip
    return output


def int4_row_product(
    x: torch.Tensor,
    packed: torch.Tensor,
    scales_and_zeros: torch.Tensor,
    group_size: int,
    bias: torch.Tensor | None = None,
    *,
    norm: torch.Tensor | None = None,
    epsilon: float = 0.0,
    residual: torch.Tensor | None = None,
    is_gated: bool = False,
) -> torch.Tensor:
    """As `row_product`, for weights of `pack_int4`; scales and zeros are `(groups, out_features, 2)` in bfloat16."""
    out_features, num_words = packed.shape
    if is_gated:
        out_features //= 2
    output = x.new_empty(*x.shape[:-1], out_features)
    words_at_once = min(_INT4_ROW_WORDS, triton.next_power_of_2(num_words))
    _multiply_row_int4[(triton.cdiv(out_features, _INT4_ROW_COLUMNS),)](
        x.view(torch.int32), None if norm is None else norm.view(torch.int32), packed,
        scales_and_zeros.view(torch.int32), bias, residual, output, epsilon, out_features, num_words,
        IS_BFLOAT16=x.dtype == torch.bfloat16, GROUP=group_size, HAS_NORM=norm is not None,
        HAS_BIAS=bias is not None, HAS_RESIDUAL=residual is not None, IS_GATED=is_gated,
        COLUMNS=_INT4_ROW_COLUMNS, WORDS=words_at_once, num_warps=max(1, words_at_once // _WORDS_OF_A_WARP),
        **_overlap(x.device),
    )  # fmt: skip
    return output


def int4_product(
    x: torch.Tensor, packed: torch.Tensor, scales_and_zeros: torch.Tensor, group_size: int
) -> torch.Tensor:
    """`(rows, in_features)` times weights of `pack_int4`; `(rows, out_features)`."""
    rows = x.shape[0]
    if rows == 1:
        return int4_row_product(x, packed, scales_and_zeros, group_size)
    out_features, num_words = packed.shape
    numbers = scales_and_zeros.view(torch.int32)
    x = _reordered(x)
    if rows > _MOST_ROWS:
        weight = x.new_empty(out_features, x.shape[1])
        _unpack_int4[(triton.cdiv(out_features, _COLUMNS), num_words // _WORDS)](
            packed, numbers, weight, out_features, num_words, GROUP=group_size, COLUMNS=_COLUMNS
        )
        return functional.linear(x, weight)
    sums = x.new_empty(_SPLITS, rows, out_features, dtype=torch.float32)
    _multiply_int4[(triton.cdiv(out_features, _COLUMNS), _SPLITS)](
        x, packed, numbers, sums, rows, out_features, num_words, GROUP=group_size,
        ROWS=max(16, triton.next_power_of_2(rows)), COLUMNS=_COLUMNS, SPLITS=_SPLITS, num_warps=4, num_stages=4,
    )  # fmt: skip
    return sums.sum(0).to(x.dtype)


def int8_product(x: torch.Tensor, q: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """`(rows, in_features)` times `q * scales`, `(out_features, in_features)` in int8; `(rows, out_features)`."""
    rows, in_features = x.shape
    if rows == 1:
        return row_product(x, q, scales=scales)
    out_features = q.shape[0]
    if rows > _MOST_ROWS or in_features % CHANNELS_OF_WORDS:
        return functional.linear(x, q.to(x.dtype)) * scales
    sums = x.new_empty(_SPLITS, rows, out_features, dtype=torch.float32)
    _multiply_int8[(triton.cdiv(out_features, _COLUMNS), _SPLITS)](
        x, q, scales, sums, rows, out_features, in_features,
        ROWS=max(16, triton.next_power_of_2(rows)), COLUMNS=_COLUMNS, SPLITS=_SPLITS, num_warps=4, num_stages=4,
    )  # fmt: skip
    return sums.sum(0).to(x.dtype)


@functools.cache
def _overlap(device: torch.device) -> dict[str, bool]:
    """How a kernel is told that it may start before the one before it has ended."""
    is_hopper = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)
    return {"OVERLAPS": True, "launch_pdl": True} if is_hopper else {"OVERLAPS": False}


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
        _finish(y, z, bias, residual, output, columns, out_features, HAS_BIAS, HAS_RESIDUAL, IS_GATED)

    @triton.jit
    def _finish(  # type: ignore[no-untyped-def]
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
    def _digit(words, PLACE: tl.constexpr):  # type: ignore[no-untyped-def]
        """128 more than a digit, in float32: as the highest bits of 128's fraction it needs no conversion."""
        bits = words << (16 - 4 * PLACE) if PLACE < 4 else words >> (4 * PLACE - 16)
        return ((bits & 0xF0000) | 0x43000000).to(tl.float32, bitcast=True)

    @triton.jit
    def _scale_and_zero(numbers, at, is_in):  # type: ignore[no-untyped-def]
        """Of pairs of bfloat16 in one word, in float32; the zero is what digit 128 more than 0 stands for."""
        pair = tl.load(numbers + at, is_in, 0)
        scale = (pair << 16).to(tl.float32, bitcast=True)
        return scale, (pair & -65536).to(tl.float32, bitcast=True) - 136 * scale

    @triton.jit
    def _halves(pair, IS_BFLOAT16: tl.constexpr):  # type: ignore[no-untyped-def]
        """Two neighbours of 16 bits that were read as one word, in float32."""
        if IS_BFLOAT16:
            left = (pair << 16).to(tl.float32, bitcast=True)
            right = (pair & -65536).to(tl.float32, bitcast=True)
        else:
            left = pair.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
            right = (pair >> 16).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
        return left, right

    @triton.jit
    def _multiply_row_int4(  # type: ignore[no-untyped-def]
        x, norm, packed, numbers, bias, residual, output, epsilon, out_features, num_words,
        IS_BFLOAT16: tl.constexpr, GROUP: tl.constexpr, HAS_NORM: tl.constexpr, HAS_BIAS: tl.constexpr,
        HAS_RESIDUAL: tl.constexpr, IS_GATED: tl.constexpr, COLUMNS: tl.constexpr, WORDS: tl.constexpr,
        OVERLAPS: tl.constexpr,
    ):  # fmt: skip
        PLACES: tl.constexpr = 8 if GROUP >= 128 else GROUP // 16  # digits of a word that share a scale
        columns = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
        is_column = columns < out_features
        rows = tl.where(is_column, columns, 0)[:, None]
        word = tl.arange(0, WORDS)[None, :]
        source = packed + rows * num_words + word
        others_source = source + out_features.to(tl.int64) * num_words
        num_columns = out_features
        if IS_GATED:
            num_columns = out_features * 2
        total = tl.zeros((COLUMNS, WORDS), tl.float32)
        others = tl.zeros((COLUMNS, WORDS), tl.float32)
        squares = tl.zeros((1, WORDS), tl.float32)
        words = tl.load(source, word < num_words, 0)
        if IS_GATED:
            other_words = tl.load(others_source, word < num_words, 0)
        if OVERLAPS:
            gdc_launch_dependents()
            gdc_wait()
        for start in range(0, num_words, WORDS):
            is_in = word < num_words - start
            pair = (start + word) // 16 * 64 + word % 16
            for first in tl.static_range(0, 8, PLACES):
                product = tl.zeros((COLUMNS, WORDS), tl.float32)
                other_product = tl.zeros((COLUMNS, WORDS), tl.float32)
                sums = tl.zeros((1, WORDS), tl.float32)
                for p in tl.static_range(first, first + PLACES, 2):
                    left, right = _halves(tl.load(x + pair + p * 8, is_in, 0), IS_BFLOAT16)
                    if HAS_NORM:
                        squares += left * left + right * right
                        left_norm, right_norm = _halves(tl.load(norm + pair + p * 8, is_in, 0), IS_BFLOAT16)
                        left *= left_norm
                        right *= right_norm
                    sums += left + right
                    product += _digit(words, p) * left
                    product += _digit(words, p + 1) * right
                    if IS_GATED:
                        other_product += _digit(other_words, p) * left
                        other_product += _digit(other_words, p + 1) * right
                at = ((start + word) // 16 * 128 + first * 16) // GROUP * num_columns + rows
                scale, zero = _scale_and_zero(numbers, at, is_in)
                total += product * scale + zero * sums
                if IS_GATED:
                    scale, zero = _scale_and_zero(numbers, at + out_features, is_in)
                    others += other_product * scale + zero * sums
            is_next = word < num_words - start - WORDS
            words = tl.load(source + start + WORDS, is_next, 0)
            if IS_GATED:
                other_words = tl.load(others_source + start + WORDS, is_next, 0)
        y = tl.sum(total, 1)
        z = tl.sum(others, 1)
        if HAS_NORM:
            factor = tl.rsqrt(tl.sum(squares) / (num_words * 8) + epsilon)
            y *= factor
            z *= factor
        _finish(y, z, bias, residual, output, columns, out_features, HAS_BIAS, HAS_RESIDUAL, IS_GATED)

    @triton.jit
    def _multiply_int4(  # type: ignore[no-untyped-def]
        x, packed, numbers, sums, num_rows, out_features, num_words,
        GROUP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SPLITS: tl.constexpr,
    ):  # fmt: skip
        PLACES: tl.constexpr = 8 if GROUP >= 128 else GROUP // 16
        columns = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
        is_column = columns < out_features
        rows = tl.arange(0, ROWS)[:, None]
        word = tl.arange(0, 16)
        source = packed + tl.where(is_column, columns, 0)[None, :] * num_words + word[:, None]
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        for group in range(tl.program_id(1), num_words // 16, SPLITS):
            words = tl.load(source + group * 16)
            for first in tl.static_range(0, 8, PLACES):
                at = (group * 128 + first * 16) // GROUP * out_features + columns
                scale, zero = _scale_and_zero(numbers, at, is_column)
                for p in tl.static_range(PLACES):
                    block = _digit(words, first + p) * scale[None, :] + zero[None, :]
                    channel = group * 128 + (first + p) * 16 + word
                    part = tl.load(x + rows * (num_words * 8) + channel[None, :], rows < num_rows, 0.0)
                    total = tl.dot(part, block.to(part.dtype), total)
        target = sums + (tl.program_id(1) * num_rows + rows) * out_features + columns[None, :]
        tl.store(target, total, (rows < num_rows) & is_column[None, :])

    @triton.jit
    def _unpack_int4(  # type: ignore[no-untyped-def]
        packed, numbers, weight, out_features, num_words, GROUP: tl.constexpr, COLUMNS: tl.constexpr
    ):
        PLACES: tl.constexpr = 8 if GROUP >= 128 else GROUP // 16
        columns = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
        is_column = (columns < out_features)[:, None]
        group = tl.program_id(1)
        word = tl.arange(0, 16)[None, :]
        words = tl.load(packed + columns[:, None] * num_words + group * 16 + word, is_column, 0)
        for first in tl.static_range(0, 8, PLACES):
            at = (group * 128 + first * 16) // GROUP * out_features + columns[:, None]
            scale, zero = _scale_and_zero(numbers, at, is_column)
            for p in tl.static_range(PLACES):
                block = _digit(words, first + p) * scale + zero
                target = weight + columns[:, None] * (num_words * 8) + group * 128 + (first + p) * 16 + word
                tl.store(target, block.to(weight.dtype.element_ty), is_column)

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
