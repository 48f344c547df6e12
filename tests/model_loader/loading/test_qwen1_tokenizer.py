"""Qwen-1's vocabulary: the ids of 2023, tiktoken as the oracle, and one line for a damaged file."""

import base64
import json
import unicodedata
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from model_loader.chat_format.chatml import ChatML
from model_loader.chat_format.messages import Message
from model_loader.errors import CheckpointDamaged
from model_loader.loading import qwen1_tokenizer
from model_loader.loading.qwen1_tokenizer import (
    SPECIAL_TOKENS,
    convert_vocabulary,
    load_qwen1_tokenizer,
    read_ranks,
)
from tests.qwen1_checkpoint import vocabulary_text
from tests.reference_data import FOLDER, needs_reference_data
from tests.tiny_checkpoint import make_tokenizer

LINES = vocabulary_text(make_tokenizer()).splitlines()


def oracle_of(file: Path) -> tiktoken.Encoding:
    ranks = dict(read_ranks(file))
    special = {token: len(ranks) + n for n, token in enumerate(SPECIAL_TOKENS)}
    return tiktoken.Encoding("qwen", pat_str=qwen1_tokenizer._PATTERN, mergeable_ranks=ranks, special_tokens=special)


@pytest.fixture(scope="module")
def real() -> tuple[Tokenizer, tiktoken.Encoding]:
    file = FOLDER / "qwen.tiktoken"
    return convert_vocabulary(read_ranks(file)), oracle_of(file)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    write(folder, LINES)
    return folder


def write(folder: Path, lines: list[str], name: str = "qwen.tiktoken") -> None:
    (folder / name).write_text("".join(f"{line}\n" for line in lines))


def load(folder: Path) -> Tokenizer:
    return load_qwen1_tokenizer(folder, lambda progress: None)


@needs_reference_data
def test_ids_are_those_of_2023(real: tuple[Tokenizer, tiktoken.Encoding]) -> None:
    tokenizer, _oracle = real
    chat_format = ChatML(tokenizer)
    golden = json.loads((FOLDER / "tokenizer_golden.json").read_text())
    for case in golden["control"]:
        assert tokenizer.encode(case["text"]).ids == case["ids"]
    for case in golden["plain"]:
        assert chat_format.encode_text(case["text"]) == case["ids"]
    for case in golden["chatml"]:
        turns = [Message("system", case["system"])]
        for question, answer in case["history"]:
            turns += [Message("user", question), Message("assistant", answer)]
        assert chat_format.render([*turns, Message("user", case["query"])]) == case["ids"]


@needs_reference_data
def test_the_control_tokens_have_their_ids(real: tuple[Tokenizer, tiktoken.Encoding]) -> None:
    tokenizer, _oracle = real
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(151_643, 151_851))
    assert len(SPECIAL_TOKENS) == 208


@needs_reference_data
@given(st.text(st.characters(codec="utf-8"), max_size=80))
def test_any_text_has_tiktokens_ids(real: tuple[Tokenizer, tiktoken.Encoding], text: str) -> None:
    tokenizer, oracle = real
    expected = oracle.encode(unicodedata.normalize("NFC", text), disallowed_special=(), allowed_special="all")
    assert tokenizer.encode(text).ids == expected
    assert tokenizer.decode(expected, skip_special_tokens=False) == oracle.decode(expected)


@needs_reference_data
def test_broken_bytes_decode_to_a_replacement_character(real: tuple[Tokenizer, tiktoken.Encoding]) -> None:
    tokenizer, _oracle = real
    assert tokenizer.decode([51_461]) == " \ufffd"
    assert tokenizer.decode([51_461, 117]) == " 根"


@given(st.text(st.sampled_from("The quick brown fox 你好，我是こんにちは\n"), max_size=60))
def test_a_made_vocabulary_has_tiktokens_ids(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "made.tiktoken"
    if not file.exists():
        file.write_text("".join(f"{line}\n" for line in LINES))
    tokenizer = convert_vocabulary(read_ranks(file))
    expected = oracle_of(file).encode(unicodedata.normalize("NFC", text), disallowed_special=())
    assert tokenizer.encode(text).ids == expected


def test_the_conversion_is_cached_by_content(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(folder)
    monkeypatch.setattr(qwen1_tokenizer, "convert_vocabulary", lambda *_: pytest.fail("converted again"))
    assert load(folder).to_str() == first.to_str()
    write(folder, LINES[:-1])
    with pytest.raises(pytest.fail.Exception, match="converted again"):
        load(folder)


def test_a_damaged_or_unwritable_cache_does_no_harm(folder: Path, tmp_path: Path) -> None:
    expected = load(folder).to_str()
    (cached,) = (tmp_path / "cache" / "qwen-chat" / "tokenizers").iterdir()
    cached.write_text("{")
    assert load(folder).to_str() == expected
    assert cached.read_text() == expected
    cached.unlink()
    cached.parent.rmdir()
    cached.parent.write_text("a file stands where the folder should be")
    assert load(folder).to_str() == expected


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "0 ranks|single byte"),
        (["!!! x"], "Error parsing line"),
        (["IQ== 0 3"], "Error parsing line"),
        ([*LINES[:50], LINES[50].split()[0] + " 49", *LINES[51:]], "occurs twice"),
        ([*LINES[:50], LINES[49].split()[0] + " 50", *LINES[51:]], "occurs twice"),
        (LINES[:300] + LINES[301:], "ranks are not 0 to 398"),
        ([LINES[0].split()[0] + " -1", *LINES[1:]], "ranks are not 0"),
        (LINES[1:], "ranks are not 0"),
        ([*LINES, base64.b64encode("ΩΩΩ≈ç".encode()).decode() + " 400"], "1 tokens are not merged"),
        ([*LINES, " 400"], "Error parsing line"),
    ],
    ids=range(10),
)
def test_a_damaged_vocabulary_is_one_clear_line(folder: Path, lines: list[str], complaint: str) -> None:
    write(folder, lines)
    with pytest.raises(CheckpointDamaged, match=complaint) as caught:
        load(folder)
    assert "qwen.tiktoken" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_windows_line_ends_are_read(folder: Path) -> None:
    expected = load(folder).to_str()
    (folder / "qwen.tiktoken").write_bytes("".join(f"{line}\r\n" for line in LINES).encode())
    assert load(folder).to_str() == expected


def test_a_missing_vocabulary_is_named(folder: Path) -> None:
    (folder / "qwen.tiktoken").unlink()
    with pytest.raises(CheckpointDamaged, match=r"qwen\.tiktoken cannot be read"):
        load(folder)


def test_an_extra_vocabulary_adds_tokens_behind_the_control_tokens(folder: Path) -> None:
    first_free = len(LINES) + len(SPECIAL_TOKENS)
    extra = {b"zebra": first_free, b"fox": first_free + 1, b"taken": 5}
    write(folder, [f"{base64.b64encode(token).decode()} {rank}" for token, rank in extra.items()], "more.tiktoken")
    (folder / "tokenizer_config.json").write_text('{"extra_vocab_file": "more.tiktoken"}')
    tokenizer = load(folder)
    assert tokenizer.encode("zebra").ids == [first_free]
    assert tokenizer.token_to_id("<|im_start|>") == len(LINES) + 1
    assert tokenizer.decode(tokenizer.encode("taken zebra<|im_end|>").ids) == "taken zebra"


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", 5, "gone.tiktoken"])
def test_an_extra_vocabulary_elsewhere_is_refused(folder: Path, name: object) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"extra_vocab_file": name}))
    with pytest.raises(CheckpointDamaged):
        load(folder)
