"""Makes a loaded model quick to decode with: fewer, larger products, and weights in the order of the CPU's kernels.

At one token a step a model does little else than read its weights. So projections that read the same input become one
layer, and on x86 processors every linear layer is kept as oneDNN wants it (for one row, torch 2.13's plain product
reads 9-20 GB/s where this reads 25-40). The models stay transformers' own classes; of a dense Qwen the decoder layers
are replaced, which compute the same in fewer steps and go through transformers' attention interface as before.
"""

import platform
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import transformers
from torch import nn
from torch.nn import functional
from transformers.activations import SiLUActivation
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

from model_loader.loading import gpu_int4, gpu_kernels, gpu_products
from model_loader.loading.low_bit import Int4Linear, Int8Linear, has_int8_kernel

_FEWEST_ROWS = 4
"""oneDNN is quicker with four rows than with one, where the layer is large."""
_LARGE_FEATURES = 4096


def fuse(model: transformers.PreTrainedModel) -> None:
    """Replaces layers in place; each one's old weights go before the next one's new ones come."""
    base: Any = model.base_model
    layers: Any = getattr(base, "layers", ())
    if len(layers) and all(type(layer) in (Qwen2DecoderLayer, Qwen3DecoderLayer) for layer in layers):
        for index in range(len(layers)):
            layers[index] = FusedDecoderLayer(layers[index])
            _pack(layers[index])
        base.norm = RmsNorm(base.norm)
        base.rotary_emb.register_forward_hook(_sign_sines)
        layers[-1].is_last = True
        model.register_forward_pre_hook(_tell_layers, with_kwargs=True)
    _pack(model)


class FusedDecoderLayer(nn.Module):
    """A decoder layer of Qwen-1, Qwen2 or Qwen3 with one product for queries, keys and values and one for the MLP's
    first half. It takes the sines with their first half negated, see `_sign_sines`.
    """

    def __init__(self, layer: Qwen2DecoderLayer | Qwen3DecoderLayer) -> None:
        super().__init__()
        attention: Any = layer.self_attn
        self.config = attention.config
        self.layer_idx = attention.layer_idx
        self.head_dim = attention.head_dim
        self.num_key_value_groups = attention.num_key_value_groups
        self.scaling = attention.scaling
        self.sliding_window = attention.sliding_window
        self.is_causal = True
        self.is_last = False
        self._num_heads = self.config.num_attention_heads
        self._num_kv_heads = self.config.num_key_value_heads
        self.qkv_proj = _joined(attention.q_proj, attention.k_proj, attention.v_proj)
        self.gate_up_proj = _joined(layer.mlp.gate_proj, layer.mlp.up_proj)
        self.o_proj, self.down_proj = attention.o_proj, layer.mlp.down_proj
        self.act_fn = layer.mlp.act_fn
        self.input_layernorm = RmsNorm(layer.input_layernorm)
        self.post_attention_layernorm = RmsNorm(layer.post_attention_layernorm)
        self.q_norm: Any = RmsNorm(attention.q_norm) if hasattr(attention, "q_norm") else None
        self.k_norm: Any = RmsNorm(attention.k_norm) if hasattr(attention, "k_norm") else None

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: transformers.Cache | None = None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        tokens_to_keep: torch.Tensor | None = None,
        attend: Callable[..., Any] | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """`(batch, length, hidden)` to the same shape; from the last layer only the tokens to keep come."""
        assert position_embeddings is not None
        batch, length, _ = hidden_states.shape
        heads = _product(self.qkv_proj, hidden_states, norm=self.input_layernorm)
        heads = heads.view(batch, length, -1, self.head_dim)
        num_heads, num_kv_heads = self._num_heads, self._num_kv_heads
        rotated = heads.narrow(2, 0, num_heads + num_kv_heads)
        if self.q_norm is not None:
            query, key = rotated.narrow(2, 0, num_heads), rotated.narrow(2, num_heads, num_kv_heads)
            rotated = torch.cat([self.q_norm(query), self.k_norm(key)], dim=2)
        rotated = _turned(rotated, *position_embeddings).transpose(1, 2)
        query, key = rotated.narrow(1, 0, num_heads), rotated.narrow(1, num_heads, num_kv_heads)
        value = heads.narrow(2, num_heads + num_kv_heads, num_kv_heads).transpose(1, 2)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = attend or ALL_ATTENTION_FUNCTIONS[self.config._attn_implementation]
        mixed, _ = attend(
            self, query, key, value, attention_mask,
            dropout=0.0, scaling=self.scaling, sliding_window=self.sliding_window, **kwargs,
        )  # fmt: skip
        mixed = mixed.reshape(batch, length, -1)
        if self.is_last and tokens_to_keep is not None:
            mixed, hidden_states = mixed[:, tokens_to_keep], hidden_states[:, tokens_to_keep]
        hidden_states = _product(self.o_proj, mixed, residual=hidden_states)
        gated = _gated_product(self.gate_up_proj, hidden_states, self.post_attention_layernorm, self.act_fn)
        return _product(self.down_proj, gated, residual=hidden_states)


