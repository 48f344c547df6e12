"""Qwen-1 in float64, as its formulas are written: one text at a time, no cache, no library but tensors."""

import math
from collections.abc import Mapping

import torch
from torch.nn import functional

from model_loader.loading.qwen1 import layer_windows, ntk_alpha

HEADS = 4
ALL = frozenset({"ntk", "logn", "window"})


def reference_logprobs(
    weights: Mapping[str, torch.Tensor], ids: tuple[int, ...], trained: int, methods: frozenset[str] = ALL
) -> torch.Tensor:
    """How likely each id of a text but the first is after those before it, `(length - 1,)`."""
    scores = reference_logits(weights, ids, trained, methods)[:-1].log_softmax(-1)
    return scores.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def reference_logits(
    weights: Mapping[str, torch.Tensor], ids: tuple[int, ...], trained: int, methods: frozenset[str] = ALL
) -> torch.Tensor:
    """Logits `(length, vocab)`.

    Args:
        weights: under Qwen2's names, with four heads.
        ids: the text.
        trained: the training length, in tokens.
        methods: which of "ntk", "logn" and "window" are on.
    """
    weights = {name: tensor.double() for name, tensor in weights.items()}
    num_layers = sum("input_layernorm" in name for name in weights)
    length = len(ids)
    dim = weights["model.norm.weight"].shape[0] // HEADS
    positions = torch.arange(length, dtype=torch.float64)
    hidden = weights["model.embed_tokens.weight"][list(ids)]
    logn = (torch.log(positions + 1) / math.log(trained)).clamp(min=1) if "logn" in methods else torch.ones(length)
    windows = layer_windows(num_layers, trained) if "window" in methods else [length] * num_layers
    for layer, window in enumerate(windows):
        alpha = ntk_alpha(min(length, window), trained) if "ntk" in methods else 1.0
        base = 10_000.0 * alpha ** (dim / (dim - 2))
        angles = positions[:, None] / base ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)
        w = {k.removeprefix(f"model.layers.{layer}."): v for k, v in weights.items() if f"layers.{layer}." in k}
        x = _normed(hidden, w["input_layernorm.weight"])
        q, k, v = (
            functional.linear(x, w[f"self_attn.{n}_proj.weight"], w[f"self_attn.{n}_proj.bias"])
            .view(length, HEADS, dim)
            .transpose(0, 1)
            for n in "qkv"
        )
        q, k = (each * cos + torch.cat([-each[..., dim // 2 :], each[..., : dim // 2]], -1) * sin for each in (q, k))
        scores = (q * logn[:, None]) @ k.transpose(1, 2) / math.sqrt(dim)
        distance = positions[:, None] - positions[None, :]
        scores = scores.masked_fill((distance < 0) | (distance >= window), -torch.inf)
        mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(length, -1)
        hidden = hidden + mixed @ w["self_attn.o_proj.weight"].T
        x = _normed(hidden, w["post_attention_layernorm.weight"])
        gate = functional.silu(x @ w["mlp.gate_proj.weight"].T) * (x @ w["mlp.up_proj.weight"].T)
        hidden = hidden + gate @ w["mlp.down_proj.weight"].T
    return _normed(hidden, weights["model.norm.weight"]) @ weights["lm_head.weight"].T


def _normed(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * weight
