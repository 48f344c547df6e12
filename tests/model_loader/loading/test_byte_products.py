"""Activations cut into bytes: how exact they are, and which rows lose their low bytes."""

import pytest
import torch

from model_loader.loading import byte_products, low_bit
from model_loader.loading.byte_products import BytesOfRows, cut_into_bytes, cut_many
from model_loader.loading.low_bit import Int4Linear, Int8Linear, has_int8_kernel, round_to_int4


def rows_of(cut: BytesOfRows) -> torch.Tensor:
    """The rows as bytes say them: their product with one."""
    return cut.join(cut.bytes.float() - 128)


def errors(found: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return (found - rows.float()).square().mean(1).sqrt() / rows.float().square().mean(1).sqrt()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_two_bytes_hold_sixteen_bits(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    rows = (torch.randn(9, 64) * torch.logspace(-8, 8, 9)[:, None]).to(dtype)
    steps = rows.float().abs().amax(1, keepdim=True) / byte_products._ACTIVATION_MAX
    assert bool(((rows_of(cut_into_bytes(rows)) - rows.float()).abs() <= 0.51 * steps).all())


@pytest.mark.parametrize("num_rows", [1, 64, 150])
@pytest.mark.parametrize("max_error", [0.02, 0.005, 0.0])
def test_no_row_is_moved_farther_than_is_allowed(
    max_error: float, num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    monkeypatch.setattr(byte_products, "_NUMBERS_AT_ONCE", 50 * 512)  # the last part is smaller
    rows = torch.randn(num_rows, 512)
    rows[::7, 3] = 100  # an outlier costs the other channels their digits
    cut = cut_many(rows, max_error)
    assert bool((errors(rows_of(cut), rows) <= max(1.3 * max_error, 1e-3)).all())
    if max_error == 0.02 and num_rows > 16:
        assert cut.finer is not None
        assert set(cut.finer.tolist()) >= set(range(0, num_rows, 7))
        assert len(cut.finer) == {64: 16, 150: 32}[num_rows]
        assert len(cut.bytes) == num_rows + len(cut.finer)
    else:
        assert cut.finer is None


def test_a_row_of_zeros_and_one_that_is_not_a_number_stay_what_they_are() -> None:
    torch.manual_seed(6)
    rows = torch.randn(70, 64)
    rows[0], rows[1, 5] = 0, torch.nan
    rows[2:18, 3] = 100
    many = cut_many(rows, 0.01)
    assert many.finer is not None
    assert set(many.finer.tolist()) == set(range(2, 18))
    for cut in (cut_into_bytes(rows), many):
        joined = rows_of(cut)
        assert bool(joined[1].isnan().all())
        assert float(joined[0].abs().max()) == 0
        assert bool((errors(joined[2:], rows[2:]) < 0.015).all())


@pytest.mark.skipif(not has_int8_kernel(torch.device("cpu")), reason="this processor has no VNNI")
def test_rounding_many_rows_costs_no_more_than_rounding_the_weights_does() -> None:
    torch.manual_seed(2)
    weight, rows = torch.randn(640, 896) * 0.05, torch.randn(100, 896).bfloat16().float()
    exact, eight = rows @ weight.T, Int8Linear(weight)
    eight.pack()
    for layer in (Int4Linear(*round_to_int4(weight)), eight) if low_bit._packs_in_blocks() else (eight,):
        together, by_tens = layer(rows), torch.cat([layer(ten) for ten in rows.split(10)])
        rounding = (by_tens - exact).square().mean().sqrt()
        assert 0 < (together - by_tens).square().mean().sqrt() < rounding
        assert (together - exact).square().mean().sqrt() < 1.5 * rounding  # 2 ** 0.5 where both cost the same


@pytest.mark.skipif(not low_bit._packs_in_blocks(), reason="this processor's 4-bit kernel has another order")
def test_groups_of_very_different_scales_become_bytes_of_one() -> None:
    torch.manual_seed(3)
    weight = torch.randn(128, 512) * torch.logspace(-2, 1, 4).repeat_interleave(128)
    weight[5] = 0
    digits, scales, zeros = round_to_int4(weight)
    digits[7], scales[7] = 16 - digits[7].clamp(min=1), -scales[7]  # nothing forbids scales below zero
    layer = Int4Linear(digits, scales, zeros)
    expected = layer(torch.eye(512)[:63])  # fewer than many: the kernel's own weight
    found = layer(torch.eye(512)[:64])[:63]
    steps = layer(torch.eye(512)).abs().amax(0) / 127
    assert bool(((found - expected).abs() <= 0.6 * steps + 0.005 * expected.abs()).all())


@pytest.mark.parametrize("num_rows", [2, 63, 64, 65, 129, 300])
def test_every_row_has_its_product_whatever_their_number(num_rows: int) -> None:
    torch.manual_seed(4)
    weight, rows = torch.randn(192, 128), torch.randn(num_rows, 128)
    rows[::7, 3] = 50
    eight, digits = Int8Linear(weight), round_to_int4(weight)
    if has_int8_kernel(torch.device("cpu")):
        eight.pack()
    for layer, rounding in ((Int4Linear(*digits), 0.2), (eight, 0.02)):
        assert bool((errors(layer(rows), rows @ weight.T) < rounding).all())
