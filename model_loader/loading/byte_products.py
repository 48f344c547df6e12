"""Activations as bytes, for products with weights of bytes on processors.

A row is rounded to 16 bits, whole units of its own, and cut: `x = (256 (high - 128) + low - 128) unit`. The products
with the high bytes and with the low ones are put together afterwards. Of few rows, which wait for the weights to come
from memory anyway, both are multiplied; of many, a prompt, the low bytes cost as much as the high ones and are left out
of rows that lose little by it.
"""

from typing import NamedTuple

import torch

_ACTIVATION_MAX = 32639
"""Both bytes then are from -128 to 127."""
_LEAST_ACTIVATION = 1e-26
"""So that a row of zeros has a unit."""
_ROUNDING = 1.5 * 2**23
"""Float32 has no digits behind the point here: a sum with it is rounded, and its last bits are a whole number."""
_ZERO = torch.tensor(_ROUNDING + 257 * 128)
_HIGH_ZERO = _ROUNDING + 128
"""Zero as two bytes and as a high one, with what rounds."""
_NUMBERS_AT_ONCE = 2**19
"""What lies between the steps should stay in the processor's cache."""
_FINER_TOGETHER = 16
_HIGH_STEPS = _ACTIVATION_MAX / 256 * 12**0.5
"""Rounding to high bytes alone errs by a row's highest magnitude over this, as a root of the mean square."""


class BytesOfRows(NamedTuple):
    """Rows of activations, cut.

    Attributes:
        bytes: `(finer rows + rows, width)` in uint8: the low bytes of the finer rows, then all high ones.
        units: `(rows, 1)` in float32.
        finer: which rows have low bytes, `(finer rows,)`; None for all.
    """

    bytes: torch.Tensor
    units: torch.Tensor
    finer: torch.Tensor | None

    def join(self, products: torch.Tensor) -> torch.Tensor:
        """The rows' products, `(rows, channels)`, from those of the bytes in float32, which are overwritten."""
        low, high = products.tensor_split([len(products) - len(self.units)])
        if self.finer is None:
            return low.add_(high, alpha=256).mul_(self.units)
        high.mul_(self.units * 256)
        return high.index_add_(0, self.finer, low.mul_(self.units[self.finer])) if len(low) else high


def cut_one(row: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Cuts one row, `(1, width)`, in fewer operations: each counts where one answer is alone.

    Returns:
        Its low and its high bytes, `(2, width)` in uint8, and its unit.
    """
    lowest, highest = torch.aminmax(row)
    unit = max(float(highest), -float(lowest), _LEAST_ACTIVATION) / _ACTIVATION_MAX
    numbers = torch.add(_ZERO, row.float(), alpha=1 / unit)
    return numbers.view(torch.uint8).as_strided((2, row.shape[1]), (1, 4)), unit


def cut_into_bytes(rows: torch.Tensor) -> BytesOfRows:
    """Cuts rows, `(rows, width)` in any floating point format, all of them finely."""
    numbers = rows.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    units = _units(numbers)
    numbers.mul_(1 / units).add_(_ZERO)
    cut = numbers.view(torch.uint8).as_strided((2, *rows.shape), (1, 4 * rows.shape[1], 4))
    return BytesOfRows(cut.reshape(-1, rows.shape[1]), units, None)


def cut_many(rows: torch.Tensor, max_error: float) -> BytesOfRows:
    """Cuts rows, `(rows, width)`, into high bytes alone where that is expected to move them by at most `max_error`.

    The error is a share of the row, both roots of mean squares. Finer rows come by the sixteen, though fewer may need
    it: oneDNN makes a program for every number of rows that it meets.
    """
    units = torch.empty(len(rows), 1)
    shares = torch.empty(len(rows))
    high = torch.empty(rows.shape, dtype=torch.uint8)
    at_once = max(1, _NUMBERS_AT_ONCE // rows.shape[1])
    for part, unit, share, out in zip(*(each.split(at_once) for each in (rows, units, shares, high)), strict=True):
        numbers = part.to(torch.float32, copy=True)
        unit.copy_(_units(numbers))
        torch.div(unit.squeeze(1), torch.linalg.vector_norm(numbers, dim=1), out=share)
        out.copy_(numbers.mul_(1 / (256 * unit)).add_(_HIGH_ZERO).view(torch.int32))
    shares.nan_to_num_(0.0, posinf=0.0)  # rows of zeros, or that hold what is no number
    num_finer = int((shares > max_error * _HIGH_STEPS / _ACTIVATION_MAX / rows.shape[1] ** 0.5).sum())
    num_finer += -num_finer % _FINER_TOGETHER
    if num_finer >= len(rows):
        return cut_into_bytes(rows)
    finer = shares.topk(num_finer).indices
    if num_finer:
        low, high[finer] = cut_into_bytes(rows[finer]).bytes.chunk(2)
        high = torch.cat([low, high])
    return BytesOfRows(high, units, finer)


def _units(numbers: torch.Tensor) -> torch.Tensor:
    return numbers.abs().amax(dim=1, keepdim=True).clamp_(min=_LEAST_ACTIVATION).div_(_ACTIVATION_MAX)
