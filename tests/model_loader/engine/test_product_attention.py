"""Attention by whole products gives what torch's own kernel gives, however large the scores are."""

import pytest
import torch
from torch.nn import functional

from model_loader.engine import product_attention
from model_loader.engine.product_attention import attend_by_products, product_is_quicker

NUM_TOKENS, NUM_KEYS, HEAD_DIM = 20, 300, 64


def tensors(kv_heads: int, heads: int, size: float) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(heads)
    query = torch.randn(kv_heads, heads // kv_heads, NUM_TOKENS, HEAD_DIM) * size
    room = torch.randn(2, kv_heads, NUM_KEYS + 20, HEAD_DIM) * size
    return query.bfloat16(), room.bfloat16()[:, :, :NUM_KEYS]


def mask(num_seen_before: int | None) -> torch.Tensor:
    """For the last tokens of `NUM_KEYS`; with a number only so many keys back are seen."""
    last = torch.arange(NUM_KEYS - NUM_TOKENS, NUM_KEYS)[:, None]
    keys = torch.arange(NUM_KEYS)
    seen = keys <= last if num_seen_before is None else (keys <= last) & (keys > last - num_seen_before)
    return torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf).bfloat16()


def exact(query: torch.Tensor, kv: torch.Tensor, added: torch.Tensor, scaling: float | None) -> torch.Tensor:
    kv_heads, per_head = query.shape[:2]
    keys, values = kv.double().repeat_interleave(per_head, dim=1)
    heads = query.double().view(kv_heads * per_head, NUM_TOKENS, HEAD_DIM)
    found = functional.scaled_dot_product_attention(heads, keys, values, attn_mask=added.double(), scale=scaling)
    return found.transpose(0, 1)


def lost(found: torch.Tensor, exact: torch.Tensor) -> float:
    """The error's share of the whole; rounding scores as they are would lose 0.02 of these where they are large."""
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("size", [0.5, 1.0, 4.0])  # scores up to 4.0 * 4.0 * 64 ** 0.5 and more
@pytest.mark.parametrize(("kv_heads", "heads"), [(2, 14), (4, 4)])
@pytest.mark.parametrize("window", [None, 90])
@pytest.mark.parametrize("scaling", [None, 0.11])
def test_it_is_scaled_dot_product_attention(
    size: float, kv_heads: int, heads: int, window: int | None, scaling: float | None
) -> None:
    query, kv = tensors(kv_heads, heads, size)
    added = mask(window)
    found = attend_by_products(query, kv, added if window else added[:, -NUM_TOKENS:], scaling)
    assert found.shape == (NUM_TOKENS, heads, HEAD_DIM)
    assert lost(found, exact(query, kv, added, scaling)) <= 0.006


def test_scores_that_are_all_large_lose_no_more() -> None:
    query, kv = tensors(2, 14, 1.0)
    query[..., 0] = 40
    kv[0, :, :, 0] = 40  # as the bias of a key projection does: 200 more for each score
    added = mask(None)
    found = attend_by_products(query, kv, added)
    assert lost(found, exact(query, kv, added, None)) <= 0.006


@pytest.mark.parametrize("num_known", [0, 90])
@pytest.mark.parametrize("window", [None, 12])
def test_keys_that_are_not_seen_change_nothing(
    num_known: int, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, kv = tensors(2, 14, 1.0)
    kv = kv[:, :, : num_known + NUM_TOKENS]
    added = mask(window)[:, NUM_KEYS - NUM_TOKENS - num_known :]
    query[..., 0] = 40
    kv[0, :, num_known + 14 :, 0] = 20  # later ones score 100 more
    kv[0, :, : num_known and num_known - 12, 0] = 20 if window else 0
    monkeypatch.setattr(product_attention, "_SCORES_AT_ONCE", 7 * 14 * kv.shape[2])
    found = attend_by_products(query, kv, added if window else added[:, num_known:])
    assert lost(found[:14], exact(query, kv, added, None)[:14]) <= 0.006


def test_tokens_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    query, kv = tensors(2, 14, 1.0)
    whole = attend_by_products(query, kv, mask(None))
    monkeypatch.setattr(product_attention, "_SCORES_AT_ONCE", 3 * 14 * NUM_KEYS)
    assert torch.allclose(attend_by_products(query, kv, mask(None)), whole, atol=0.02)


def test_it_is_for_many_scores_in_bfloat16_on_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product_attention, "_multiplies_bfloat16", lambda: True)
    kv = torch.empty(2, 2, 2000, HEAD_DIM, dtype=torch.bfloat16)
    many = torch.empty(2, 7, 50, HEAD_DIM, dtype=torch.bfloat16)
    assert product_is_quicker(many, kv)
    assert not product_is_quicker(many[:, :, :1], kv)
    assert not product_is_quicker(many.float(), kv.float())
    assert not product_is_quicker(many, torch.empty(2, 8, 16_000, 128, dtype=torch.bfloat16))
    assert not product_is_quicker(many.to("meta"), kv.to("meta"))
    monkeypatch.setattr(product_attention, "_multiplies_bfloat16", lambda: False)
    assert not product_is_quicker(many, kv)