class RmsNorm(nn.Module):
    """An RMS norm. On processors torch has nine operations for it but one for a layer norm, which is the same where the
    mean is zero, that of the numbers and their negatives, up to float32's rounding.

    Attributes:
        weight: `(width,)`.
        variance_epsilon: what is added to the mean of the squares.
        weight_twice: `(2 * width,)`; None where torch's own is quick.
    """

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight: torch.Tensor = norm.weight
        self.variance_epsilon: float = norm.variance_epsilon
        self.weight_twice = nn.Buffer(self.weight.detach().repeat(2)) if self.weight.is_cpu else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(..., width)` to the same shape; on a processor a view whose rows do not follow one another."""
        twice = self.weight_twice
        if twice is None:
            return functional.rms_norm(x, self.weight.shape, self.weight, self.variance_epsilon)
        both = torch.cat([x, -x], dim=-1)
        return functional.layer_norm(both, twice.shape, twice, None, self.variance_epsilon).narrow(-1, 0, x.shape[-1])


class OneDnnLinear(nn.Module):
    """A linear layer whose weight is kept in the order of oneDNN's kernel.

    Attributes:
        packed: the weight, of torch's mkldnn layout.
        bias: `(out_features,)` or None.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """Takes a weight `(out_features, in_features)` on the CPU, in float32 or bfloat16."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, _FEWEST_ROWS)
        self.bias = None if bias is None else nn.Buffer(bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(..., in_features)` to `(..., out_features)`."""
        num_rows = x.numel() // self.in_features
        if num_rows >= _FEWEST_ROWS or self.out_features < _LARGE_FEATURES:
            return self._multiply(x)
        rows = functional.pad(x.reshape(-1, self.in_features), (0, 0, 0, _FEWEST_ROWS - num_rows))
        return self._multiply(rows)[:num_rows].view(*x.shape[:-1], self.out_features)

    def _multiply(self, rows: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, torch.ops.mkldnn._linear_pointwise(rows, self.packed, self.bias, "none", [], ""))


class SideBySide(nn.Module):
    """Linear layers of one input whose weights cannot be joined."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(..., in_features)` to all their outputs behind one another."""
        return torch.cat([layer(x) for layer in self.layers], dim=-1)


def packs_weights(device_type: str) -> bool:
    """Whether linear layers on a device get an order of their own, the one that shares the embedding's weight too."""
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return device_type == "cpu" and is_x86 and torch.backends.mkldnn.is_available()


def _joined(*layers: nn.Module) -> nn.Module:
    first, *others = layers
    if all(type(layer) is nn.Linear for layer in layers):
        linears = cast(Sequence[nn.Linear], layers)
        weight = torch.cat([layer.weight.detach() for layer in linears])
        joined = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        joined.weight = nn.Parameter(weight, requires_grad=False)
        if linears[0].bias is not None:
            joined.bias = nn.Parameter(torch.cat([layer.bias.detach() for layer in linears]), requires_grad=False)
        return joined
    if isinstance(first, Int8Linear | Int4Linear) and all(type(layer) is type(first) for layer in others):
        separate = [layer for layer in others if not first.extend(cast(Any, layer))]
        return first if not separate else SideBySide([first, *separate])
    return SideBySide(layers)


