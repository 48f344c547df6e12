"""Quantized checkpoints as AutoGPTQ writes them, made of random numbers, and the weights they stand for."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.qwen1_checkpoint import write_qwen1_checkpoint

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def pack(numbers: torch.Tensor, bits: int, dim: int) -> torch.Tensor:
    """Whole numbers `(rows, columns)`, 32 / bits of them to an int32 along a dimension."""
    per_int = 32 // bits
    parts = numbers.long().unflatten(dim, (-1, per_int))
    shifts = (torch.arange(per_int) * bits).reshape([per_int if axis == dim + 1 else 1 for axis in range(3)])
    packed = (parts << shifts).sum(dim=dim + 1)
    return torch.where(packed >= 2**31, packed - 2**32, packed).to(torch.int32)


def quantize_randomly(
    name: str, shape: tuple[int, int], *, bits: int, group_size: int, v2: bool
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The tensors of a random layer `(out, in)` and the float32 weight they stand for."""
    out_features, in_features = shape
    size = in_features if group_size == -1 else group_size
    q = torch.randint(0, 2**bits, (in_features, out_features))
    zeros = torch.randint(1, 2**bits, (in_features // size, out_features))
    scales = (torch.rand(in_features // size, out_features) * 0.3 / 2**bits + 0.01 / 2**bits).half()
    groups = torch.arange(in_features) // size
    weight = ((q - zeros[groups]) * scales.float()[groups]).T
    tensors = {
        "qweight": pack(q, bits, 0),
        "qzeros": pack(zeros - (0 if v2 else 1), bits, 1),
        "scales": scales,
        "g_idx": groups.to(torch.int32),
    }
    return {f"{name}.{key}": tensor for key, tensor in tensors.items()}, weight


def quantize_folder(folder: Path, *, bits: int = 4, group_size: int = 32, v2: bool = False) -> dict[str, torch.Tensor]:
    """Turns a Qwen2 folder into a GPTQ one in place; returns all weights it stands for, in float32."""
    torch.manual_seed(9)
    stored, meant = {}, {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        layer = name.removesuffix(".weight")
        if layer.endswith(PROJECTIONS) and layer != name:
            tensors, meant[name] = quantize_randomly(layer, tensor.shape, bits=bits, group_size=group_size, v2=v2)
            stored |= tensors
        else:
            meant[name] = tensor.half().float()
            stored[name] = tensor.half()
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "gptq", "bits": bits, "group_size": group_size, "sym": False, "desc_act": False,
        "checkpoint_format": "gptq_v2" if v2 else "gptq",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return meant


def write_qwen1_gptq(folder: Path, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A Qwen-1 Int4 folder of 2023: c_attn in one piece, a bias on every layer; returns the weights in Qwen2 names."""
    write_qwen1_checkpoint(folder, weights, num_shards=1)
    torch.manual_seed(9)
    (file,) = folder.glob("*.safetensors")
    stored, meant = {}, dict(weights)
    for name, tensor in load_file(file).items():
        layer = name.removesuffix(".weight")
        if layer.endswith(("c_attn", "c_proj", "w1", "w2")) and layer != name:
            tensors, weight = quantize_randomly(layer, tensor.shape, bits=4, group_size=32, v2=False)
            stored |= {f"{layer}.bias": torch.zeros(tensor.shape[0]).half()} | stored | tensors
            meant |= _qwen2_weights(layer, weight)
        else:
            stored[name] = tensor.half()
    for name in weights:
        if "proj" not in name or name.endswith(".bias"):
            meant[name] = weights[name].half().float()
    save_file(stored, file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").unlink()
    file.rename(folder / "model.safetensors")
    description = {"bits": 4, "group_size": 32, "damp_percent": 0.01, "desc_act": False, "sym": True}
    (folder / "quantize_config.json").write_text(json.dumps(description))
    return meant


def _qwen2_weights(layer: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    prefix = "model.layers." + layer.split(".")[2]
    if layer.endswith("c_attn"):
        return {f"{prefix}.self_attn.{part}_proj.weight": w for part, w in zip("qkv", weight.chunk(3), strict=True)}
    names = {"attn.c_proj": "self_attn.o_proj", "mlp.w1": "mlp.up_proj", "mlp.w2": "mlp.gate_proj",
             "mlp.c_proj": "mlp.down_proj"}  # fmt: skip
    return {f"{prefix}.{new}.weight": weight for old, new in names.items() if layer.endswith(old)}
