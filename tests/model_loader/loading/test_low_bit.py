"""4-bit and 8-bit layers: what they compute, and how far rounding moves a weight."""

import pytest
import torch

from model_loader.loading import gpu_int4, low_bit
from model_loader.loading.low_bit import Int4Linear, Int8Linear, round_to_int4

KERNEL_BOUND = 0.01
"""Results differ from float32 arithmetic on the same rounded weights by at most this share of the largest one."""
MANY_ROWS_BOUND = 0.02
"""The same where activations of many rows are rounded to 8 bits."""
SHAPES = [(64, 128), (48, 256), (50, 96), (3, 32), (640, 896)]


def random_weight(shape: tuple[int, int]) -> torch.Tensor:
    torch.manual_seed(shape[0])
    return torch.randn(shape) * 0.05


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.float() - expected).abs().max() / expected.abs().max())


def dequantized(q: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor) -> torch.Tensor:
    groups = q.reshape(q.shape[0], scales.shape[1], -1).float() - 8
    return (groups * scales[..., None] + zeros[..., None]).reshape(q.shape)


@pytest.mark.parametrize("rows", [1, 6, 65, 200])
@pytest.mark.parametrize("has_kernel", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_an_int4_layer_computes_with_its_rounded_weight(
    shape: tuple[int, int], has_kernel: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight, bias, x = random_weight(shape), torch.randn(shape[0]), torch.randn(1, rows, shape[1]).bfloat16()
    rounded = round_to_int4(weight)
    if not has_kernel:
        monkeypatch.setattr(low_bit, "has_int4_kernel", lambda device, in_features: False)
    layer = Int4Linear(*rounded, bias)
    y = layer(x)
    assert y.shape == (1, rows, shape[0])
    assert y.dtype == torch.bfloat16
    is_rough = has_kernel and rows >= low_bit._MANY_ROWS and low_bit._packs_in_blocks()
    bound = MANY_ROWS_BOUND if is_rough else KERNEL_BOUND
    assert relative_error(y, x.float() @ dequantized(*rounded).T + bias) < bound
    if not has_kernel:
        assert torch.equal(layer.dequantize(), dequantized(*rounded))


def test_a_weight_that_is_unpacked_in_parts_is_the_same_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, x = random_weight((640, 896)), torch.randn(1, 65, 896).bfloat16()
    rounded = round_to_int4(weight)
    monkeypatch.setattr(low_bit, "_WEIGHTS_AT_ONCE", 3 * 64 * 896)  # of ten blocks: three, three, three and one
    assert relative_error(Int4Linear(*rounded)(x), x.float() @ dequantized(*rounded).T) < MANY_ROWS_BOUND


@pytest.mark.parametrize("shape", SHAPES)
def test_int4_rounds_to_the_nearest_value(shape: tuple[int, int]) -> None:
    weight = random_weight(shape)
    q, scales, zeros = round_to_int4(weight)
    group = shape[1] // scales.shape[1]
    step = scales.repeat_interleave(group, dim=1)
    # Half a step, and a little for ends of a group that bfloat16 scales and zeros cannot name exactly.
    assert bool(((dequantized(q, scales, zeros) - weight).abs() <= 0.56 * step).all())
    assert int(q.min()) >= 0
    assert int(q.max()) <= 15


@pytest.mark.parametrize("shape", SHAPES)
def test_an_int8_layer_is_within_half_a_step_of_its_channel(shape: tuple[int, int]) -> None:
    weight, bias, x = random_weight(shape), torch.randn(shape[0]), torch.randn(2, 3, shape[1]).bfloat16()
    layer = Int8Linear(weight, bias)
    rounded = layer.q.float()[: shape[0], : shape[1]] * layer.scales.float()[: shape[0], None]
    step = weight.abs().amax(dim=1, keepdim=True) / 127
    assert bool(((rounded - weight).abs() <= 0.76 * step).all())
    assert relative_error(layer(x), x.float() @ rounded.T + bias) < KERNEL_BOUND


def test_a_row_of_zeros_stays_zero() -> None:
    weight = torch.zeros(16, 32)
    for layer in (Int4Linear(*round_to_int4(weight)), Int8Linear(weight)):
        assert float(layer(torch.ones(1, 32)).abs().max()) == 0


def test_packed_weights_take_half_a_byte_and_one() -> None:
    weight = random_weight((256, 512))
    assert Int4Linear(*round_to_int4(weight)).packed.nbytes == weight.numel() // 2
    assert Int8Linear(weight).q.nbytes == weight.numel()


def test_inputs_that_make_no_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="33 input channels make no whole groups of 32"):
        round_to_int4(torch.zeros(16, 33))


def test_words_for_gpus_hold_the_digits_in_their_order_however_these_lie_in_memory() -> None:
    q = torch.randint(0, 16, (512, 192), dtype=torch.uint8).T  # as a GPTQ checkpoint is unpacked
    words = gpu_int4.pack(q)
    assert words.is_contiguous()
    digits = torch.stack([words >> 4 * place & 15 for place in range(8)], dim=-1).view(192, -1, 16, 8)
    assert torch.equal(digits.transpose(-1, -2).reshape(q.shape), q.int())  # digit p of word w is channel 16 p + w
