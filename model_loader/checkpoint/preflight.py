"""Refuses a broken or hostile checkpoint folder before anything is allocated for it.

What comes in are the facts that `resolve` has read: configuration, generation defaults, and the names and shapes in
the weight files' headers. Nothing is imported from the folder and no template of it is run.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from model_loader.checkpoint.context_length import text_section
from model_loader.checkpoint.safetensors_header import Weights
from model_loader.errors import CheckpointDamaged, CheckpointUnsupported

_COUNTS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "intermediate_size",
    "head_dim",
    "n_embd",
    "n_layer",
    "n_head",
    "ffn_hidden_size",
    "kv_channels",
    "padded_vocab_size",
)
_MAX_COUNT = 10_000_000
_DTYPES = ("float32", "float16", "bfloat16", "auto")
_CODE_KEYS = ("attn_implementation", "experts_implementation", "configuration_files")
"""Settings through which a configuration could have other code fetched and run, or another file read in its place."""
_HARMLESS_KEYS = ("_attn_implementation_autoset",)
_LEAST_CONTEXT = 16
_LEAST_ROPE_THETA = 100.0
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight")


def check_checkpoint(
    folder: Path, config: Mapping[str, Any], generation_config: Mapping[str, Any], weights: Weights
) -> None:
    """Raises for the first thing that is wrong.

    Raises:
        CheckpointDamaged: a value is out of its range, or configuration and weights contradict each other.
        CheckpointUnsupported: the configuration asks for other code or for an unknown number format.
    """
    file = folder / "config.json"
    text = text_section(config)
    _refuse_code(file, config)
    _check_numbers(file, text)
    for owner, section in (("config.json", text), ("generation_config.json", generation_config)):
        _check_stop_ids(folder / owner, section, text)
    _check_shapes(file, text, weights)


def _refuse_code(file: Path, config: Mapping[str, Any]) -> None:
    for key in _all_keys(config):
        if key.lstrip("_").startswith(_CODE_KEYS) and key not in _HARMLESS_KEYS:
            raise CheckpointUnsupported(
                f"{file} sets {key!r}, through which code from elsewhere could be run; that is refused. Remove the "
                "line, or fetch the checkpoint from its makers."
            )


def _all_keys(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _all_keys(inner)


def _check_numbers(file: Path, config: Mapping[str, Any]) -> None:
    for name in _COUNTS:
        value = config.get(name)
        if value is not None and not _is_count(value):
            raise _out_of_range(file, name, value, f"a whole number from 1 to {_MAX_COUNT:,}")
    heads, kv_heads = config.get("num_attention_heads"), config.get("num_key_value_heads")
    if heads and kv_heads and heads % kv_heads:
        raise _out_of_range(file, "num_key_value_heads", kv_heads, f"a divisor of the {heads} attention heads")
    layers, layer_types = config.get("num_hidden_layers"), config.get("layer_types")
    if layers and isinstance(layer_types, list) and len(layer_types) != layers:
        raise _out_of_range(file, "num_hidden_layers", layers, f"{len(layer_types)}, the number of layer_types")
    context = config.get("max_position_embeddings")
    if isinstance(context, int) and context < _LEAST_CONTEXT:
        raise _out_of_range(file, "max_position_embeddings", context, f"at least {_LEAST_CONTEXT}")
    for name in ("rope_theta", "rotary_emb_base"):
        rope = config.get("rope_parameters")
        value = config.get(name, rope.get(name) if isinstance(rope, Mapping) else None)
        if value is not None and not (_is_number(value) and value >= _LEAST_ROPE_THETA):
            raise _out_of_range(file, name, value, f"a number from {_LEAST_ROPE_THETA:g}")
    for name in ("rms_norm_eps", "layer_norm_epsilon"):
        value = config.get(name)
        if value is not None and not (_is_number(value) and 0 < value < 0.1):
            raise _out_of_range(file, name, value, "a number between 0 and 0.1")
    dtype = config.get("dtype") or config.get("torch_dtype") or "auto"
    if dtype not in _DTYPES:
        raise CheckpointUnsupported(
            f"{file} gives the dtype {dtype!r}; {', '.join(_DTYPES[:-1])} are known. Fetch the checkpoint again, or "
            "use an unquantized sibling."
        )


def _check_stop_ids(file: Path, section: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """A stop id that the vocabulary does not have would never be sampled: the answer would not end."""
    vocab_size = config.get("padded_vocab_size") or config.get("vocab_size")
    for name in ("eos_token_id", "bos_token_id", "pad_token_id"):
        value = section.get(name)
        for token_id in value if isinstance(value, list) else [value]:
            is_id = isinstance(token_id, int) and not isinstance(token_id, bool) and token_id >= 0
            if token_id is not None and (not is_id or (isinstance(vocab_size, int) and token_id >= vocab_size)):
                raise _out_of_range(file, name, token_id, f"an id of the vocabulary, below {vocab_size}")


def _check_shapes(file: Path, config: Mapping[str, Any], weights: Weights) -> None:
    embeddings = {name: shape for name, shape in weights.shapes.items() if name.endswith(_EMBEDDINGS)}
    width = config.get("hidden_size") or config.get("n_embd")
    vocab_sizes = [config[name] for name in ("padded_vocab_size", "vocab_size") if config.get(name)]
    for name, shape in embeddings.items():
        if vocab_sizes and width and shape not in [(rows, width) for rows in vocab_sizes]:
            raise CheckpointDamaged(
                f"{file} describes a vocabulary of {vocab_sizes[0]:,} by {width:,}, but {name} is "
                f"{' by '.join(f'{size:,}' for size in shape)}. Fetch the checkpoint again."
            )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_COUNT


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _out_of_range(file: Path, name: str, value: Any, allowed: str) -> CheckpointDamaged:
    return CheckpointDamaged(f"{file} gives {name} {value!r:.60}; it must be {allowed}. Fetch the checkpoint again.")
