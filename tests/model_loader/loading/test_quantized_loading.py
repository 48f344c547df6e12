"""Quantized models as a whole: GPTQ folders of 2023 and of today, and rounding while loading."""

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from model_loader.checkpoint.resolve import resolve_checkpoint
from model_loader.errors import CheckpointDamaged
from model_loader.loading.load import LoadedModel, load_model
from model_loader.loading.low_bit import Int4Linear, Int8Linear
from model_loader.loading.placement import Hardware, LoadOptions, choose_placement
from tests.gptq_checkpoint import quantize_folder, write_qwen1_gptq
from tests.tiny_checkpoint import write_tiny_checkpoint

SIZES = {"hidden_size": 128, "head_dim": 32, "intermediate_size": 256, "initializer_range": 0.05}
IDS = torch.arange(5, 60)[None]
MODEL_BOUND = 0.05
"""Logits differ from the float32 model of the same rounded weights by at most this share of their norm."""


def load(folder: Path, precision: str = "auto") -> LoadedModel:
    checkpoint = resolve_checkpoint(str(folder))
    machine = Hardware((), 10**10, cpu_computes_bfloat16=False)
    placement = choose_placement(checkpoint, machine, LoadOptions(precision))  # type: ignore[arg-type]
    return load_model(checkpoint, placement, lambda progress: None)


@torch.inference_mode()
def difference(loaded: LoadedModel, expected: transformers.PreTrainedModel) -> float:
    found, reference = loaded.model(input_ids=IDS).logits.float(), expected(input_ids=IDS).logits
    return float((found - reference).norm() / reference.norm())


def reference_model(folder: Path, weights: dict[str, torch.Tensor]) -> transformers.PreTrainedModel:
    config = transformers.AutoConfig.from_pretrained(folder)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    model.load_state_dict(weights, strict=False)
    model.tie_weights()
    return model


def layers_of(loaded: LoadedModel, kind: type) -> int:
    return sum(isinstance(module, kind) for module in loaded.model.modules())


@pytest.mark.parametrize("group_size", [32, 128, -1])
@pytest.mark.parametrize("v2", [False, True])
def test_gptq_int4_computes_with_the_stored_numbers(tmp_path: Path, group_size: int, v2: bool) -> None:
    folder = write_tiny_checkpoint(tmp_path / "tiny", **SIZES)
    meant = quantize_folder(folder, group_size=group_size, v2=v2)
    loaded = load(folder)
    assert layers_of(loaded, Int4Linear) == 8
    assert difference(loaded, reference_model(folder, meant)) < MODEL_BOUND
    assert loaded.placement.quantization == "int4"


def test_gptq_int8_is_rounded_once_more_and_stays_close(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "tiny", kind="qwen3", **SIZES)
    meant = quantize_folder(folder, bits=8)
    loaded = load(folder)
    assert layers_of(loaded, Int8Linear) == 8
    assert difference(loaded, reference_model(folder, meant)) < MODEL_BOUND


def qwen1_weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    config = transformers.Qwen2Config(
        vocab_size=640, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, initializer_range=0.05,
    )  # fmt: skip
    return transformers.Qwen2ForCausalLM(config).state_dict()


def qwen1_reference(weights: dict[str, torch.Tensor]) -> transformers.PreTrainedModel:
    config = transformers.Qwen2Config(
        vocab_size=640, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )  # fmt: skip
    model = transformers.Qwen2ForCausalLM(config).eval()
    model.load_state_dict(weights)
    return model


@pytest.fixture
def qwen1_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "Qwen-Tiny-Chat-Int4"


def test_an_int4_folder_of_2023_is_split_repacked_and_its_zero_biases_dropped(qwen1_folder: Path) -> None:
    meant = write_qwen1_gptq(qwen1_folder, qwen1_weights())
    meant |= {name: torch.zeros_like(tensor) for name, tensor in meant.items() if name.endswith("_proj.bias")}
    loaded = load(qwen1_folder)
    assert layers_of(loaded, Int4Linear) == 8
    assert loaded.model.model.layers[0].o_proj.bias is None
    assert loaded.model.model.layers[0].qkv_proj.bias is not None
    assert difference(loaded, qwen1_reference(meant)) < MODEL_BOUND


def change(folder: Path, name: str, tensor: torch.Tensor) -> None:
    file = folder / "model.safetensors"
    weights = {key: value.clone() for key, value in load_file(file).items()}
    assert name in weights
    save_file(weights | {name: tensor}, file, metadata={"format": "pt"})


def test_a_bias_where_the_model_has_none_is_refused(qwen1_folder: Path) -> None:
    write_qwen1_gptq(qwen1_folder, qwen1_weights())
    change(qwen1_folder, "transformer.h.1.mlp.w1.bias", torch.ones(256).half())
    with pytest.raises(CheckpointDamaged, match=r"layers\.1\.mlp\.up_proj\.bias is not zero"):
        load(qwen1_folder)


def test_scattered_groups_are_refused(qwen1_folder: Path) -> None:
    write_qwen1_gptq(qwen1_folder, qwen1_weights())
    change(qwen1_folder, "transformer.h.0.attn.c_proj.g_idx", torch.arange(128, dtype=torch.int32) % 4)
    with pytest.raises(CheckpointDamaged, match=r"o_proj\.g_idx is not in order"):
        load(qwen1_folder)


@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize(("precision", "bound"), [("int8", 0.05), ("int4", 0.35)])
def test_any_checkpoint_can_be_rounded_while_it_loads(
    tmp_path: Path, precision: str, bound: float, is_tied: bool
) -> None:
    folder = write_tiny_checkpoint(tmp_path / "tiny", kind="qwen3", tie_word_embeddings=is_tied, **SIZES)
    loaded = load(folder, precision)
    kind = {"int8": Int8Linear, "int4": Int4Linear}[precision]
    assert layers_of(loaded, kind) >= 8
    assert isinstance(loaded.model.get_output_embeddings(), Int8Linear)
    weights = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    assert difference(loaded, reference_model(folder, weights)) < bound


def test_a_qwen1_folder_can_be_rounded_while_it_loads(qwen1_folder: Path) -> None:
    from tests.qwen1_checkpoint import write_qwen1_checkpoint

    weights = qwen1_weights()
    write_qwen1_checkpoint(qwen1_folder, weights)
    loaded = load(qwen1_folder, "int8")
    assert layers_of(loaded, Int8Linear) == 9
    assert difference(loaded, qwen1_reference(weights)) < MODEL_BOUND
