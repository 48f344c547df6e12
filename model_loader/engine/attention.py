"""Attention for sequences of unequal length in one forward pass, under transformers' own model classes.

All new tokens of a step lie behind one another in one row, so every layer that looks at one token at a time computes
them together and needs no padding. Attention alone looks across tokens: here it goes through the step's segments, puts
each one's keys and values into its slot and reads exactly that slot. transformers hands `step` through to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from model_loader.engine.product_attention import attend_by_products, product_is_quicker
from model_loader.engine.slots import Slot

SLOTS_ATTENTION = "slots"


@dataclass(frozen=True, slots=True)
class Segment:
    """The new tokens of one slot: `[start, start + length)` of its sequence."""

    slot: Slot
    start: int
    length: int


@dataclass(slots=True)
class Step:
    """What one forward pass computes.

    Attributes:
        segments: the sequences, in the order of their tokens.
        query_scale: by how much each token's queries are multiplied, `(1, tokens)`; None for not at all.
    """

    segments: Sequence[Segment]
    query_scale: torch.Tensor | None = None
    _masks: dict[tuple[int, int | None, torch.device], torch.Tensor] = field(default_factory=dict)

    def mask(self, segment: Segment, window: int | None, like: torch.Tensor) -> torch.Tensor:
        """What is added to the scores of a segment's tokens, 0 or -inf; computed once for all layers.

        Returns:
            `(length, keys)` over the keys from `first_key` on.
        """
        key = (id(segment), window, like.device)
        if key not in self._masks:
            last = torch.arange(segment.start, segment.start + segment.length, device=like.device)[:, None]
            keys = torch.arange(first_key(segment, window), int(last[-1]) + 1, device=like.device)
            is_seen = keys <= last if window is None else (keys <= last) & (keys > last - window)
            self._masks[key] = like.new_zeros(is_seen.shape).masked_fill_(~is_seen, -torch.inf)
        return self._masks[key]


def first_key(segment: Segment, window: int | None) -> int:
    """The earliest position that the segment's first token sees."""
    return max(0, segment.start + 1 - window) if window else 0


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    step: Step,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **unused: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention of a step's tokens over their own slots.

    Args:
        module: the attention layer; `layer_idx` is its number.
        query: `(1, heads, tokens, head_dim)`; key and value likewise with the layer's own number of heads.
        attention_mask: None; what may be seen follows from the segments.
        step: the segments.
        scaling: of the scores; None for `head_dim ** -0.5`.
        sliding_window: how many tokens back a token sees, itself included; None for all.

    Returns:
        `(1, tokens, heads, head_dim)`, and None in the place of the weights.
    """
    _, num_heads, num_tokens, head_dim = query.shape
    kv_heads = key.shape[1]
    if step.query_scale is not None:
        query = query * step.query_scale[..., None].to(query.device, query.dtype)
    added = torch.stack((key[0], value[0]))
    grouped = query[0].view(kv_heads, num_heads // kv_heads, num_tokens, head_dim)
    parts = []
    at = 0
    for segment in step.segments:
        new = (at, segment.length)
        kv = segment.slot.write(module.layer_idx, added.narrow(2, *new), segment.start)  # type: ignore[arg-type]
        if sliding_window:
            kv = kv[:, :, first_key(segment, sliding_window) :]
        keys, values = kv.chunk(2)
        if segment.length == 1:
            # Query heads that share a key head stand where tokens would: the keys need not be repeated.
            part = functional.scaled_dot_product_attention(grouped[None, :, :, at], keys, values, scale=scaling)
            parts.append(part.reshape(1, num_heads, head_dim))
        else:
            mask = step.mask(segment, sliding_window, query)
            if product_is_quicker(grouped.narrow(2, *new), kv):
                num_seen_by_all = 0 if sliding_window else segment.start
                parts.append(attend_by_products(grouped.narrow(2, *new), kv, mask[:, num_seen_by_all:], scaling))
            else:
                part = functional.scaled_dot_product_attention(
                    query.narrow(2, *new), keys, values, attn_mask=mask, scale=scaling, enable_gqa=num_heads != kv_heads
                )
                parts.append(part[0].transpose(0, 1))
        at += segment.length
    return torch.cat(parts)[None], None


ALL_ATTENTION_FUNCTIONS.register(SLOTS_ATTENTION, attend)
