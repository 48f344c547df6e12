"""Broken and hostile checkpoint folders: refused in one line with file and remedy, and nothing of them is run."""

import json
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tokenizers import Tokenizer

from model_loader.errors import ModelLoaderError
from model_loader.loading.placement import LoadOptions
from model_loader.open_model import open_chat_model
from tests.tiny_checkpoint import write_tiny_checkpoint

EVIL = "import pathlib; pathlib.Path({canary!r}).touch()\n"
CPU = LoadOptions(cpu_only=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_checkpoint(tmp_path / "tiny")


def refusal(folder: Path) -> str:
    """The message of the refusal; it must be one line of reasonable length."""
    with pytest.raises(ModelLoaderError) as caught:
        open_chat_model(str(folder), CPU, lambda progress: None).close()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    return message


def change(folder: Path, name: str = "config.json", **changes: Any) -> None:
    file = folder / name
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hidden_size": float("nan")}, "hidden_size nan"),
        ({"hidden_size": "abc"}, "hidden_size 'abc'"),
        ({"num_hidden_layers": -1}, "num_hidden_layers -1"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers 1000000000000"),
        ({"num_attention_heads": 0}, "num_attention_heads 0"),
        ({"num_key_value_heads": 3}, "num_key_value_heads 3"),
        ({"vocab_size": 1_000_000_000}, "vocab_size 1000000000"),
        ({"vocab_size": 100}, "ids? .*100|vocabulary"),
        ({"vocab_size": 5000}, "vocabulary of 5,000 by 64, but model.embed_tokens.weight is 512 by 64"),
        ({"eos_token_id": 1_000_000_000}, "eos_token_id 1000000000"),
        ({"eos_token_id": [2, -1]}, "eos_token_id -1"),
        ({"eos_token_id": "2"}, "eos_token_id '2'"),
        ({"rope_theta": 0, "rope_parameters": None}, "rope_theta 0"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": float("inf")}}, "rope_theta inf"),
        ({"max_position_embeddings": 1}, "max_position_embeddings 1"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps -1"),
        ({"dtype": "evil"}, "dtype 'evil'"),
        ({"_attn_implementation_internal": "attacker/kernel"}, "_attn_implementation_internal"),
        ({"attn_implementation": "attacker/kernel"}, "attn_implementation"),
        ({"configuration_files": ["config.5.0.0.json"]}, "configuration_files"),
        ({"text_config": None, "vocab_size": 100}, "vocabulary"),
        ({"vision_config": {"_attn_implementation": "attacker/kernel"}}, "_attn_implementation"),
        ({"quantization_config": {"quant_method": "nope"}}, "quantized with 'nope'"),
        ({"model_type": "unheard-of"}, "cannot load .*unheard-of|unheard-of"),
        ({"layer_types": ["full_attention"] * 9}, "num_hidden_layers 2; it must be 9"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(folder: Path, changes: dict[str, Any], named: str) -> None:
    change(folder, **changes)
    message = refusal(folder)
    assert re.search(named, message), message


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"eos_token_id": 10**9}, "eos_token_id 1000000000"),
        ({"max_new_tokens": -1}, "max_new_tokens"),
        ({"temperature": "hot", "do_sample": True}, "temperature"),
    ],
)
def test_generation_defaults_that_cannot_be_are_refused(folder: Path, changes: dict[str, Any], named: str) -> None:
    change(folder, "generation_config.json", **changes)
    message = refusal(folder)
    assert named in message
    assert "generation_config.json" in message


def test_a_corrupt_generation_config_is_not_ignored(folder: Path) -> None:
    (folder / "generation_config.json").write_text("{")
    assert "generation_config.json cannot be read as JSON" in refusal(folder)


def _pipe(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def _directory(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()


def _link(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("/etc/passwd")


def _deep(folder: Path) -> None:
    (folder / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)


def _huge(folder: Path) -> None:
    with (folder / "config.json").open("wb") as file:
        file.truncate(30_000_000)


@pytest.mark.parametrize("damage", [_pipe, _directory, _link, _deep, _huge])
def test_a_config_that_is_no_such_file_is_refused_at_once(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder)
    message = refusal(folder)
    assert "config.json" in message
    assert "root:" not in message


@pytest.mark.parametrize("name", ["../../../../etc/passwd", "/etc/passwd", "sub/model.safetensors", "a.bin", 5])
def test_an_index_that_leaves_the_folder_is_refused(folder: Path, name: object) -> None:
    index = {"weight_map": {"model.norm.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "no safetensors file of its own folder" in refusal(folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": []}', '{"a":' * 50_000 + "1" + "}" * 50_000])
def test_an_index_that_is_none_is_refused(folder: Path, content: str) -> None:
    (folder / "model.safetensors.index.json").write_text(content)
    assert "model.safetensors.index.json cannot be read" in refusal(folder)


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":{"dtype":"F32","data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":"x","data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":["0","4"]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4]}}',
        b'{"a":5}',
        b"[" * 50_000,
    ],
    ids=lambda header: repr(header[:40]),
)
def test_a_header_of_weights_that_is_none_is_refused(folder: Path, header: bytes) -> None:
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert "is not a whole safetensors file" in refusal(folder)


def test_a_tokenizer_that_was_saved_with_its_training_s_limits_reads_whole_texts(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(length=512)
    tokenizer.save(str(folder / "tokenizer.json"))
    chat_model = open_chat_model(str(folder), CPU, lambda progress: None)
    try:
        assert chat_model.decode(chat_model.encode("one two three " * 20)) == "one two three " * 20
    finally:
        chat_model.close()


def test_a_checkpoint_that_cannot_chat_leaves_no_engine_behind(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    (folder / "tokenizer.json").write_text(text.replace("<|im_start|>", "<|other|>"), encoding="utf-8")
    before = {thread for thread in threading.enumerate() if thread.name == "engine"}
    assert "<|im_start|>" in refusal(folder)
    assert {thread for thread in threading.enumerate() if thread.name == "engine"} <= before


def test_a_missing_shard_is_named(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "has no model-00002-of-00002.safetensors, which its index names" in refusal(folder)


@pytest.mark.parametrize(
    ("alter", "named"),
    [
        (lambda weights: weights.pop("model.layers.0.mlp.up_proj.weight"), "missing (model.layers.0.mlp.up_proj"),
        (lambda weights: weights.update(extra=torch.zeros(2)), "fit no part of the model (extra"),
        (
            lambda weights: weights.update({"model.norm.weight": torch.zeros(3)}),
            "wrong shape",
        ),
        (
            lambda weights: weights.update({"model.norm.weight": torch.full((64,), float("nan"))}),
            "",
        ),
    ],
    ids=["missing", "unexpected", "mis-shaped", "no numbers"],
)
def test_weights_that_do_not_fit_are_listed(folder: Path, alter: Callable[[Any], None], named: str) -> None:
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    alter(weights)
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert named in refusal(folder)


def test_no_code_and_no_pickle_of_a_folder_is_run(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for name in ("modeling_evil.py", "configuration_evil.py", "tokenization_evil.py", "evil.py"):
        (folder / name).write_text(EVIL.format(canary=str(canary)))
    auto_map = {"AutoConfig": "configuration_evil.EvilConfig", "AutoModelForCausalLM": "modeling_evil.Evil"}
    change(folder, auto_map=auto_map)
    change(
        folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]}, tokenizer_class="os.system"
    )
    open_chat_model(str(folder), CPU, lambda progress: None).close()  # a known kind loads, its code does not
    change(folder, model_type="evil")
    assert "brings its own code (auto_map), which is never run" in refusal(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pickled weights only" in refusal(folder)
    assert not canary.exists()


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{{ 'a' * 10**9 }}",
        "{% if",
        "",
    ],
    ids=["reaches out", "hangs", "grows", "broken", "none"],
)
def test_a_template_is_read_for_facts_and_never_run(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template)
    open_chat_model(str(folder), CPU, lambda progress: None).close()


def _tokenizer(folder: Path, alter: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    alter(content)
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")


def _slow_pattern(content: dict[str, Any]) -> None:
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    content["pre_tokenizer"] = split


def _id_too_high(content: dict[str, Any]) -> None:
    content["model"]["vocab"]["far"] = 9999


def _no_alphabet(content: dict[str, Any]) -> None:
    content["model"]["vocab"] = {"a": 0}
    content["model"]["merges"] = []
    content["added_tokens"] = []


@pytest.mark.parametrize("damage", [_slow_pattern, _no_alphabet, lambda content: content.pop("model")])
def test_a_tokenizer_that_does_not_work_is_named(folder: Path, damage: Callable[[dict[str, Any]], None]) -> None:
    _tokenizer(folder, damage)
    assert "tokenizer.json" in refusal(folder)


def test_a_tokenizer_with_ids_the_model_has_not_is_refused(folder: Path) -> None:
    change(folder, vocab_size=512)
    _tokenizer(folder, _id_too_high)
    message = refusal(folder)
    assert "tokenizer.json" in message
    assert "vocabulary ends at 511" in message


def test_a_tokenizer_that_was_cut_short_is_named(folder: Path) -> None:
    content = (folder / "tokenizer.json").read_text(encoding="utf-8")
    (folder / "tokenizer.json").write_text(content[: len(content) // 2], encoding="utf-8")
    assert "tokenizer.json cannot be read" in refusal(folder)
