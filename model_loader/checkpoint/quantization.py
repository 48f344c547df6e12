"""How a checkpoint says that its weights are quantized; reads and checks, unpacks nothing.

The description is `quantize_config.json` in 2023 and the `quantization_config` of `config.json` today.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model_loader.errors import CheckpointUnsupported

_GROUP_SIZES = (-1, 32, 64, 128, 256)
_FOREIGN_PACKAGES = {
    "awq": "gptqmodel",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed_tensors",
    "torchao": "torchao",
}
"""Methods that transformers computes with a library of their own: its import name, which pip takes as well."""
_FETCH_KERNELS = frozenset({"fp8", "fbgemm_fp8", "mxfp4", "metal"})
"""Methods for which transformers fetches compiled code from a hub at run time."""


@dataclass(frozen=True, slots=True)
class Gptq:
    """GPTQ as AutoGPTQ and its successors store it.

    Attributes:
        bits: 4 or 8.
        group_size: input channels that share a scale; -1 for all of them.
        zeros_are_less_one: whether stored zeros must be raised by one (AutoGPTQ's first format).
        stores_biases: whether every layer has a bias in the file, zeros where the model has none.
    """

    bits: int
    group_size: int
    zeros_are_less_one: bool
    stores_biases: bool

    def num_groups(self, in_features: int) -> int:
        """Groups along an input of this size."""
        return 1 if self.group_size == -1 else in_features // self.group_size


def read_method(name: str, config: Mapping[str, Any]) -> str:
    """The method that a description names: "gptq", or one whose library is installed.

    Raises:
        CheckpointUnsupported: an unknown method, one that would fetch compiled code, or a library that is missing.
    """
    method = config.get("quant_method", "gptq")
    if method == "gptq":
        return "gptq"
    if method in _FETCH_KERNELS:
        raise CheckpointUnsupported(
            f"{name} is quantized with {method!r}, for which compiled code would be fetched from a hub at run time; "
            "that is refused. Use its -GPTQ-Int4 or unquantized sibling."
        )
    if method not in _FOREIGN_PACKAGES:
        raise CheckpointUnsupported(
            f"{name} is quantized with {method!r}, which is not supported. Use its -GPTQ-Int4 or unquantized sibling."
        )
    package = _FOREIGN_PACKAGES[method]
    if importlib.util.find_spec(package) is None:
        raise CheckpointUnsupported(
            f"{name} is quantized with {method!r}, which needs a library that is not installed. Run: pip install "
            f"{package.replace('_', '-')}, or use its -GPTQ-Int4 or unquantized sibling."
        )
    return str(method)


def read_gptq(name: str, config: Mapping[str, Any], *, stores_biases: bool) -> Gptq:
    """Checks what a GPTQ checkpoint says of itself.

    Args:
        name: what the user asked for, for the messages.
        config: the file or section that describes the quantization.
        stores_biases: whether the weight files hold a bias for each layer.

    Raises:
        CheckpointUnsupported: a variety of GPTQ that the kernels cannot compute.
    """
    bits, group_size = config.get("bits"), config.get("group_size", -1)
    for what, value, allowed in (("bits", bits, (4, 8)), ("group_size", group_size, _GROUP_SIZES)):
        if value not in allowed or isinstance(value, bool):
            raise CheckpointUnsupported(
                f"{name} is quantized with {what} {value!r}; {', '.join(map(str, allowed))} are supported. Use its "
                "unquantized sibling."
            )
    if config.get("desc_act", False):
        raise CheckpointUnsupported(
            f"{name} is quantized with desc_act true: its groups are scattered over the input, which PyTorch's "
            "kernels cannot follow. Use a checkpoint with desc_act false, as the Qwen team publishes."
        )
    checkpoint_format = config.get("checkpoint_format", "gptq")
    if checkpoint_format not in ("gptq", "gptq_v2"):
        raise CheckpointUnsupported(
            f"{name} has the checkpoint_format {checkpoint_format!r}; gptq and gptq_v2 are supported. Use its "
            "unquantized sibling."
        )
    return Gptq(int(bits or 0), group_size, checkpoint_format == "gptq", stores_biases)
