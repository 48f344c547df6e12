"""Attention as two matrix products with a softmax between them, for pieces of a prompt on a processor.

torch's own kernel never holds all scores at once, but multiplies small tiles by MKL, which many processors have no
quick instructions for; whole products go through oneDNN.
"""

import functools
from typing import Any, cast

import torch

from model_loader.loading.fuse import packs_weights
from model_loader.loading.hardware import probe_hardware

_SCORES_AT_ONCE = 2**22
"""16 MB of them in float32; more would leave the processor's cache between the steps."""
_MOST_KEYS = 2**22
"""Numbers in all keys: more of them are read from memory too often."""
_FEWEST_SCORES = 2**19
"""Of fewer torch's own kernel is as quick."""


def product_is_quicker(query: torch.Tensor, kv: torch.Tensor) -> bool:
    """Whether `attend_by_products` is quicker for its arguments than torch's own kernel.

    That was measured on a processor with AVX512-BF16; those without instructions for bfloat16 keep to torch's.
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or not _multiplies_bfloat16():
        return False
    num_scores = query[..., 0].numel() * kv.shape[2]
    return kv[0].numel() <= _MOST_KEYS and num_scores >= _FEWEST_SCORES


def attend_by_products(
    query: torch.Tensor, kv: torch.Tensor, mask: torch.Tensor, scaling: float | None = None
) -> torch.Tensor:
    """Scaled dot-product attention; scores and softmax are in float32, the weights in the dtype of the values.

    Args:
        query: `(kv_heads, heads per kv_head, tokens, head_dim)`.
        kv: keys and values, `(2, kv_heads, keys, head_dim)`.
        mask: what is added to the scores of the last keys, `(tokens, as many of them)`.
        scaling: of the scores; None for `head_dim ** -0.5`.

    Returns:
        `(tokens, heads, head_dim)`.
    """
    kv_heads, heads_per_key, _, head_dim = query.shape
    keys, values = kv.unbind()
    keys = keys.float().transpose(1, 2)
    num_keys = keys.shape[2]
    scale = head_dim**-0.5 if scaling is None else scaling
    at_once = max(1, _SCORES_AT_ONCE // (kv_heads * heads_per_key * num_keys))
    parts = []
    for tokens, added in zip(query.split(at_once, dim=2), mask.split(at_once), strict=True):
        scores = _product_by_onednn(tokens.reshape(kv_heads, -1, head_dim).float(), keys, scale)
        scores.view(kv_heads, heads_per_key, -1, num_keys)[..., -mask.shape[1] :].add_(added)
        weights = torch.softmax(scores, dim=-1, out=scores).to(values.dtype)
        parts.append(torch.bmm(weights, values).view(kv_heads * heads_per_key, -1, head_dim).transpose(0, 1))
    return torch.cat(parts)


@functools.cache
def _multiplies_bfloat16() -> bool:
    return packs_weights("cpu") and probe_hardware().cpu_computes_bfloat16


def _product_by_onednn(queries: torch.Tensor, keys: torch.Tensor, scale: float) -> torch.Tensor:
    """The scaled product in float32 of numbers that are all bfloat16: what this setting may round is exact already."""
    products: Any = cast(Any, torch.backends.mkldnn).matmul
    precision = products.fp32_precision
    products.fp32_precision = "bf16"
    try:
        scores = torch.empty(*queries.shape[:2], keys.shape[2])
        return scores.baddbmm_(queries, keys, beta=0, alpha=scale)
    finally:
        products.fp32_precision = precision
