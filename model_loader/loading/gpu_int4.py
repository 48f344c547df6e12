"""4-bit weights on NVIDIA GPUs, in Triton.

Weights lie in words of 32 bits, `(out_features, in_features / 8)`: digit p of word w of each 128 input channels
is channel 16 p + w. For one row their time would be that of turning them into numbers, so there the activations are
rounded to 16 bits and cut into two bytes, of which an instruction multiplies four with as many digits.
"""

import torch
from torch.nn import functional

from model_loader.loading.gpu_kernels import overlap
from model_loader.loading.gpu_products import CHANNELS_AT_ONCE, COLUMNS, MOST_ROWS, SPLITS

try:
    import triton
    from triton import language as tl
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

    from model_loader.loading.gpu_products import finish
except ImportError:  # see gpu_kernels
    triton = None

FEW_ROWS = 2
"""Up to here weights are multiplied with one row after the other."""
_WORDS, _DIGITS = 16, 8
"""Words of the channels that belong together, and digits of a word."""
_GROUPS_TO_CUT = 8
_ROW_COLUMNS, _ROW_WORDS = 4, 128
"""What a warp multiplies at once: each thread four words of all the columns, so that it gets the activations alone."""
_ENOUGH_WARPS, _MOST_WARPS = 2048, 4
"""So many have enough weights on their way to keep the memory busy; where there are fewer, several share columns."""


def pack(q: torch.Tensor) -> torch.Tensor:
    """Whole numbers from 0 to 15, `(out_features, in_features)`, as words of the order that this module reads."""
    digits = q.contiguous().view(q.shape[0], -1, _DIGITS, _WORDS).to(torch.int32)
    words = digits[:, :, 0].clone()
    for place in range(1, _DIGITS):
        words |= digits[:, :, place] << (4 * place)
    return words.view(q.shape[0], -1)


