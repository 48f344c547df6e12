"""A Qwen-1 chat folder answers through the same door as any other checkpoint."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers

from model_loader.chat_format.messages import Message
from model_loader.chat_model import ChatModel
from model_loader.engine.request import Sampling
from model_loader.errors import ContextLengthExceeded
from model_loader.events import Finished
from model_loader.loading.placement import LoadOptions
from model_loader.open_model import open_chat_model
from tests.qwen1_checkpoint import write_qwen1_checkpoint


def write_folder(folder: Path) -> Path:
    torch.manual_seed(5)
    config = transformers.Qwen2Config(
        vocab_size=640, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, initializer_range=0.3,
    )  # fmt: skip
    return write_qwen1_checkpoint(folder, transformers.Qwen2ForCausalLM(config).state_dict())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield write_folder(tmp_path_factory.mktemp("qwen1") / "Qwen-Tiny-Chat")


@pytest.fixture(scope="module")
def chat_model(folder: Path) -> Iterator[ChatModel]:
    model = open_chat_model(str(folder), LoadOptions(cpu_only=True), lambda progress: None)
    yield model
    model.close()


def test_it_answers_with_the_defaults_of_its_files(chat_model: ChatModel) -> None:
    assert chat_model.default_system == "You are a helpful assistant."
    assert chat_model.default_sampling == Sampling(max_new_tokens=64, top_p=0.8)
    events = list(chat_model.stream([Message("user", "你好")], chat_model.default_sampling.changed(seed=1)))
    assert isinstance(events[-1], Finished)


def test_prompts_are_held_to_max_window_size(chat_model: ChatModel) -> None:
    short = Sampling(max_new_tokens=10)
    with pytest.raises(ContextLengthExceeded, match="reads 310 at most"):
        list(chat_model.stream([Message("user", "x" * 400)], short))
    turns = [Message("user", "x" * 200), Message("assistant", "y" * 100), Message("user", "z")]
    assert chat_model.fit(turns, short).left_out == 2


def test_the_long_context_methods_can_be_switched(folder: Path) -> None:
    options = LoadOptions(cpu_only=True, long_context="none")
    model = open_chat_model(str(folder), options, lambda progress: None)
    model.close()
    assert model.context_length == 64
