"""Peak memory and seconds of loading a made Qwen-1 checkpoint of 2 GB, in each precision, each in a fresh process.

python -m tests.benchmarks.loading

Two peaks are told: what the process allocated (anonymous memory, sampled every 2 ms on Linux), and what was resident,
which counts the pages of the mapped files too; the system drops those when it needs the room.
"""

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from model_loader.checkpoint.resolve import resolve_checkpoint
from model_loader.loading.placement import Hardware, LoadOptions, choose_placement
from tests.gptq_checkpoint import quantize_randomly
from tests.qwen1_checkpoint import to_qwen1_weights, vocabulary_text
from tests.tiny_checkpoint import make_tokenizer

HIDDEN, INTERMEDIATE, LAYERS, HEADS, VOCAB = 2048, 5504, 18, 16, 30_000
PRECISIONS = ("bf16", "fp32", "int8", "int4")


def make_checkpoint(folder: Path) -> int:
    """Writes random bfloat16 weights, one shard for each three layers; returns the largest shard's bytes."""
    torch.manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape) * 0.02).bfloat16()

    ends = {"model.embed_tokens.weight": random(VOCAB, HIDDEN), "lm_head.weight": random(VOCAB, HIDDEN)}
    save_file(to_qwen1_weights({**ends, "model.norm.weight": random(HIDDEN)}), folder / "model-0.safetensors")
    for first in range(0, LAYERS, 3):
        shard = {}
        for layer in range(first, min(first + 3, LAYERS)):
            prefix = f"model.layers.{layer}"
            for part in "qkv":
                shard[f"{prefix}.self_attn.{part}_proj.weight"] = random(HIDDEN, HIDDEN)
                shard[f"{prefix}.self_attn.{part}_proj.bias"] = random(HIDDEN)
            shard[f"{prefix}.self_attn.o_proj.weight"] = random(HIDDEN, HIDDEN)
            for name, shape in (
                ("gate", (INTERMEDIATE, HIDDEN)),
                ("up", (INTERMEDIATE, HIDDEN)),
                ("down", (HIDDEN, INTERMEDIATE)),
            ):
                shard[f"{prefix}.mlp.{name}_proj.weight"] = random(*shape)
            shard |= {f"{prefix}.{norm}_layernorm.weight": random(HIDDEN) for norm in ("input", "post_attention")}
        save_file(to_qwen1_weights(shard), folder / f"model-{1 + first // 3}.safetensors")
    config = {
        "model_type": "qwen", "hidden_size": HIDDEN, "intermediate_size": 2 * INTERMEDIATE, "vocab_size": VOCAB,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "kv_channels": HIDDEN // HEADS,
        "layer_norm_epsilon": 1e-6, "seq_length": 2048, "max_position_embeddings": 8192,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "qwen.tiktoken").write_text(vocabulary_text(make_tokenizer()))
    return write_index(folder)


def quantize_checkpoint(folder: Path) -> int:
    """Turns the made checkpoint into one of AutoGPTQ's Int4 layout; returns the largest shard's bytes."""
    for file in folder.glob("*.safetensors"):
        stored = {}
        for name, tensor in load_file(file).items():
            layer = name.removesuffix(".weight")
            if name.endswith(("c_attn.weight", "c_proj.weight", "w1.weight", "w2.weight")):
                out_features, in_features = tensor.shape
                shape = (out_features, in_features)
                tensors, _ = quantize_randomly(layer, shape, bits=4, group_size=128, v2=False)
                stored |= {f"{layer}.bias": torch.zeros(out_features).half()} | stored | tensors
            else:
                stored[name] = tensor.half()
        save_file(stored, file, metadata={"format": "pt"})
    description = {"bits": 4, "group_size": 128, "damp_percent": 0.01, "desc_act": False, "sym": True}
    (folder / "quantize_config.json").write_text(json.dumps(description))
    return write_index(folder)


def write_index(folder: Path) -> int:
    """Writes which shard holds which tensor; returns the largest shard's bytes."""
    index = {name: file.name for file in folder.glob("*.safetensors") for name in load_file(file)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return max(file.stat().st_size for file in folder.glob("*.safetensors"))


@contextmanager
def peak_of_allocated_bytes() -> Iterator[list[int]]:
    """A list of one number: the most anonymous memory, in bytes, that this process held inside the block."""
    peak, is_over = [0], threading.Event()

    def sample() -> None:
        while not is_over.wait(0.002):
            peak[0] = max(peak[0], memory_bytes("RssAnon"))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peak
    finally:
        is_over.set()
        sampler.join()


def memory_bytes(field: str) -> int:
    """A figure of Linux about this process: `RssAnon` is allocated now, `VmHWM` the most that was ever resident."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(re.findall(rf"{field}:\s+(\d+) kB", status)[0])


def load_once(folder: str, precision: str) -> None:
    """In a process of its own: loads, and prints peak bytes above those of the imports, and seconds."""
    from model_loader.loading.load import load_model

    checkpoint = resolve_checkpoint(folder)
    placement = choose_placement(checkpoint, Hardware((), 10**11, False), LoadOptions(precision))  # type: ignore[arg-type]
    allocated_before, resident_before = memory_bytes("RssAnon"), memory_bytes("VmHWM")
    begin = time.perf_counter()
    with peak_of_allocated_bytes() as peak_allocated:
        loaded = load_model(checkpoint, placement, lambda progress: None)
    seconds = time.perf_counter() - begin
    resident = memory_bytes("VmHWM") - resident_before
    kept = sum(tensor.nbytes for tensor in (*loaded.model.parameters(), *loaded.model.buffers()))
    allocated = peak_allocated[0] - allocated_before
    row = {"allocated_bytes": allocated, "resident_bytes": resident, "kept_bytes": kept, "seconds": seconds}
    print(json.dumps(row))


def row_of(folder: str, precision: str) -> dict[str, float]:
    """What `load_once` prints in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.loading", folder, precision]
    row: dict[str, float] = json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
    return row


def main() -> None:
    """Prints a row for each precision."""
    with tempfile.TemporaryDirectory() as folder:
        shard_bytes = make_checkpoint(Path(folder))
        rows = {precision: row_of(folder, precision) for precision in PRECISIONS}
        gptq_shard_bytes = quantize_checkpoint(Path(folder))
        rows["gptq"] = row_of(folder, "auto")
    print(f"largest shard {shard_bytes / 1e9:.2f} GB, of the GPTQ checkpoint {gptq_shard_bytes / 1e9:.2f} GB")
    print(f"{'':6} {'kept':>9} {'peak':>9} {'peak / kept':>12} {'resident':>9} {'seconds':>8}")
    for precision, row in rows.items():
        kept, allocated, resident = (row[f"{each}_bytes"] / 1e9 for each in ("kept", "allocated", "resident"))
        print(
            f"{precision:6} {kept:6.2f} GB {allocated:6.2f} GB {allocated / kept:12.2f} {resident:6.2f} GB "
            f"{row['seconds']:8.1f}"
        )
    print(json.dumps({"benchmark": "loading", "shard_bytes": shard_bytes, "rows": rows}))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        load_once(*sys.argv[1:])
    else:
        main()
