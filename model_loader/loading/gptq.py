"""Reads GPTQ checkpoints, 4 and 8 bits, and repacks them for PyTorch's own kernels.

The layers' tensors are read as they lie in the files; when all are there, each layer is repacked and its originals are
let go, so the peak is the checkpoint and one layer. Layout: AutoGPTQ's, in which eight 4-bit (or four 8-bit) numbers
share an int32, weights along the input, zeros along the output; its first version stores every zero less one.
"""

from typing import Any, cast

import torch
import transformers
from torch import nn
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from model_loader.checkpoint.quantization import Gptq
from model_loader.errors import CheckpointDamaged, CheckpointUnsupported
from model_loader.loading.low_bit import GROUP_SIZE, KERNEL_GROUP_SIZES, Int4Linear, Int8Linear

_METHOD = "gptq_repacked"


@register_quantization_config(_METHOD)
class GptqConfig(QuantizationConfigMixin):
    """Tells `from_pretrained` how the layers are quantized."""

    def __init__(self, layout: Gptq) -> None:
        self.quant_method = _METHOD  # type: ignore[assignment]
        self.layout = layout

    def get(self, name: str, default: Any = None) -> Any:
        """transformers asks a model's configuration for it as if it were a dictionary."""
        return getattr(self, name, default)


@register_quantizer(_METHOD)
class GptqQuantizer(HfQuantizer):
    """What `from_pretrained` calls before and after it has read the tensors."""

    quantization_config: GptqConfig

    def _process_model_before_weight_loading(self, model: transformers.PreTrainedModel, **kwargs: Any) -> None:
        head = model.get_output_embeddings()
        for name, module in list(model.named_modules()):
            if isinstance(module, nn.Linear) and module is not head:
                model.set_submodule(name, GptqTensors(module, self.quantization_config.layout))

    def _process_model_after_weight_loading(self, model: transformers.PreTrainedModel, **kwargs: Any) -> None:
        # By names: a list of the modules would keep every layer's originals until the last is repacked.
        for name in [name for name, module in model.named_modules() if isinstance(module, GptqTensors)]:
            model.set_submodule(name, repack(name, cast(GptqTensors, model.get_submodule(name))))

    def is_serializable(self) -> bool:
        """A repacked model is not saved."""
        return False

    @property
    def is_trainable(self) -> bool:
        """Packed weights have no gradients."""
        return False


class GptqTensors(nn.Module):
    """The tensors of one layer as AutoGPTQ stores them; it computes nothing.

    Attributes:
        qweight: `(in / n, out)` in int32, n numbers to an int32.
        qzeros: `(groups, out / n)` in int32.
        scales: `(groups, out)` in float16.
        g_idx: `(in,)`, each input's group.
        bias: `(out,)`; AutoGPTQ writes one for every layer, zeros where the model has none.
    """

    def __init__(self, linear: nn.Module, layout: Gptq) -> None:
        super().__init__()
        in_features, out_features = int(linear.in_features), int(linear.out_features)  # type: ignore[arg-type]
        per_int = 32 // layout.bits
        groups = layout.num_groups(in_features)
        self.layout = layout
        self.has_bias = linear.bias is not None

        def empty(*shape: int, dtype: torch.dtype) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape, dtype=dtype, device="meta"), requires_grad=False)

        self.qweight = empty(in_features // per_int, out_features, dtype=torch.int32)
        self.qzeros = empty(groups, out_features // per_int, dtype=torch.int32)
        self.scales = empty(groups, out_features, dtype=torch.float16)
        self.g_idx = empty(in_features, dtype=torch.int32)
        if layout.stores_biases or self.has_bias:
            self.bias = empty(out_features, dtype=torch.float16)


def unpack(tensors: GptqTensors) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The numbers of a layer: q `(out, in)`, scales and zeros `(out, groups)`; `weight = (q - zero) * scale`."""
    bits = tensors.layout.bits
    mask = 2**bits - 1
    # A byte to a number, one shift at a time: as int32 a layer would take eight times its packed size, several times.
    q = torch.stack([((tensors.qweight >> shift) & mask).to(torch.uint8) for shift in range(0, 32, bits)], dim=1)
    zeros = torch.stack([(tensors.qzeros >> shift) & mask for shift in range(0, 32, bits)], dim=2)
    zeros = zeros.reshape(tensors.qzeros.shape[0], -1) + (1 if tensors.layout.zeros_are_less_one else 0)
    return q.reshape(-1, q.shape[-1]).T, tensors.scales.float().T, zeros.float().T


def repack(name: str, tensors: GptqTensors) -> nn.Module:
    """The layer that computes: 4 bits keep their numbers, 8 bits are rounded again, one scale to a channel.

    The second rounding moves a weight by at most half a step of its channel, absmax / 254.

    Raises:
        CheckpointDamaged: the groups are not in order, or a layer without a bias has one that is not zero.
    """
    layout = tensors.layout
    q, scales, zeros = unpack(tensors)
    in_features = q.shape[1]
    group_size = in_features // scales.shape[1]
    if not torch.equal(tensors.g_idx.cpu(), torch.arange(in_features, dtype=torch.int32) // group_size):
        raise CheckpointDamaged(f"{name}.g_idx is not in order although desc_act is false. Fetch the checkpoint again.")
    bias = getattr(tensors, "bias", None)
    if bias is not None and not tensors.has_bias:
        if bool(bias.any()):
            raise CheckpointDamaged(f"{name}.bias is not zero, but the model has none. Fetch the checkpoint again.")
        bias = None
    bias = None if bias is None else bias.detach().to(torch.bfloat16)
    if layout.bits == 8:
        groups = q.reshape(q.shape[0], -1, group_size).float()
        weight = (groups - zeros[..., None]) * scales[..., None]
        return Int8Linear(weight.reshape(q.shape), bias)
    if group_size not in KERNEL_GROUP_SIZES:
        kernel_size = next((size for size in (GROUP_SIZE, 64, 32) if group_size % size == 0), None)
        if kernel_size is None:
            raise CheckpointUnsupported(
                f"{name} has {in_features} inputs, which make no whole groups of 32. Use an unquantized checkpoint."
            )
        repeats = group_size // kernel_size
        scales, zeros = scales.repeat_interleave(repeats, dim=1), zeros.repeat_interleave(repeats, dim=1)
    return Int4Linear(q, scales, (8 - zeros) * scales, bias)
