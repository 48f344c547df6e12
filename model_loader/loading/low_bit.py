"""Linear layers with 4-bit and 8-bit weights on PyTorch's own kernels; no other library is needed.

Int4: groups of input channels share a scale and a zero, `weight = (q - 8) * scale + zero`, q from 0 to 15.
Int8: every output channel has a scale, `weight = q * scale`, q from -127 to 127.
The kernels: `gpu_int4` and `gpu_products` (CUDA with Triton), `_weight_int4pack_mm` (CUDA without, compute capability
8.0 and later), `_weight_int4pack_mm_for_cpu` and `_weight_int8pack_mm` (CPU), which are quick in bfloat16 only, and
oneDNN's product of bytes where the processor has instructions for it. Elsewhere a layer's weight is unpacked at each
use.
"""

import functools
from collections.abc import Iterator
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from model_loader.loading import gpu_int4, gpu_kernels, gpu_products
from model_loader.loading.byte_products import cut_into_bytes, cut_many, cut_one

GROUP_SIZE = 128
"""Input channels that share a scale where we choose it ourselves."""
KERNEL_GROUP_SIZES = (32, 64, 128, 256)
_MAX_INT4, _INT4_MIDDLE, _MAX_INT8 = 15, 8, 127
_CPU_CHANNELS = 16
"""The CPU kernels want input and output channels in sixteens; zeros are added and their results dropped."""
_INT4_BLOCK = 64
"""Output channels that the 4-bit kernels keep together; whole blocks can stand behind one another."""
_HALF_BLOCK = _INT4_BLOCK // 2
_CUDA_INNER_TILES = 8
_MANY_ROWS = 64
"""From here on a product takes longer than reading the weight, and the 4-bit kernel longer than a product of bytes."""
_WEIGHTS_AT_ONCE = 2**20
"""So many are unpacked at once: what lies between the steps should stay in the processor's cache."""
_MAX_ERROR_INT4, _MAX_ERROR_INT8 = 0.036, 0.011
"""How far rounding to 8 bits may move one of many rows: for int4 a third as far as rounding moves the weights, for
int8 as far."""
_ROWS_AT_ONCE = 256
_ROWS_OF_BYTES = 128


