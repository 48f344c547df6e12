"""The training program: two steps on a small budget give a checkpoint that loads and answers."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

from model_loader.builtin.batches import IGNORED, DialogueEncoder, training_batches
from model_loader.builtin.corpus import read_corpus
from model_loader.builtin.evaluate import load
from model_loader.builtin.tokenizer import train_tokenizer, with_dropout
from model_loader.chat_format.chatml import ChatML
from model_loader.chat_format.messages import Message

_TEXTS = ["Hello, how are you?", "user", "assistant", "system"] * 50


def test_two_steps_give_a_checkpoint_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "checkpoint"
    arguments = ["--steps", "2", "--output", str(folder), "--device", "cpu", "--skip-evaluation"]
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    runpy.run_module("model_loader.builtin.train", run_name="__main__")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    model, tokenizer = load(folder)
    ids = torch.tensor([ChatML(tokenizer).render([Message("user", "Hello")])])
    assert model(ids).logits.shape == (1, ids.shape[1], tokenizer.get_vocab_size())
    assert "2 steps" in (folder / "README.md").read_text(encoding="utf-8")


def test_training_rows_are_what_the_application_sends() -> None:
    tokenizer = train_tokenizer(_TEXTS, 272)
    chatml = ChatML(tokenizer)
    dialogue = [Message("user", "Hello"), Message("assistant", "Fine."), Message("user", "\nand you?")]
    ids, labels = DialogueEncoder(tokenizer).encode([*dialogue, Message("assistant", "Me too.")])
    prompt = chatml.render(dialogue)
    assert ids[: len(prompt)] == prompt
    learned = [each for each in labels if each != IGNORED]
    end = chatml.encode_message(Message("assistant", ""))[-1:]
    assert learned == [*chatml.encode_text("Fine."), *end, *chatml.encode_text("Me too."), *end]
    assert len(ids) == len(labels)


def test_left_out_merges_spell_the_same_text() -> None:
    tokenizer = train_tokenizer(_TEXTS, 272)
    noisy = with_dropout(tokenizer, 0.5)
    spellings = {tuple(noisy.encode("Hello, how are you?").ids) for _ in range(20)}
    assert len(spellings) > 1
    assert {tokenizer.decode(list(ids)) for ids in spellings} == {"Hello, how are you?"}


def test_batches_keep_to_their_size() -> None:
    tokenizer = train_tokenizer(_TEXTS, 272)
    batches = training_batches(read_corpus(), tokenizer, seed=0, batch_tokens=4096, context_length=512)
    for _ in range(20):
        batch = next(batches)
        assert batch.ids.shape == batch.labels.shape
        assert batch.ids.numel() <= 4096
        assert batch.num_tokens <= batch.ids.numel()
        assert (batch.labels[batch.labels != IGNORED] == batch.ids[batch.labels != IGNORED]).all()
