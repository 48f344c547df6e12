"""Attention over pages: torch's flash attention, and a kernel of our own where everybody has one new token.

torch 2.13's computes nonsense for several sequences when it splits them up, and unsplit it keeps a large GPU busy with
many sequences only. transformers hands a step's layout through to here.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.nn.attention.varlen import varlen_attn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from model_loader.engine.gpu.pages import Pages
from model_loader.loading import gpu_kernels

PAGED_ATTENTION = "paged"


@dataclass(slots=True)
class PagedStep:
    """What one forward pass computes; tensors are on the model's device, counts in int32.

    Attributes:
        pages: where keys and values live.
        places: where each new token's go, `(tokens,)` in int64.
        first_queries: where each sequence's new tokens begin, and their number at the end, `(sequences + 1,)`.
        lengths: tokens of each sequence, the new ones included, `(sequences,)`.
        page_table: each sequence's pages, `(sequences, most pages)`.
        max_new, max_length: at least the most new tokens and the most tokens that any of them has.
        query_scale: by how much each token's queries are multiplied, `(1, tokens)`; None for not at all.
    """

    pages: Pages
    places: torch.Tensor
    first_queries: torch.Tensor
    lengths: torch.Tensor
    page_table: torch.Tensor
    max_new: int
    max_length: int
    query_scale: torch.Tensor | None = None


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    step: PagedStep,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **unused: Any,
) -> tuple[torch.Tensor, None]:
    """As `model_loader.engine.attention.attend`, over pages."""
    if step.query_scale is not None:
        query = query * step.query_scale[..., None].to(query.dtype)
    queries, keys, values = (each[0].transpose(0, 1) for each in (query, key, value))
    layer = step.pages.layer(cast(int, module.layer_idx), keys)
    if gpu_kernels.are_available(keys.device):
        gpu_kernels.store(keys, values, step.places, layer)
        if step.max_new == 1:
            output = gpu_kernels.attend_to_pages(queries, layer, step.lengths, step.page_table, scaling, sliding_window)
            return output.unsqueeze(0), None
    else:
        flat = layer.view(2, -1, *keys.shape[1:])
        flat[0].index_copy_(0, step.places, keys)
        flat[1].index_copy_(0, step.places, values)
    # Where keys begin is read off the pages, but torch 2.13 wants to be told all the same.
    output = varlen_attn(  # type: ignore[assignment]
        queries, layer[0], layer[1], step.first_queries, step.first_queries, step.max_new, step.max_length,
        scale=scaling,
        window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
        enable_gqa=queries.shape[1] != keys.shape[1],
        seqused_k=step.lengths,
        block_table=step.page_table,
        num_splits=1,
    )  # fmt: skip
    return output.unsqueeze(0), None


ALL_ATTENTION_FUNCTIONS.register(PAGED_ATTENTION, attend)
