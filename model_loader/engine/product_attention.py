"""Attention as two matrix products with a softmax between them, for pieces of a prompt on a processor.

torch's own kernel never holds all scores at once, but multiplies small tiles by MKL, which many processors have no
quick instructions for; whole products go through oneDNN.
"""

import functools

import torch
from torch.nn import functional

from model_loader.loading.fuse import packs_weights
from model_loader.loading.hardware import probe_hardware

_SCORES_AT_ONCE = 2**21
"""4 MB of them; more would leave the processor's cache between the steps."""
_MOST_KEYS = 2**22
"""Numbers in all keys: more of them are read from memory too often."""
_FEWEST_SCORES = 2**17
"""Of fewer torch's own kernel is as quick."""
_NUM_SAMPLED = 64


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
    """Scaled dot-product attention, computed in the dtype of its arguments.

    A softmax is the same whatever is taken from all scores of a token, and numbers near zero lose least where they are
    rounded. So each token's highest score, of its own key and some others that it sees, is taken from its scores inside
    the product, where nothing is rounded yet: the queries carry it in one channel more, for which every key has a one.

    Args:
        query: `(kv_heads, heads per kv_head, tokens, head_dim)`.
        kv: keys and values, `(2, kv_heads, keys, head_dim)`.
        mask: what is added to the scores of the last keys, `(tokens, as many of them)`.
        scaling: of the scores; None for `head_dim ** -0.5`.

    Returns:
        `(tokens, heads, head_dim)`.
    """
    kv_heads, heads_per_key, num_tokens, head_dim = query.shape
    keys, values = kv.unbind()
    num_keys, num_masked = keys.shape[1], mask.shape[1]
    scale = head_dim**-0.5 if scaling is None else scaling
    every = max(1, num_keys // _NUM_SAMPLED)
    num_sampled_of_all = -(-(num_keys - num_masked) // every)
    mask_of_sampled = mask[:, num_sampled_of_all * every - (num_keys - num_masked) :: every].contiguous()
    sampled = keys[:, ::every].transpose(1, 2)
    own = torch.linalg.vecdot(query, keys[:, None, -num_tokens:]).unsqueeze(3)
    keys = functional.pad(keys, (0, 1), value=1.0).transpose(1, 2)
    mixed = query.new_empty(num_tokens, kv_heads, heads_per_key, head_dim)
    at_once = max(1, _SCORES_AT_ONCE // (kv_heads * heads_per_key * num_keys))
    for start in range(0, num_tokens, at_once):
        part = slice(start, min(start + at_once, num_tokens))
        # Where no key is seen by all, much of the last ones is seen by none of these tokens.
        num_unseen = num_tokens - part.stop if num_masked == num_keys else 0
        num_seen = num_keys - num_unseen
        queries = query[:, :, part].reshape(kv_heads, -1, head_dim)
        others = torch.bmm(queries, sampled).view(kv_heads, heads_per_key, -1, sampled.shape[2])
        others[..., num_sampled_of_all:].add_(mask_of_sampled[part])
        highest = torch.maximum(others.amax(dim=3, keepdim=True), own[:, :, part])
        queries = torch.cat([queries, -highest.view(kv_heads, -1, 1)], dim=2)
        scores = queries.new_empty(kv_heads, queries.shape[1], num_seen)
        scores.baddbmm_(queries, keys[..., :num_seen], beta=0, alpha=scale)
        by_token = scores.view(kv_heads, heads_per_key, -1, num_seen)
        by_token[..., num_keys - num_masked :].add_(mask[part, : num_masked - num_unseen])
        weights = torch.softmax(scores, dim=-1, out=scores)
        mixed[part] = torch.bmm(weights, values[:, :num_seen]).view(kv_heads, heads_per_key, -1, head_dim).movedim(2, 0)
    return mixed.view(num_tokens, -1, head_dim)


@functools.cache
def _multiplies_bfloat16() -> bool:
    return packs_weights("cpu") and probe_hardware().cpu_computes_bfloat16
