"""The catalog against transformers' own classes, and the names it suggests."""

import pytest
import torch
import transformers

from model_loader.checkpoint.catalog import CATALOG, Entry, find_entry, nearest_names
from model_loader.checkpoint.footprint import Shape
from model_loader.loading.qwen1 import Qwen1Config, Qwen1ForCausalLM

_SHAPES = {entry.shape: entry for entry in CATALOG}
_CONFIGS = {
    "qwen": Qwen1Config,
    "qwen2": transformers.Qwen2Config,
    "qwen2_moe": transformers.Qwen2MoeConfig,
    "qwen3": transformers.Qwen3Config,
    "qwen3_moe": transformers.Qwen3MoeConfig,
    "qwen3_next": transformers.Qwen3NextConfig,
    "qwen3_5": transformers.models.qwen3_5.Qwen3_5TextConfig,
    "qwen3_5_moe": transformers.models.qwen3_5_moe.Qwen3_5MoeTextConfig,
}


def _config(shape: Shape) -> transformers.PreTrainedConfig:
    sizes = {
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.hidden,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab,
        "tie_word_embeddings": shape.is_tied,
    }
    if shape.feed_forward:
        sizes["intermediate_size"] = shape.feed_forward
    if shape.experts:
        sizes |= {"num_experts": shape.experts.number, "moe_intermediate_size": shape.experts.size}
        if shape.experts.shared_size:
            sizes["shared_expert_intermediate_size"] = shape.experts.shared_size
    if shape.linear:
        sizes |= {"linear_num_key_heads": shape.linear.key_heads, "linear_num_value_heads": shape.linear.value_heads}
    if shape.architecture == "qwen":
        sizes |= {"seq_length": 8192}
    return _CONFIGS[shape.architecture](**sizes)


@pytest.mark.parametrize("shape", _SHAPES, ids=lambda shape: _SHAPES[shape].name.removeprefix("Qwen/"))
def test_the_parameters_are_those_of_transformers_class(shape: Shape) -> None:
    with torch.device("meta"):
        config = _config(shape)
        is_qwen1 = isinstance(config, Qwen1Config)
        model = Qwen1ForCausalLM(config) if is_qwen1 else transformers.AutoModelForCausalLM.from_config(config)
    assert shape.parameters == model.num_parameters()
    assert shape.embedding_parameters == model.get_input_embeddings().weight.numel()


@pytest.mark.parametrize(
    ("name", "billions"),
    [("Qwen/Qwen-7B-Chat", 7.72), ("Qwen/Qwen3-4B", 4.02), ("Qwen/Qwen2.5-72B", 72.7), ("Qwen/Qwen3-235B-A22B", 235.1)],
)
def test_the_parameters_are_those_of_the_model_cards(name: str, billions: float) -> None:
    entry = find_entry(name)
    assert entry is not None
    assert entry.shape.parameters / 1e9 == pytest.approx(billions, rel=2e-3)


def test_every_name_is_there_once_and_every_row_is_whole() -> None:
    names = [entry.name.casefold() for entry in CATALOG]
    assert len(set(names)) == len(names) > 150
    for entry in CATALOG:
        assert entry.context >= 4096
        assert entry.licence
        assert entry.bits in (4, 8, 16)


def test_keys_and_values_of_qwen_7b_take_512_kib_a_token() -> None:
    entry = find_entry("qwen/qwen-7b-chat")
    assert isinstance(entry, Entry)
    assert entry.shape.kv_bytes_per_token == 512 * 1024


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Qwen/Qwen3-4b-Instruct", "Qwen/Qwen3-4B-Instruct-2507"),
        ("Qwen/Qwen7B-Chat", "Qwen/Qwen-7B-Chat"),
        ("qwen3-4B", "Qwen/Qwen3-4B"),
        ("Qwen/Qwen2.5-7B-Instuct", "Qwen/Qwen2.5-7B-Instruct"),
    ],
)
def test_a_typo_gets_the_nearest_names(typed: str, meant: str) -> None:
    assert meant in nearest_names(typed)


def test_a_name_of_another_family_gets_none() -> None:
    assert nearest_names("meta-llama/Llama-3.1-8B") == []
