"""A name to a checkpoint: what is found, and one clear line for everything that is not."""

import json
from pathlib import Path

import pytest

from model_loader.checkpoint.resolve import resolve_checkpoint
from model_loader.errors import CheckpointDamaged, CheckpointNotFound, CheckpointUnsupported
from tests.tiny_checkpoint import write_tiny_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_checkpoint(tmp_path / "tiny")


def change_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_folder_is_read_with_its_facts(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    checkpoint = resolve_checkpoint(str(folder))
    assert checkpoint.context_length == 512
    assert checkpoint.generation_config["top_k"] == 20
    assert checkpoint.chat_template == "{{ messages }}"
    assert checkpoint.weights.num_bytes == 4 * checkpoint.weights.num_parameters > 0


def test_a_template_inside_the_tokenizer_config_is_found(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"chat_template": "x"}')
    assert resolve_checkpoint(str(folder)).chat_template == "x"


def test_a_generation_config_may_be_missing(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    assert resolve_checkpoint(str(folder)).generation_config == {}


@pytest.mark.parametrize(
    "name", ["", "/no/such/folder", "./gone", "~/gone/gone", "a/b/c", "x" * 300, "a\0b", "../Qwen", "Qwen"]
)
def test_a_name_that_is_nothing_is_refused_without_asking_a_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    monkeypatch.chdir("/")
    with pytest.raises(CheckpointNotFound, match="-c takes a folder"):
        resolve_checkpoint(name)


def test_a_file_is_no_checkpoint(folder: Path) -> None:
    with pytest.raises(CheckpointNotFound, match=r"is a file; -c takes the folder"):
        resolve_checkpoint(str(folder / "config.json"))


@pytest.mark.parametrize("content", ["", "[]", "null", '"x"', "{", "\ufeff{}", "\x00"])
def test_a_config_that_is_no_object_is_named(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(CheckpointDamaged, match=r"config\.json .*Fetch the checkpoint again"):
        resolve_checkpoint(str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointDamaged, match=name.replace("model", r"\*")):
        resolve_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, r"pip install gptqmodel"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, r"pip install bitsandbytes"),
        ({"quantization_config": {"quant_method": "fp8"}}, r"compiled code would be fetched .* refused"),
        ({"quantization_config": {"quant_method": "nope"}}, r"quantized with 'nope'"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 3}}, r"bits 3; 4, 8 are supported"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 7}}, r"group_size 7"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "desc_act": True}}, "desc_act true"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}}, "'marlin'"),
        ({"max_position_embeddings": None}, "max_position_embeddings None"),
        ({"max_position_embeddings": True}, "max_position_embeddings True"),
        ({"max_position_embeddings": 0}, "max_position_embeddings 0"),
    ],
)
def test_a_kind_that_cannot_be_loaded_yet_is_refused(folder: Path, changes: dict[str, object], complaint: str) -> None:
    change_config(folder, **changes)
    with pytest.raises(CheckpointUnsupported, match=complaint):
        resolve_checkpoint(str(folder))


def test_a_gguf_folder_is_told_apart(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-q4_0.gguf")
    with pytest.raises(CheckpointUnsupported, match=r"GGUF files, which are for llama\.cpp"):
        resolve_checkpoint(str(folder))


def test_a_method_whose_library_is_installed_is_left_to_transformers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_config(folder, quantization_config={"quant_method": "awq", "bits": 4})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert resolve_checkpoint(str(folder)).foreign_method == "awq"


def test_pickled_weights_are_never_opened(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointUnsupported, match="can run code when they are opened"):
        resolve_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "has no header"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Run: git lfs pull"),
        ((2**62).to_bytes(8, "little") + b"{}", "has no header"),
        ((2).to_bytes(8, "little") + b"[]", "not a whole safetensors file"),
        ((9).to_bytes(8, "little") + b"{\x00garbage", "not a whole safetensors file"),
    ],
)
def test_a_weight_file_that_is_none_is_refused(folder: Path, content: bytes, complaint: str) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointDamaged, match=complaint):
        resolve_checkpoint(str(folder))


def test_a_weight_file_that_was_cut_short_is_refused_with_both_sizes(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointDamaged, match=r"it has [\d,]+ bytes where its header says [\d,]+"):
        resolve_checkpoint(str(folder))