def rows_product(
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
    """As `gpu_products.row_product`, for weights of `pack` and a few rows; the first brings the weights to the cache.

    Scales and zeros are `(groups, out_features, 2)` in bfloat16.
    """
    out_features, num_words = packed.shape
    if is_gated:
        out_features //= 2
    output = x.new_empty(*x.shape[:-1], out_features)
    num_parts = max(1, CHANNELS_AT_ONCE // group_size)
    num_rows = x.numel() // x.shape[-1]
    cut = x.new_empty(num_rows, 5 + num_parts, num_words, dtype=torch.int32)
    _cut_rows[(num_rows, triton.cdiv(num_words, _GROUPS_TO_CUT * _WORDS))](
        x, norm, cut, cut.view(torch.float32), epsilon, num_words,
        PARTS=num_parts, HAS_NORM=norm is not None, GROUPS=_GROUPS_TO_CUT, num_warps=4, **overlap(x.device),
    )  # fmt: skip
    programs = triton.cdiv(out_features, _ROW_COLUMNS)
    warps = 1
    if programs < _ENOUGH_WARPS:
        warps = min(_MOST_WARPS, triton.next_power_of_2(triton.cdiv(num_words, _ROW_WORDS)))
    _multiply_rows[(num_rows, programs)](
        cut, cut.view(torch.float32), packed, scales_and_zeros.view(torch.int32), bias, residual, output,
        out_features, num_words, GROUP=group_size, PARTS=num_parts, HAS_BIAS=bias is not None,
        HAS_RESIDUAL=residual is not None, IS_GATED=is_gated, COLUMNS=_ROW_COLUMNS, WORDS=warps * _ROW_WORDS,
        num_warps=warps, **overlap(x.device),
    )  # fmt: skip
    return output


def product(x: torch.Tensor, packed: torch.Tensor, scales_and_zeros: torch.Tensor, group_size: int) -> torch.Tensor:
    """`(rows, in_features)` times weights of `pack`; `(rows, out_features)`."""
    rows = x.shape[0]
    if rows <= FEW_ROWS:
        return rows_product(x, packed, scales_and_zeros, group_size)
    out_features, num_words = packed.shape
    numbers = scales_and_zeros.view(torch.int32)
    if rows > MOST_ROWS:
        weight = x.new_empty(out_features, x.shape[1])
        _unpack[(triton.cdiv(out_features, COLUMNS), num_words // _WORDS)](
            packed, numbers, weight, out_features, num_words, GROUP=group_size, COLUMNS=COLUMNS
        )
        return functional.linear(x, weight)
    sums = x.new_empty(SPLITS, rows, out_features, dtype=torch.float32)
    _multiply[(triton.cdiv(out_features, COLUMNS), SPLITS)](
        x, packed, numbers, sums, rows, out_features, num_words, GROUP=group_size,
        ROWS=max(16, triton.next_power_of_2(rows)), COLUMNS=COLUMNS, SPLITS=SPLITS, num_warps=4, num_stages=4,
    )  # fmt: skip
    return sums.sum(0).to(x.dtype)


if triton is not None:

    @triton.jit
    def _digit(words, PLACE: tl.constexpr):  # type: ignore[no-untyped-def]
        """128 more than a digit, in float32: as the highest bits of 128's fraction it needs no conversion."""
        bits = words << (16 - 4 * PLACE) if PLACE < 4 else words >> (4 * PLACE - 16)
        return ((bits & 0xF0000) | 0x43000000).to(tl.float32, bitcast=True)

    @triton.jit
    def _scale_and_zero(pair, EIGHT: tl.constexpr):  # type: ignore[no-untyped-def]
        """Of pairs of bfloat16 in one word, in float32; `EIGHT` is what digit 8 is computed with, which means zero."""
        scale = (pair << 16).to(tl.float32, bitcast=True)
        return scale, (pair & -65536).to(tl.float32, bitcast=True) - EIGHT * scale

    @triton.jit
    def _normed(x, norm, scale, at, is_in, HAS_NORM: tl.constexpr):  # type: ignore[no-untyped-def]
        value = tl.load(x + at, is_in, 0.0).to(tl.float32)
        if HAS_NORM:
            value *= scale * tl.load(norm + at, is_in, 0.0).to(tl.float32)
        return value

    @triton.jit
    def _cut_rows(  # type: ignore[no-untyped-def]
        x, norm, cut, cut_floats, epsilon, num_words,
        PARTS: tl.constexpr, HAS_NORM: tl.constexpr, GROUPS: tl.constexpr, OVERLAPS: tl.constexpr,
    ):  # fmt: skip
        """Of each word's channels the bytes, as `_multiply_rows` reads them.

        Rows of the output: high bytes of the even digits' channels, of the odd ones', low bytes likewise; what the
        lowest bit stands for; the sums of the channels, of each part of them that has a scale of its own.
        """
        row = tl.program_id(0)
        x += row * num_words * 8
        cut += row * (5 + PARTS) * num_words
        cut_floats += row * (5 + PARTS) * num_words
        if OVERLAPS:
            gdc_launch_dependents()
            gdc_wait()
        scale = 1.0
        if HAS_NORM:
            squares = tl.zeros((1024,), tl.float32)
            for start in range(0, num_words * 8, 1024):
                place = start + tl.arange(0, 1024)
                value = tl.load(x + place, place < num_words * 8, 0.0).to(tl.float32)
                squares += value * value
            scale = tl.rsqrt(tl.sum(squares, 0) / (num_words * 8) + epsilon)
        group = (tl.program_id(1) * GROUPS + tl.arange(0, GROUPS))[:, None]
        word = tl.arange(0, 16)[None, :]
        is_in = group * 16 + word < num_words
        channel = group * 128 + word
        highest = tl.zeros((GROUPS, 16), tl.float32)
        for p in tl.static_range(8):
            highest = tl.maximum(highest, tl.abs(_normed(x, norm, scale, channel + p * 16, is_in, HAS_NORM)))
        unit = (tl.maximum(tl.max(highest, 1), 1e-26) / 32512)[:, None]  # so that no high byte is 128
        target = group * 16 + word
        for is_odd in tl.static_range(2):
            high_bytes = tl.zeros((GROUPS, 16), tl.int32)
            low_bytes = tl.zeros((GROUPS, 16), tl.int32)
            for place in tl.static_range(4):
                at = channel + (2 * place + is_odd) * 16
                number = tl.floor(_normed(x, norm, scale, at, is_in, HAS_NORM) / unit + 0.5).to(tl.int32)
                high = (number + 128) >> 8
                high_bytes |= (high & 255) << (8 * place)
                low_bytes |= ((number - (high << 8)) & 255) << (8 * place)
            tl.store(cut + is_odd * num_words + target, high_bytes, is_in)
            tl.store(cut + (2 + is_odd) * num_words + target, low_bytes, is_in)
        tl.store(cut_floats + 4 * num_words + target, unit + tl.zeros((GROUPS, 16), tl.float32), is_in)
        for part in tl.static_range(PARTS):
            sums = tl.zeros((GROUPS, 16), tl.float32)
            for p in tl.static_range(part * 8 // PARTS, (part + 1) * 8 // PARTS):
                sums += tl.floor(_normed(x, norm, scale, channel + p * 16, is_in, HAS_NORM) / unit + 0.5)
            tl.store(cut_floats + (5 + part) * num_words + target, sums * unit, is_in)

    @triton.jit
    def _dot4(a, b, total):  # type: ignore[no-untyped-def]
        """The sum of four products of signed bytes, and of what there is already."""
        return tl.inline_asm_elementwise(
            "dp4a.s32.s32 $0, $1, $2, $3;", "=r,r,r,r", [a, b, total], dtype=tl.int32, is_pure=True, pack=1
        )

    @triton.jit
    def _products(  # type: ignore[no-untyped-def]
        words, PART: tl.constexpr, PARTS: tl.constexpr, even_high, odd_high, even_low, odd_low, unit
    ):
        """Of each word the sum of its digits times their channels, of one of equal parts of them; in float32."""
        MASK: tl.constexpr = 0x0F0F0F0F & (((1 << (32 // PARTS)) - 1) << (32 // PARTS * PART))
        even = words & MASK
        odd = (words >> 4) & MASK
        none = tl.zeros_like(words)
        high = _dot4(odd, odd_high, _dot4(even, even_high, none))
        low = _dot4(odd, odd_low, _dot4(even, even_low, none))
        return ((high << 8) + low).to(tl.float32) * unit

    @triton.jit
    def _fetched(  # type: ignore[no-untyped-def]
        packed, numbers, rows, at, num_words, num_columns, GROUP: tl.constexpr
    ):
        """Words of each row, and pairs of scale and zero of their first channels; zeros beyond the row's end."""
        is_in = at < num_words
        pairs = tl.load(numbers + at // 16 * 128 // GROUP * num_columns + rows, is_in, 0)
        return tl.load(packed + rows * num_words + at, is_in, 0), pairs

    @triton.jit
    def _multiply_rows(  # type: ignore[no-untyped-def]
        cut, cut_floats, packed, numbers, bias, residual, output, out_features, num_words,
        GROUP: tl.constexpr, PARTS: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
        IS_GATED: tl.constexpr, COLUMNS: tl.constexpr, WORDS: tl.constexpr, OVERLAPS: tl.constexpr,
    ):  # fmt: skip
        row = tl.program_id(0)
        cut += row * (5 + PARTS) * num_words
        cut_floats += row * (5 + PARTS) * num_words
        output += row * out_features
        if HAS_RESIDUAL:
            residual += row * out_features
        columns = tl.program_id(1).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
        rows = tl.where(columns < out_features, columns, 0)[:, None]
        word = tl.arange(0, WORDS)[None, :]
        num_columns = out_features * 2 if IS_GATED else out_features
        total = tl.zeros((COLUMNS, WORDS), tl.float32)
        others = tl.zeros((COLUMNS, WORDS), tl.float32)
        # Weights and the first part of their scales are asked for a round early, at first before waiting.
        words, pair = _fetched(packed, numbers, rows, word, num_words, num_columns, GROUP)
        if IS_GATED:
            other_rows = rows + out_features
            other_words, other_pair = _fetched(packed, numbers, other_rows, word, num_words, num_columns, GROUP)
        if OVERLAPS:
            gdc_launch_dependents()
            gdc_wait()
        for start in range(0, num_words, WORDS):
            at = start + word
            is_in = at < num_words
            even_high = tl.load(cut + at, is_in, 0)
            odd_high = tl.load(cut + num_words + at, is_in, 0)
            even_low = tl.load(cut + 2 * num_words + at, is_in, 0)
            odd_low = tl.load(cut + 3 * num_words + at, is_in, 0)
            unit = tl.load(cut_floats + 4 * num_words + at, is_in, 0.0)
            for part in tl.static_range(PARTS):
                sums = tl.load(cut_floats + (5 + part) * num_words + at, is_in, 0.0)
                if part > 0:
                    number = numbers + (at // 16 * 128 + part * (128 // PARTS)) // GROUP * num_columns + rows
                    pair = tl.load(number, is_in, 0)
                    if IS_GATED:
                        other_pair = tl.load(number + out_features, is_in, 0)
                scale, zero = _scale_and_zero(pair, 8)
                product = _products(words, part, PARTS, even_high, odd_high, even_low, odd_low, unit)
                total += product * scale + zero * sums
                if IS_GATED:
                    scale, zero = _scale_and_zero(other_pair, 8)
                    product = _products(other_words, part, PARTS, even_high, odd_high, even_low, odd_low, unit)
                    others += product * scale + zero * sums
            at += WORDS
            words, pair = _fetched(packed, numbers, rows, at, num_words, num_columns, GROUP)
            if IS_GATED:
                other_words, other_pair = _fetched(packed, numbers, other_rows, at, num_words, num_columns, GROUP)
        y, z = tl.sum(total, 1), tl.sum(others, 1)
        finish(y, z, bias, residual, output, columns, out_features, HAS_BIAS, HAS_RESIDUAL, IS_GATED)

    @triton.jit
    def _multiply(  # type: ignore[no-untyped-def]
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
                scale, zero = _scale_and_zero(tl.load(numbers + at, is_column, 0), 136)
                for p in tl.static_range(PLACES):
                    block = _digit(words, first + p) * scale[None, :] + zero[None, :]
                    channel = group * 128 + (first + p) * 16 + word
                    part = tl.load(x + rows * (num_words * 8) + channel[None, :], rows < num_rows, 0.0)
                    total = tl.dot(part, block.to(part.dtype), total)
        target = sums + (tl.program_id(1) * num_rows + rows) * out_features + columns[None, :]
        tl.store(target, total, (rows < num_rows) & is_column[None, :])

    @triton.jit
    def _unpack(  # type: ignore[no-untyped-def]
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
            scale, zero = _scale_and_zero(tl.load(numbers + at, is_column, 0), 136)
            for p in tl.static_range(PLACES):
                block = _digit(words, first + p) * scale + zero
                target = weight + columns[:, None] * (num_words * 8) + group * 128 + (first + p) * 16 + word
                tl.store(target, block.to(weight.dtype.element_ty), is_column)
