"""Qwen-1: the weights of 2023 give the logits of 2023, also in chunks and while decoding."""

import json
from pathlib import Path

import pytest
import torch
import transformers

from model_loader.checkpoint.resolve import Checkpoint, resolve_checkpoint
from model_loader.engine.engine import Engine
from model_loader.engine.pace import Pace
from model_loader.engine.request import Request, Sampling, Token
from model_loader.errors import CheckpointDamaged, CheckpointUnsupported
from model_loader.loading.load import LoadedModel, load_model
from model_loader.loading.placement import Placement
from model_loader.loading.qwen1 import Qwen1ForCausalLM, logn_scale, ntk_alpha, read_config
from tests.qwen1_checkpoint import qwen2_model, write_qwen1_checkpoint
from tests.reference_data import FOLDER, needs_reference_data
from tests.tiny_checkpoint import make_tokenizer

CPU = Placement("cpu", "float32", None, "for a test")
GOLDEN_CASES = range(8)


def load_golden_model() -> Qwen1ForCausalLM:
    folder = FOLDER / "qwen1-tiny"
    config = read_config(json.loads((folder / "config.json").read_text()))
    model = Qwen1ForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32, device_map="cpu")
    return model.eval()


@torch.inference_mode()
def logits_of(model: Qwen1ForCausalLM, ids: list[int], chunk: int | None = None) -> torch.Tensor:
    """Logits of every position `(length, vocab)`, the prompt read in chunks of a size or at once."""
    arguments = {"rope_alpha": model.rope_alpha(len(ids))}
    cache = transformers.DynamicCache(config=model.config)
    parts = [
        model(input_ids=part[None], past_key_values=cache, use_cache=True, **arguments).logits[0]
        for part in torch.tensor(ids).split(chunk or len(ids))
    ]
    return torch.cat(parts)


@needs_reference_data
@pytest.mark.parametrize("chunk", [None, 7, 1])
@pytest.mark.parametrize("number", GOLDEN_CASES)
def test_logits_are_those_of_the_original_code(number: int, chunk: int | None) -> None:
    case = json.loads((FOLDER / "qwen1_tiny_golden.json").read_text())["cases"][number]
    model = load_golden_model()
    model.config.use_dynamic_ntk = case.get("dynamic_ntk", True)
    model.config.use_logn_attn = case.get("logn", True)
    logits = logits_of(model, case["ids"], chunk)
    assert torch.allclose(logits[-1, :64], torch.tensor(case["last_logits"]), atol=1e-4, rtol=0)
    assert logits[-len(case["argmax_all"]) :].argmax(dim=-1).tolist() == case["argmax_all"]


@pytest.mark.parametrize(
    ("prompt_tokens", "seq_length", "alpha"),
    [(1, 2048, 1), (2048, 2048, 1), (2049, 2048, 3), (4096, 2048, 3), (4097, 2048, 7), (8192, 2048, 7),
     (16_384, 2048, 15), (32_768, 2048, 31), (8192, 8192, 1), (16_384, 8192, 3), (32_768, 8192, 7)],
)  # fmt: skip
def test_alpha_follows_the_prompt_length(prompt_tokens: int, seq_length: int, alpha: float) -> None:
    assert ntk_alpha(prompt_tokens, seq_length) == alpha


@pytest.mark.parametrize(("position", "scale"), [(1, 1), (2048, 1), (4096, 1.0909), (8192, 1.1818), (16_384, 1.2727)])
def test_queries_grow_with_the_logarithm_of_their_position(position: int, scale: float) -> None:
    assert logn_scale(torch.tensor(position - 1), 2048).item() == pytest.approx(scale, abs=1e-4)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_qwen1_checkpoint(tmp_path / "Qwen-Tiny-Chat", qwen2_model().state_dict())


def load(folder: Path) -> LoadedModel:
    return load_model(resolve_checkpoint(str(folder)), CPU, lambda progress: None)


def test_a_sharded_folder_of_2023_gives_the_logits_of_its_weights(folder: Path) -> None:
    loaded = load(folder)
    ids = torch.arange(3, 60)[None]
    with torch.inference_mode():
        found, expected = loaded.model(input_ids=ids).logits, qwen2_model()(input_ids=ids).logits
    assert torch.allclose(found, expected, atol=1e-4)
    assert loaded.tokenizer.encode("Hello 你好").ids == make_tokenizer().encode("Hello 你好").ids


def test_the_engine_keeps_the_alpha_of_the_prompt_while_it_decodes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(folder)
    assert isinstance(loaded.model, Qwen1ForCausalLM)
    prompt = [3 + n % 300 for n in range(126)]  # alpha 3; the answer crosses 128 tokens, where a prompt would get 7
    expected = list(prompt)
    arguments = {"rope_alpha": loaded.model.rope_alpha(len(prompt))}
    for _ in range(6):
        with torch.inference_mode():
            logits = loaded.model(input_ids=torch.tensor([expected]), **arguments).logits[0, -1]
        expected.append(int(logits.argmax()))
    engine = Engine(loaded)
    for chunk in (512, 7, 1):
        monkeypatch.setattr(Pace, "chunk_tokens", lambda self, *numbers, chunk=chunk: chunk)
        request = Request(tuple(prompt), Sampling(max_new_tokens=6, temperature=0), frozenset(), owner=str(chunk))
        assert [item.id for item in engine.stream(request) if isinstance(item, Token)] == expected[len(prompt) :]
    engine.close()


def test_facts_of_the_checkpoint_follow_the_files(folder: Path) -> None:
    checkpoint = resolve_checkpoint(str(folder))
    assert checkpoint.is_qwen1
    assert (checkpoint.context_length, checkpoint.max_prompt_tokens) == (512, 300)
    assert "You are a helpful assistant." in checkpoint.chat_template


def test_a_missing_shard_is_refused(folder: Path) -> None:
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointDamaged):
        load(folder)


def config_of(folder: Path) -> dict[str, object]:
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(
    ("changes", "complaint"), [({"kv_channels": 8}, "kv_channels 8"), ({"rotary_pct": 0.5}, "rotary_pct 0.5"),
                               ({"no_bias": False}, "no_bias False"), ({"hidden_size": None}, "hidden_size")],
)  # fmt: skip
def test_a_variety_that_was_never_published_is_refused(
    folder: Path, changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(CheckpointUnsupported, match=complaint):
        read_config(config_of(folder) | changes)


def test_the_spellings_of_august_2023_are_read(folder: Path) -> None:
    old = config_of(folder)
    spellings = {
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "intermediate_size": "ffn_hidden_size",
        "max_position_embeddings": "n_positions",
    }
    for new_name, old_name in spellings.items():
        old[old_name] = old.pop(new_name)
    assert read_config(old).to_dict() == read_config(config_of(folder)).to_dict()
    assert read_config({**old, "vocab_size": 600, "padded_vocab_size": 640}).vocab_size == 640


def test_without_dynamic_ntk_the_window_is_the_training_length(folder: Path) -> None:
    changed = config_of(folder) | {"use_dynamic_ntk": False}
    (folder / "config.json").write_text(json.dumps(changed))
    checkpoint: Checkpoint = resolve_checkpoint(str(folder))
    assert checkpoint.context_length == 64