@torch.no_grad()
def _pack(module: nn.Module) -> None:
    """Brings the weights of all linear layers inside into the order of the processor's kernels."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, Int8Linear):
            if has_int8_kernel(layer.scales.device):
                layer.pack()
        elif type(layer) is nn.Linear and _can_pack(layer.weight):
            bias = None if layer.bias is None else layer.bias.detach()
            module.set_submodule(name, OneDnnLinear(layer.weight.detach(), bias))


def _can_pack(weight: torch.Tensor) -> bool:
    return packs_weights(weight.device.type) and weight.dtype in (torch.float32, torch.bfloat16)


def _product(
    layer: nn.Module, x: torch.Tensor, *, norm: Any = None, residual: torch.Tensor | None = None
) -> torch.Tensor:
    """`layer(norm(x)) + residual`, of which each is left out where it is None."""
    y = _row_product(layer, x, norm, residual, is_gated=False)
    if y is None:
        y = cast(torch.Tensor, layer(x if norm is None else norm(x)))
        y = y if residual is None else residual + y
    return y


def _gated_product(layer: nn.Module, x: torch.Tensor, norm: Any, activation: nn.Module) -> torch.Tensor:
    """The two halves of `layer(norm(x))` multiplied, the first one after its activation."""
    y = _row_product(layer, x, norm, None, is_gated=True) if isinstance(activation, SiLUActivation) else None
    return _gated(activation, layer(norm(x))) if y is None else y


def _row_product(
    layer: nn.Module, x: torch.Tensor, norm: Any, residual: torch.Tensor | None, *, is_gated: bool
) -> torch.Tensor | None:
    """A product of one row or few with what stands around it; None where the layer has no kernel for that."""
    num_rows = x.numel() // x.shape[-1]
    if num_rows > gpu_int4.FEW_ROWS or not gpu_kernels.are_available(x.device):
        return None
    weight, epsilon = (None, 0.0) if norm is None else (norm.weight, norm.variance_epsilon)
    around: dict[str, Any] = {"norm": weight, "epsilon": epsilon, "residual": residual, "is_gated": is_gated}
    if isinstance(layer, Int4Linear) and layer.is_in_words and layer.packed.shape[0] == layer.out_features:
        numbers = (layer.scales_and_zeros, layer.group_size)
        return gpu_int4.rows_product(x, layer.packed, *numbers, layer.bias, **around)
    if num_rows == 1 and type(layer) is nn.Linear:
        return gpu_products.row_product(x, layer.weight, layer.bias, **around)
    if num_rows == 1 and isinstance(layer, Int8Linear) and layer.q.shape == (layer.out_features, layer.in_features):
        return gpu_products.row_product(x, layer.q, layer.bias, scales=layer.scales, **around)
    return None


def _turned(heads: torch.Tensor, cos: torch.Tensor, signed_sin: torch.Tensor) -> torch.Tensor:
    """Rotates `(batch, length, heads, head_dim)` by its positions."""
    if heads.shape[0] == 1 and gpu_kernels.are_available(heads.device):
        return gpu_kernels.rotated(heads, cos, signed_sin)
    turned = heads.roll(heads.shape[-1] // 2, dims=-1).mul_(signed_sin)
    return torch.addcmul(turned, heads, cos)


def _gated(activation: nn.Module, gate_up: torch.Tensor) -> torch.Tensor:
    if isinstance(activation, SiLUActivation) and gpu_kernels.are_available(gate_up.device):
        return gpu_kernels.gated(gate_up)
    width = gate_up.shape[-1] // 2
    return cast(torch.Tensor, activation(gate_up.narrow(-1, 0, width)).mul_(gate_up.narrow(-1, width, width)))


def _tell_layers(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Where places of the wanted logits are given, the other tokens are dropped inside the last layer, once those can
    attend to them. And all layers get the attention function, which takes as long to look up as to turn the heads."""
    name = cast(transformers.PreTrainedModel, model).config._attn_implementation
    kwargs = {**kwargs, "attend": ALL_ATTENTION_FUNCTIONS[name]}
    kept = kwargs.get("logits_to_keep")
    if isinstance(kept, torch.Tensor) and kept.ndim == 1:
        kwargs |= {"logits_to_keep": 0, "tokens_to_keep": kept}
    return args, kwargs


def _sign_sines(
    module: nn.Module, args: Any, embeddings: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Negates the first half of the sines, once for all layers: turning a vector is then a roll and a product.

    Returns:
        Cosines and sines, `(..., length, 1, head_dim)`: the same for all heads.
    """
    cos, sin = embeddings
    half = sin.shape[-1] // 2
    return cos.unsqueeze(-2), torch.cat([-sin[..., :half], sin[..., half:]], dim=-1).unsqueeze(-2)
