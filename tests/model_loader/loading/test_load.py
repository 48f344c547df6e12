"""Loading: whole checkpoints only, and nothing of a checkpoint is ever run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from model_loader.chat_format.messages import Message
from model_loader.checkpoint.context_length import set_context_length
from model_loader.checkpoint.resolve import resolve_checkpoint
from model_loader.engine.engine import Engine
from model_loader.engine.request import Request, Sampling, Token
from model_loader.errors import CheckpointDamaged, CheckpointUnsupported
from model_loader.events import Finished
from model_loader.loading.hardware import probe_hardware
from model_loader.loading.load import LoadedModel, load_model
from model_loader.loading.placement import LoadOptions, Placement
from model_loader.open_model import open_chat_model
from model_loader.progress import LoadProgress
from tests.tiny_checkpoint import write_tiny_checkpoint


def load(folder: Path, dtype: str = "float32") -> LoadedModel:
    placement = Placement("cpu", dtype, None, "for a test")  # type: ignore[arg-type]
    return load_model(resolve_checkpoint(str(folder)), placement, lambda progress: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_checkpoint(tmp_path / "tiny")


def change_weights(folder: Path, change: dict[str, torch.Tensor | None]) -> None:
    file = folder / "model.safetensors"
    weights = {name: tensor.clone() for name, tensor in load_file(file).items()}
    for name, tensor in change.items():
        if tensor is None:
            del weights[name]
        else:
            weights[name] = tensor
    save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_loaded_in_the_placed_format(folder: Path, dtype: str) -> None:
    loaded = load(folder, dtype)
    assert loaded.model.dtype == getattr(torch, dtype)
    assert not loaded.model.training
    assert loaded.vocab_size == 512


def test_progress_reaches_the_end(folder: Path) -> None:
    seen: list[LoadProgress] = []
    load_model(resolve_checkpoint(str(folder)), Placement("cpu", "float32", None, ""), seen.append)
    fractions = [each.fraction for each in seen if each.stage == "weights"]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0
    assert fractions[-1] == 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model.norm.weight": None}, r"1 weights .* are missing \(model.norm.weight\)"),
        ({"model.extra.weight": torch.zeros(3)}, r"1 weights .* fit no part of the model \(model.extra.weight\)"),
        ({"model.norm.weight": torch.zeros(3)}, "have the wrong shape .model.norm.weight"),
    ],
)
def test_weights_that_do_not_match_are_refused(
    folder: Path, change: dict[str, torch.Tensor | None], complaint: str
) -> None:
    change_weights(folder, change)
    with pytest.raises(CheckpointDamaged, match=complaint):
        load(folder)


def test_a_kind_that_transformers_does_not_know_is_refused_without_running_its_code(folder: Path) -> None:
    canary = folder / "canary"
    (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w')")
    config = (folder / "config.json").read_text()
    auto_map = '"auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}, '
    (folder / "config.json").write_text(config.replace('"qwen2"', '"nonesuch"').replace("{", "{" + auto_map, 1))
    with pytest.raises(CheckpointUnsupported, match=r"brings its own code .auto_map., which is never run"):
        load(folder)
    assert not canary.exists()


def test_a_broken_tokenizer_is_named(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0", ')
    with pytest.raises(CheckpointDamaged, match=r"tokenizer\.json cannot be read"):
        load(folder)


def test_this_machine_is_probed() -> None:
    hardware = probe_hardware()
    assert hardware.cpu_free_bytes > 10**8
    assert all(gpu.free_bytes > 0 for gpu in hardware.gpus)


def test_the_language_part_of_qwen3_5_is_loaded_and_answers(tmp_path: Path) -> None:
    """Its files hold a part for pictures as well, which is left alone."""
    from transformers.models.qwen3_5 import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    folder = write_tiny_checkpoint(tmp_path / "tiny")
    text = {
        "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512,
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16,
        "linear_value_head_dim": 16, "tie_word_embeddings": True, "rope_parameters": {
            "rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]
        },
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64,
              "num_position_embeddings": 16}  # fmt: skip
    config = Qwen3_5Config(text_config=text, vision_config=vision, tie_word_embeddings=True)
    defaults = (folder / "generation_config.json").read_bytes()
    Qwen3_5ForConditionalGeneration(config).save_pretrained(folder)
    (folder / "generation_config.json").write_bytes(defaults)
    chat_model = open_chat_model(str(folder), LoadOptions(cpu_only=True), lambda progress: None)
    try:
        assert chat_model.context_length == 512
        events = list(chat_model.stream([Message("user", "hi")], Sampling(max_new_tokens=3)))
        assert isinstance(events[-1], Finished)
    finally:
        chat_model.close()


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_a_longer_window_is_computed_with_yarn(tmp_path: Path, kind: str) -> None:
    folder = write_tiny_checkpoint(tmp_path / "tiny", kind=kind)
    checkpoint = resolve_checkpoint(str(folder))
    longer = replace(checkpoint, config=set_context_length(checkpoint.config, 1024))
    loaded = load_model(longer, Placement("cpu", "float32", None, "for a test"), lambda progress: None)
    config = transformers.AutoConfig.from_pretrained(folder)
    theta = config.rope_parameters["rope_theta"]
    config.rope_parameters = {
        "rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 512, "rope_theta": theta
    }  # fmt: skip
    config.max_position_embeddings = 1024
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32)
    prompt = tuple((11 * n * n + n) % 390 + 5 for n in range(700))
    with torch.inference_mode():
        expected = reference.generate(
            torch.tensor([prompt]), max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0
        )
    engine = Engine(loaded)
    try:
        request = Request(prompt, Sampling(max_new_tokens=6, temperature=0), frozenset())
        ids = [item.id for item in engine.stream(request) if isinstance(item, Token)]
    finally:
        engine.close()
    assert ids == expected[0, len(prompt) :].tolist()
