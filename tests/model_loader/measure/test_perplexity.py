"""Perplexity against the formula in float64, and what is refused."""

import math
from pathlib import Path

import pytest
import torch
import transformers

from model_loader.checkpoint.hub import HubOptions
from model_loader.errors import InvalidSetting
from model_loader.loading.placement import LoadOptions
from model_loader.measure.perplexity import OWN_METHOD, QWEN1_METHODS, PerplexityRow, measure_perplexity
from tests.qwen1_checkpoint import qwen2_model, write_qwen1_checkpoint
from tests.qwen1_reference import reference_logprobs
from tests.tiny_checkpoint import make_tokenizer, write_tiny_checkpoint

FP32 = LoadOptions("fp32", cpu_only=True)
TEXT = "The quick brown fox 你好 jumps over the lazy dog and talks about it.\n" * 12
TRAINED = 16
LENGTHS = (16, 40, 100)


def measure(name: Path, text: Path, lengths: tuple[int, ...] = LENGTHS, max_pieces: int = 100) -> list[PerplexityRow]:
    rows = measure_perplexity(
        str(name), [text], lengths, FP32, HubOptions(), lambda what, share: None, max_pieces=max_pieces
    )
    return list(rows)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    return file


def test_every_method_of_qwen1_is_the_formula(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    weights = qwen2_model(num_layers=4).state_dict()
    folder = write_qwen1_checkpoint(tmp_path / "Qwen-Tiny", weights, seq_length=TRAINED)
    ids = make_tokenizer().encode(TEXT, add_special_tokens=False).ids
    rows = measure(folder, text)
    assert [(row.method, row.length) for row in rows] == [(each, n) for each in QWEN1_METHODS for n in LENGTHS]
    for row in rows:
        methods = frozenset(row.method.split(",")) - {"none"}
        pieces = [tuple(ids[at : at + row.length]) for at in range(0, len(ids) - row.length + 1, row.length)]
        assert row.num_pieces == len(pieces)
        total = sum(float(reference_logprobs(weights, piece, TRAINED, methods).sum()) for piece in pieces)
        expected = math.exp(-total / (len(pieces) * (row.length - 1)))
        assert row.perplexity == pytest.approx(expected, rel=2e-4)


def test_another_checkpoint_has_one_row_for_each_length(tmp_path: Path, text: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "tiny")
    rows = measure(folder, text, (32, 64), max_pieces=2)
    assert [(row.method, row.length, row.num_pieces) for row in rows] == [(OWN_METHOD, 32, 2), (OWN_METHOD, 64, 2)]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    ids = make_tokenizer().encode(TEXT, add_special_tokens=False).ids
    for row in rows:
        pieces = torch.tensor(ids[: 2 * row.length]).view(2, row.length)
        with torch.inference_mode():
            loss = float(model(input_ids=pieces, labels=pieces).loss)
        assert row.perplexity == pytest.approx(math.exp(loss), rel=2e-4)


def test_a_long_text_is_read_in_blocks(tmp_path: Path) -> None:
    long = tmp_path / "long.txt"
    long.write_text(TEXT * 200, encoding="utf-8")
    (row,) = measure(write_tiny_checkpoint(tmp_path / "tiny"), long, (64,), max_pieces=3)
    assert row.num_pieces == 3


def test_what_cannot_be_measured_is_refused(tmp_path: Path, text: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "tiny")
    with pytest.raises(InvalidSetting, match="The texts are shorter than 4,000 tokens"):
        measure(folder, text, (4000,))
    with pytest.raises(InvalidSetting, match="from 2 to 131,072"):
        measure(folder, text, (1,))
    with pytest.raises(InvalidSetting, match="There is no file"):
        measure(folder, tmp_path / "nothing")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidSetting, match="cannot be read as UTF-8"):
        measure(folder, binary)
