"""Loading: whole checkpoints only, and nothing of a checkpoint is ever run."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model_loader.checkpoint.resolve import resolve_checkpoint
from model_loader.errors import CheckpointDamaged, CheckpointUnsupported
from model_loader.loading.hardware import probe_hardware
from model_loader.loading.load import LoadedModel, load_model
from model_loader.loading.placement import Placement
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
        ({"model.norm.weight": torch.zeros(3)}, "do not fit together"),
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
    with pytest.raises(CheckpointUnsupported, match="cannot load"):
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
