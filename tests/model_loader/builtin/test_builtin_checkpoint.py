"""The shipped checkpoint: a standard one, small enough, and it does what its card says."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM

from model_loader.builtin import CHECKPOINT_FOLDER
from model_loader.builtin.corpus import read_corpus
from model_loader.builtin.evaluate import Evaluation, evaluate, load
from model_loader.builtin.tokenizer import CONTROL_TOKENS, ROLES
from model_loader.chat_format.chatml import ChatML
from model_loader.chat_format.messages import Message

RIGHT_TOPIC, REFUSED = 0.84, 0.89
"""A little less than what the shipped weights reach (0.86 and 0.91); training that reaches more raises the line."""
_MAX_BYTES = 20 * 1000 * 1000


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(CHECKPOINT_FOLDER / "tokenizer.json"))


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate(*load(CHECKPOINT_FOLDER), read_corpus())


def test_the_folder_is_complete_and_small() -> None:
    names = {path.name for path in CHECKPOINT_FOLDER.iterdir()}
    assert names == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(path.stat().st_size for path in CHECKPOINT_FOLDER.iterdir()) <= _MAX_BYTES


def test_it_is_a_standard_qwen2_checkpoint() -> None:
    model = AutoModelForCausalLM.from_pretrained(CHECKPOINT_FOLDER, trust_remote_code=False)
    assert type(model) is Qwen2ForCausalLM
    assert model.dtype == torch.bfloat16
    assert not json.loads((CHECKPOINT_FOLDER / "config.json").read_text()).get("auto_map")


def test_every_matrix_has_widths_that_are_multiples_of_128() -> None:
    with safe_open(CHECKPOINT_FOLDER / "model.safetensors", framework="pt") as weights:
        for name in weights.keys():  # noqa: SIM118 - a safetensors file is no dictionary
            shape = weights.get_slice(name).get_shape()
            assert all(width % 128 == 0 for width in shape), (name, shape)


def test_control_tokens_and_roles_are_single_tokens(tokenizer: Tokenizer) -> None:
    for word in (*CONTROL_TOKENS, *ROLES, "\n"):
        assert len(tokenizer.encode(word).ids) == 1, word


def test_the_vocabulary_has_the_size_that_the_config_says(tokenizer: Tokenizer) -> None:
    config = json.loads((CHECKPOINT_FOLDER / "config.json").read_text())
    assert config["vocab_size"] == tokenizer.get_vocab_size() == len(AutoTokenizer.from_pretrained(CHECKPOINT_FOLDER))


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_any_text_comes_back_unchanged(text: str) -> None:
    tokenizer = Tokenizer.from_file(str(CHECKPOINT_FOLDER / "tokenizer.json"))
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_transformers_reads_the_same_tokenizer(tokenizer: Tokenizer) -> None:
    # Composed characters only: transformers takes its Qwen2 class for any Qwen2 model, and that composes first.
    fast = AutoTokenizer.from_pretrained(CHECKPOINT_FOLDER, trust_remote_code=False)
    for text in ("Hello, world!", "你好，世界", "é ≠ e", " spaces  and\n\nlines\t", "🙂👩‍🚀 नमस्ते"):
        ids = tokenizer.encode(text).ids
        assert fast.encode(text) == ids
        assert fast.decode(ids) == text


def test_the_chat_template_gives_the_ids_of_the_application(tokenizer: Tokenizer) -> None:
    fast = AutoTokenizer.from_pretrained(CHECKPOINT_FOLDER)
    messages = [
        Message("system", "Be brief."),
        Message("user", "Hello"),
        Message("assistant", "Hi"),
        Message("user", "你好"),
    ]
    text = fast.apply_chat_template(
        [{"role": message.role, "content": message.content} for message in messages],
        tokenize=False,
        add_generation_prompt=True,
    )
    chatml = ChatML(tokenizer, fast.chat_template)
    assert tokenizer.encode(text).ids == chatml.render(messages)
    assert chatml.default_system == ""


def test_it_knows_its_topics_in_words_it_was_never_trained_on(evaluation: Evaluation) -> None:
    print(evaluation.table())
    assert evaluation.share_right("paraphrase") >= RIGHT_TOPIC


def test_it_refuses_what_it_does_not_know(evaluation: Evaluation) -> None:
    assert len(evaluation.select("refusal")) == 100
    assert evaluation.share_right("refusal") >= REFUSED


def test_no_reply_runs_into_the_length_limit(evaluation: Evaluation) -> None:
    assert evaluation.num_cut_off == 0
