"""Rounds a checkpoint's weights to 4 or 8 bits while transformers loads them, one matrix at a time.

transformers calls a quantizer for each weight it has read; ours puts a low-bit layer in the place of the linear one
and lets go of the full weight. The last layer (`lm_head`) gets 8 bits also when the others get 4, and also when it
shares its weight with the embedding, which stays as it is. Weights that are no linear layer's, such as the stacked
experts of a mixture, stay as they are.
"""

from typing import Any, cast

import torch
import transformers
from torch import nn
from transformers.core_model_loading import ConversionOps
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from model_loader.loading.low_bit import Int4Linear, Int8Linear, round_to_int4

_METHOD = "round_to_nearest"


@register_quantization_config(_METHOD)
class RoundingConfig(QuantizationConfigMixin):
    """Asks `from_pretrained` for this module: 4 or 8 bits."""

    def __init__(self, bits: int) -> None:
        self.quant_method = _METHOD  # type: ignore[assignment]
        self.bits = bits


@register_quantizer(_METHOD)
class RoundingQuantizer(HfQuantizer):
    """What `from_pretrained` calls: which weights are rounded, and by what."""

    quantization_config: RoundingConfig

    @property
    def quantized_element_size(self) -> float:
        """Bytes of a rounded weight, without its scales."""
        return self.quantization_config.bits / 8

    def param_needs_quantization(self, model: transformers.PreTrainedModel, param_name: str, **kwargs: Any) -> bool:
        """Whether it is the weight of a linear layer."""
        module_name, _, tensor_name = param_name.rpartition(".")
        return tensor_name == "weight" and isinstance(model.get_submodule(module_name), nn.Linear)

    def get_quantize_ops(self) -> ConversionOps:
        """What transformers runs on each such weight."""
        return _Round(self.quantization_config.bits)

    def _process_model_after_weight_loading(self, model: transformers.PreTrainedModel, **kwargs: Any) -> Any:
        """A last layer that shares the embedding's weight is not read on its own: it is rounded here."""
        head = model.get_output_embeddings()
        if isinstance(head, nn.Linear):
            _replace(model, _name_of(model, head), head.weight, 8)
        return model

    def is_serializable(self) -> bool:
        """A rounded model is made anew at each start, not saved."""
        return False

    @property
    def is_trainable(self) -> bool:
        """Rounded weights have no gradients."""
        return False


class _Round(ConversionOps):
    """Replaces the layers of the weights it is given, and gives nothing back to be stored."""

    def __init__(self, bits: int) -> None:
        self.bits = bits

    @torch.no_grad()
    def convert(  # type: ignore[override]
        self,
        input_dict: dict[str, Any],
        *,
        model: transformers.PreTrainedModel,
        missing_keys: set[str],
        **kwargs: Any,
    ) -> dict[str, torch.Tensor]:
        head = model.get_output_embeddings()
        for name, value in input_dict.items():
            weight = value[0] if isinstance(value, list) else value
            module_name = name.removesuffix(".weight")
            is_head = model.get_submodule(module_name) is head
            _replace(model, module_name, weight, 8 if is_head else self.bits)
            missing_keys.discard(name)
        return {}


def _replace(model: nn.Module, name: str, weight: torch.Tensor, bits: int) -> None:
    linear = cast(nn.Linear, model.get_submodule(name))
    if tuple(weight.shape) != (linear.out_features, linear.in_features):
        raise ValueError(f"{name}.weight has the shape {tuple(weight.shape)}")
    bias = linear.bias.detach() if linear.bias is not None else None
    layer = Int8Linear(weight, bias) if bits == 8 or weight.shape[1] % 32 else Int4Linear(*round_to_int4(weight), bias)
    model.set_submodule(name, layer)


def _name_of(model: nn.Module, wanted: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if module is wanted)