class Int4Linear(nn.Module):
    """A linear layer of 4-bit weights.

    Attributes:
        packed: the weights in the kernel's order; two to a byte.
        scales_and_zeros: `(groups, out_features, 2)` in bfloat16.
        bias: `(out_features,)` or None.
        has_kernel: whether the device computes with packed weights; otherwise they are unpacked at each use.
        is_in_words: whether their order is that of `gpu_int4`.
    """

    def __init__(
        self, q: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor, bias: torch.Tensor | None = None
    ) -> None:
        """Packs weights on the device they are on.

        Args:
            q: `(out_features, in_features)`, whole numbers from 0 to 15.
            scales, zeros: `(out_features, groups)`; as many input channels to a group as one of the kernels takes.
            bias: `(out_features,)`.
        """
        super().__init__()
        self.out_features, self.in_features = q.shape
        self.group_size = self.in_features // scales.shape[1]
        self.has_kernel = has_int4_kernel(q.device, self.in_features)
        self.is_in_words = self.has_kernel and gpu_kernels.are_available(q.device)
        padding = -self.out_features % _CPU_CHANNELS
        scales_and_zeros = torch.stack([scales.T, zeros.T], dim=-1).to(torch.bfloat16)
        self.scales_and_zeros = nn.Buffer(functional.pad(scales_and_zeros, (0, 0, 0, padding)).contiguous())
        q = functional.pad(q, (0, 0, 0, padding))
        self.packed = nn.Buffer(gpu_int4.pack(q) if self.is_in_words else _pack_int4(q, self.has_kernel))
        self.bias: torch.Tensor | None = None if bias is None else nn.Buffer(bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(..., in_features)` to `(..., out_features)`, in the dtype of `x`."""
        y = self._multiply(_cast(x.reshape(-1, self.in_features), torch.bfloat16).contiguous())
        return _finished(y, self.bias, self.out_features, like=x)

    def _multiply(self, rows: torch.Tensor) -> torch.Tensor:
        packed, numbers = self.packed, self.scales_and_zeros
        if not self.has_kernel:
            return rows @ self.dequantize().to(rows.dtype).T
        if self.is_in_words:
            return gpu_int4.product(rows, packed, numbers, self.group_size)
        if not rows.is_cpu:
            return torch.ops.aten._weight_int4pack_mm(rows, packed, self.group_size, numbers)
        if rows.shape[0] >= _MANY_ROWS and self._unpacks_to_bytes:
            return self._product_of_bytes(rows)
        return torch.ops.aten._weight_int4pack_mm_for_cpu.default(rows, packed, self.group_size, numbers)

    def extend(self, other: "Int4Linear") -> bool:
        """Puts another layer's output channels behind one's own; False where their kernels do not allow it."""
        same = (other.in_features, other.group_size, other.has_kernel, other.bias is None)
        whole = self.out_features % _INT4_BLOCK == 0 and other.out_features % _INT4_BLOCK == 0
        if not whole or same != (self.in_features, self.group_size, self.has_kernel, self.bias is None):
            return False
        self.packed = nn.Buffer(torch.cat([self.packed, other.packed]))
        self.scales_and_zeros = nn.Buffer(torch.cat([self.scales_and_zeros, other.scales_and_zeros], dim=1))
        self.bias = _joined_bias(self.bias, other.bias)
        self.out_features += other.out_features
        return True

    @property
    def _unpacks_to_bytes(self) -> bool:
        return self.packed.shape[0] % _INT4_BLOCK == 0 and _packs_in_blocks()

    def _product_of_bytes(self, rows: torch.Tensor) -> torch.Tensor:
        """`(rows, in_features)` to `(rows, out_features)` in bfloat16; the weights are rounded once more, to bytes."""
        num_rows = rows.shape[0]
        cut = cut_many(rows, _MAX_ERROR_INT4)
        signed = cut.bytes.bitwise_xor_(128).view(torch.int8)
        starts, steps, units = self._byte_steps()
        y = rows.new_empty(num_rows, units.shape[1] // _HALF_BLOCK, 2, _HALF_BLOCK)
        blocks_at_once = min(max(1, _WEIGHTS_AT_ONCE // (self.in_features * _INT4_BLOCK)), y.shape[1])
        integers = torch.empty(len(signed) * blocks_at_once * _INT4_BLOCK, dtype=torch.int32)
        products = torch.empty(integers.shape)
        for blocks, channels, weight in self._unpacked(starts, steps, blocks_at_once):
            size = len(signed) * weight.shape[1]
            sums = torch._int_mm(signed, weight, out=integers[:size].view(len(signed), -1))
            halves = cut.join(products[:size].view(sums.shape).copy_(sums)).view(num_rows, 2, -1)
            y[:, blocks].copy_(halves.mul_(units[:, channels]).view(num_rows, 2, -1, _HALF_BLOCK).transpose(1, 2))
        return y.view(num_rows, -1)

    def _unpacked(
        self, starts: torch.Tensor, steps: torch.Tensor, blocks_at_once: int
    ) -> Iterator[tuple[slice, slice, torch.Tensor]]:
        """The weight as bytes, a few blocks of output channels at a time, of the order that `_packs_in_blocks` tells.

        Yields which blocks they are, where their channels are among the first or the second halves of all blocks, and
        `(in_features, first halves and second halves)` in int8, valid until the next.
        """
        pairs = self.packed.view(-1, self.in_features, _HALF_BLOCK).transpose(0, 1)
        most = self.in_features * blocks_at_once * _HALF_BLOCK
        turned, digits = torch.empty(2, most, dtype=torch.uint8)
        numbers = torch.empty(most, dtype=torch.int16)
        weights = torch.empty(2 * most, dtype=torch.int8)
        for start in range(0, pairs.shape[1], blocks_at_once):
            blocks = slice(start, min(start + blocks_at_once, pairs.shape[1]))
            channels = slice(blocks.start * _HALF_BLOCK, blocks.stop * _HALF_BLOCK)
            size = pairs[:, blocks].numel()
            turned[:size].view(self.in_features, -1, _HALF_BLOCK).copy_(pairs[:, blocks])
            groups = numbers[:size].view(-1, self.group_size, channels.stop - channels.start)
            weight = weights[: 2 * size].view(*groups.shape[:2], 2, -1)
            for half, (take, number) in enumerate(((torch.bitwise_and, 0xF), (torch.bitwise_right_shift, 4))):
                numbers[:size].copy_(take(turned[:size], number, out=digits[:size]))
                # The product may wrap around in 16 bits, and the sum then wraps back: it always fits.
                torch.addcmul(starts[half, ..., channels], groups, steps[half, ..., channels], out=groups)
                weight[:, :, half].copy_(groups.bitwise_right_shift_(8))
            yield blocks, channels, weight.view(self.in_features, -1)

    def _byte_steps(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """How digits become bytes, `byte = (start + digit * step) >> 8` and `weight = byte * unit`, nearly.

        A unit is the highest magnitude of its output channel over 127.

        Returns:
            starts and steps, `(2 halves of the blocks, groups, 1, their channels)` in int16, and units,
            `(2 halves of the blocks, their channels)` in float32.
        """
        numbers = self.scales_and_zeros.movedim(2, 0).contiguous().float()
        scales, zeros = numbers.unbind()
        middle = torch.add(zeros, scales, alpha=_MAX_INT4 / 2 - _INT4_MIDDLE)
        units = middle.abs_().add_(scales.abs(), alpha=_MAX_INT4 / 2).amax(dim=0)
        units = units.clamp_(min=1e-12).div_(_MAX_INT8)
        numbers.mul_(256 / units)
        zeros.sub_(scales, alpha=_INT4_MIDDLE).add_(128)  # the lowest weights, and the half that makes it rounding
        numbers = numbers.round_().to(torch.int16)
        steps, starts = numbers.view(2, len(scales), 1, -1, 2, _HALF_BLOCK).permute(0, 4, 1, 2, 3, 5).flatten(4)
        return starts, steps, units.view(-1, 2, _HALF_BLOCK).transpose(0, 1).flatten(1)

    def dequantize(self) -> torch.Tensor:
        """The weight as it is computed with, `(out_features, in_features)` in float32; only without a kernel."""
        q = torch.stack([self.packed & 0xF, self.packed >> 4], dim=-1).reshape(-1, self.in_features)
        scales, zeros = self.scales_and_zeros.float().unbind(-1)
        groups = q.reshape(q.shape[0], -1, self.group_size).float() - _INT4_MIDDLE
        weight = groups * scales.T[..., None] + zeros.T[..., None]
        return weight.reshape(-1, self.in_features)[: self.out_features]


class Int8Linear(nn.Module):
    """A linear layer of 8-bit weights.

    Attributes:
        q: `(out_features, in_features)` in int8, padded to sixteens.
        scales: `(out_features,)` in bfloat16, padded likewise.
        bias: `(out_features,)` or None.
        packed: the weight in the order of oneDNN's kernel, which then is all there is of it; None before `pack`.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        """Rounds a weight `(out_features, in_features)` to the nearest of 255 values per output channel."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        rows, columns = (size + -size % _CPU_CHANNELS for size in weight.shape)
        self.q = nn.Buffer(torch.zeros(rows, columns, dtype=torch.int8, device=weight.device))
        self.scales = nn.Buffer(torch.zeros(rows, dtype=torch.bfloat16, device=weight.device))
        # In blocks and in place: in float32 the last layer's weight alone would outweigh all that is kept.
        for start in range(0, self.out_features, _ROWS_AT_ONCE):
            block = slice(start, min(start + _ROWS_AT_ONCE, self.out_features))
            self.q[block, : self.in_features], self.scales[block] = _round_to_int8(weight[block])
        self.bias: torch.Tensor | None = None if bias is None else nn.Buffer(bias)
        self.packed: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(..., in_features)` to `(..., out_features)`, in the dtype of `x`."""
        if self.packed is not None:
            y = self._product_of_bytes(x.reshape(-1, self.in_features))
            y = y.view(*x.shape[:-1], self.out_features)
            return y if self.bias is None else y.add_(self.bias)
        rows = x.reshape(-1, self.in_features).to(torch.bfloat16)
        rows = functional.pad(rows, (0, self.q.shape[1] - self.in_features)).contiguous()
        if rows.device.type == "cpu":
            y = torch.ops.aten._weight_int8pack_mm(rows, self.q, self.scales)
        elif gpu_kernels.are_available(rows.device):
            y = gpu_products.int8_product(rows, self.q, self.scales)
        else:
            y = (rows @ self.q.to(rows.dtype).T) * self.scales
        return _finished(y, self.bias, self.out_features, like=x)

    def extend(self, other: "Int8Linear") -> bool:
        """Puts another layer's output channels behind one's own; False where padding stands between them."""
        is_padded = self.q.shape[0] != self.out_features or other.q.shape[0] != other.out_features
        if is_padded or (other.in_features, other.bias is None) != (self.in_features, self.bias is None):
            return False
        self.q = nn.Buffer(torch.cat([self.q, other.q]))
        self.scales = nn.Buffer(torch.cat([self.scales, other.scales]))
        self.bias = _joined_bias(self.bias, other.bias)
        self.out_features += other.out_features
        return True

    def pack(self) -> None:
        """Brings the weight into the order of oneDNN's kernel and lets go of the other."""
        if self.packed is None:
            q = self.q[: self.out_features, : self.in_features]
            self.packed = torch.ops.onednn.qlinear_prepack(q, [2, self.in_features])
            self._channel_scales = self.scales[: self.out_features].float()
            self._zeros = torch.zeros(self.out_features, dtype=torch.int64)
            self.q = nn.Buffer(torch.empty(0, dtype=torch.int8))

    def _product_of_bytes(self, rows: torch.Tensor) -> torch.Tensor:
        """`(rows, in_features)` to `(rows, out_features)` in their dtype, of activations as `byte_products` cuts them.

        Few rows are exact to 16 bits, many to what `_MAX_ERROR_INT8` allows.
        """
        num_rows = rows.shape[0]
        if num_rows == 1:
            low, high = self._multiply(*cut_one(rows))
            return torch.add(low, high, alpha=256, out=rows.new_empty(self.out_features)).view(1, -1)
        y = rows.new_empty(num_rows, self.out_features)
        # In parts, so that what lies between the steps stays in the processor's cache.
        for part, out in zip(rows.split(_ROWS_OF_BYTES), y.split(_ROWS_OF_BYTES), strict=True):
            cut = cut_many(part, _MAX_ERROR_INT8) if num_rows >= _MANY_ROWS else cut_into_bytes(part)
            out.copy_(cut.join(self._multiply(cut.bytes)))
        return y

    def _multiply(self, rows: torch.Tensor, unit: float = 1.0) -> torch.Tensor:
        """The product with rows of bytes in which 128 stands for zero, times a unit, in float32."""
        return cast(
            torch.Tensor,
            torch.ops.onednn.qlinear_pointwise(
                rows, unit, 128, self.packed, self._channel_scales, self._zeros,
                None, 1.0, 0, torch.float32, "none", [], "",
            ),
        )  # fmt: skip


def _cast(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`x.to(dtype)`, without asking torch where there is nothing to do: a hundred products of a step come by here."""
    return x if x.dtype == dtype else x.to(dtype)


def _finished(y: torch.Tensor, bias: torch.Tensor | None, out_features: int, like: torch.Tensor) -> torch.Tensor:
    """A product `(rows, out_features and padding)` without the padding and with the bias, as its input is."""
    if y.shape[1] != out_features:
        y = y[:, :out_features]
    y = _cast(y, like.dtype).reshape(*like.shape[:-1], out_features)
    return y if bias is None else y + _cast(bias, y.dtype)


@functools.cache
def _packs_in_blocks() -> bool:
    """Whether the processor's 4-bit kernel keeps 64 output channels together and byte j is channel j and 32 + j.

    That depends on its instructions. Where products of bytes are quick, a weight in this order is unpacked for many
    rows at once: the kernel's time is in proportion to them.
    """
    if not has_int8_kernel(torch.device("cpu")):
        return False
    place = torch.arange(_INT4_BLOCK)[:, None].expand(_INT4_BLOCK, KERNEL_GROUP_SIZES[0])
    ones, sixteens = (
        _pack_int4(digit, has_kernel=True).view(-1, _INT4_BLOCK // 2) for digit in (place % 16, place // 16)
    )
    expected = torch.arange(_INT4_BLOCK // 2)
    low, high = (ones & 0xF) + 16 * (sixteens & 0xF), (ones >> 4) + 16 * (sixteens >> 4)
    return bool((low == expected).all() and (high == expected + _INT4_BLOCK // 2).all())


def has_int8_kernel(device: torch.device) -> bool:
    """Whether oneDNN multiplies bytes exactly: without VNNI its sums of 16 bits overflow."""
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and bool(torch.cpu._is_vnni_supported())


def _joined_bias(first: torch.Tensor | None, second: torch.Tensor | None) -> torch.Tensor | None:
    return None if first is None or second is None else nn.Buffer(torch.cat([first, second]))


def round_to_int4(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rounds a weight `(out_features, in_features)` to the nearest of 16 values between each group's ends.

    Returns:
        q, scales and zeros as `Int4Linear` takes them.
    """
    group_size = next((size for size in (GROUP_SIZE, 64, 32) if weight.shape[1] % size == 0), None)
    if group_size is None:
        raise ValueError(f"{weight.shape[1]} input channels make no whole groups of 32")
    groups = weight.float().reshape(weight.shape[0], -1, group_size)
    low, high = groups.amin(dim=-1), groups.amax(dim=-1)
    # Rounded to bfloat16 first: q is then the nearest value of the weight that the kernel really computes with.
    scales = ((high - low) / _MAX_INT4).clamp(min=1e-12).to(torch.bfloat16).float()
    zeros = (low + _INT4_MIDDLE * scales).to(torch.bfloat16).float()
    q = ((groups - zeros[..., None]) / scales[..., None]).round() + _INT4_MIDDLE
    return q.clamp_(0, _MAX_INT4).to(torch.uint8).reshape(weight.shape), scales, zeros


def _round_to_int8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    weight = weight.float()
    scales = (weight.abs().amax(dim=1) / _MAX_INT8).clamp(min=1e-12).to(torch.bfloat16)
    return (weight / scales.float()[:, None]).round_().clamp_(-_MAX_INT8, _MAX_INT8).to(torch.int8), scales


def _pack_int4(q: torch.Tensor, has_kernel: bool) -> torch.Tensor:
    if not has_kernel:
        pairs = q.to(torch.uint8).reshape(q.shape[0], -1, 2)
        return (pairs[..., 0] | pairs[..., 1] << 4).contiguous()
    if q.device.type == "cpu":
        return torch.ops.aten._convert_weight_to_int4pack_for_cpu(q.contiguous().to(torch.int32), 1)
    pairs = q.to(torch.uint8).reshape(q.shape[0], -1, 2)
    return torch.ops.aten._convert_weight_to_int4pack((pairs[..., 0] << 4 | pairs[..., 1]), _CUDA_INNER_TILES)


def has_int4_kernel(device: torch.device, in_features: int) -> bool:
    """Whether a device computes with packed 4-bit weights of so many input channels."""
    if device.type == "cuda":
        is_whole = in_features % gpu_products.CHANNELS_AT_ONCE == 0
        return is_whole and torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu"
