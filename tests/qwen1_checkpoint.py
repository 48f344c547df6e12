"""Checkpoints in the Qwen-1 layout, made from random Qwen2 ones by undoing what the loader does."""

import base64
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer

from model_loader.byte_level import BYTE_OF_CHARACTER
from tests.tiny_checkpoint import make_tokenizer

_NAMES = {
    "model.embed_tokens": "transformer.wte",
    "model.norm": "transformer.ln_f",
    "model.layers": "transformer.h",
    "input_layernorm": "ln_1",
    "post_attention_layernorm": "ln_2",
    "self_attn.o_proj": "attn.c_proj",
    "mlp.up_proj": "mlp.w1",
    "mlp.gate_proj": "mlp.w2",
    "mlp.down_proj": "mlp.c_proj",
}


def qwen2_model(num_layers: int = 2) -> transformers.Qwen2ForCausalLM:
    """A random Qwen2 of the sizes that `write_qwen1_checkpoint` takes."""
    torch.manual_seed(5)
    config = transformers.Qwen2Config(
        vocab_size=640, hidden_size=64, intermediate_size=128, num_hidden_layers=num_layers, num_attention_heads=4,
        num_key_value_heads=4, rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        initializer_range=0.3,
    )  # fmt: skip
    return transformers.Qwen2ForCausalLM(config).eval()


def to_qwen1_weights(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Qwen2 weights under their names of 2023, queries, keys and values in one matrix."""
    renamed = {}
    for name, tensor in weights.items():
        if ".k_proj" in name or ".v_proj" in name:
            continue
        if ".q_proj" in name:
            tensor = torch.cat([weights[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")])
            name = name.replace("self_attn.q_proj", "attn.c_attn")
        for new, old in _NAMES.items():
            name = name.replace(new, old)
        renamed[name] = tensor.clone().contiguous()
    return renamed


def vocabulary_text(tokenizer: Tokenizer) -> str:
    """The regular tokens of a byte-level tokenizer as a tiktoken file."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    lines = []
    for rank, token in enumerate(sorted(vocabulary, key=vocabulary.__getitem__)):
        token_bytes = bytes(BYTE_OF_CHARACTER[character] for character in token)
        lines.append(f"{base64.b64encode(token_bytes).decode()} {rank}\n")
    return "".join(lines)


def write_qwen1_checkpoint(
    folder: Path, weights: dict[str, torch.Tensor], *, num_shards: int = 2, **changes: Any
) -> Path:
    """Writes Qwen2 weights (`num_attention_heads` 4, head size 16) as a Qwen-1 folder of some shards."""
    folder.mkdir(parents=True)
    hidden_size = weights["model.norm.weight"].shape[0]
    config = {
        "architectures": ["QWenLMHeadModel"],
        "auto_map": {"AutoConfig": "configuration_qwen.QWenConfig", "AutoModelForCausalLM": "modeling_qwen.QWen"},
        "model_type": "qwen",
        "hidden_size": hidden_size,
        "intermediate_size": 2 * weights["model.layers.0.mlp.up_proj.weight"].shape[0],
        "num_hidden_layers": sum("input_layernorm" in name for name in weights),
        "num_attention_heads": 4,
        "kv_channels": hidden_size // 4,
        "vocab_size": weights["lm_head.weight"].shape[0],
        "layer_norm_epsilon": 1e-6,
        "max_position_embeddings": 512,
        "seq_length": 64,
        "rotary_emb_base": 10_000,
        "rotary_pct": 1.0,
        "no_bias": True,
        "use_dynamic_ntk": True,
        "use_logn_attn": True,
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config))
    end_of_text = len(make_tokenizer().get_vocab(with_added_tokens=False))
    generation = {"chat_format": "chatml", "eos_token_id": end_of_text, "max_window_size": 300, "do_sample": True,
                  "top_k": 0, "top_p": 0.8, "max_new_tokens": 64}  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(generation))
    (folder / "qwen.tiktoken").write_text(vocabulary_text(make_tokenizer()))
    (folder / "modeling_qwen.py").write_text("raise SystemExit('remote code was run')")
    renamed = list(to_qwen1_weights(weights).items())
    index = {}
    for shard in range(num_shards):
        file = f"model-{shard + 1:05}-of-{num_shards:05}.safetensors"
        part = dict(renamed[shard::num_shards])
        save_file(part, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder
