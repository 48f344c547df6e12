"""The chat with models that compute: the seed decides the answer, and the program answers as the README says."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_loader.chat_model import ChatModel
from tests.scripted_model import ScriptedLoad
from tests.ui.terminal.pseudo_terminal import ROOT, PseudoTerminal, chat_environment
from ui.chat.answers import Answers
from ui.chat.conversation import Settings
from ui.chat.conversations import Conversations
from ui.terminal.chat_talk import ChatTalk
from ui.terminal.talk import Running
from ui.terminal.text_talk import TextTalk


@pytest.fixture
def talk(tiny_model: ChatModel) -> Iterator[ChatTalk]:
    conversations = Conversations(lambda _id: False)
    load = ScriptedLoad(tiny_model)  # type: ignore[arg-type]
    answers = Answers(load, lambda _one: True, 0.0, conversations.save)  # type: ignore[arg-type]
    sampling = {"temperature": 1.0, "max_new_tokens": 24, "seed": 1234}
    yield ChatTalk(tiny_model, conversations, answers, Settings(sampling=sampling))
    answers.close(5)


def text_of(running: Running) -> str:
    assert running.wait(30)
    assert running.ending.state == "complete"
    return running.text


def test_the_same_seed_and_history_give_the_same_answer(talk: ChatTalk) -> None:
    first = [text_of(talk.ask(question)) for question in ("one", "two")]
    talk.clear()
    assert [text_of(talk.ask(question)) for question in ("one", "two")] == first
    assert text_of(talk.regenerate()) != first[1]
    assert "of 488 tokens" in talk.cost()


def test_a_text_is_continued_as_the_seed_says(tiny_model: ChatModel) -> None:
    talk = TextTalk(tiny_model, Settings(sampling={"temperature": 1.0, "max_new_tokens": 16, "seed": 1}))
    first = text_of(talk.ask("Once upon a time"))
    assert text_of(talk.ask("Once upon a time")) == first
    assert text_of(talk.regenerate()) != first
    talk.settings = Settings(sampling=talk.settings.sampling, stop=(first[2:4],))
    assert text_of(talk.ask("Once upon a time")) == first[: first.index(first[2:4])]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "app.py", "chat", "--cpu-only", *arguments]


def test_the_built_in_model_answers_a_pipe(tmp_path: Path) -> None:
    result = subprocess.run(
        command("-c", "builtin", "--no-history"), input=b"How do I load a bigger model?\n", capture_output=True,
        cwd=ROOT, env={**os.environ, **chat_environment(HOME=str(tmp_path))}, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr.decode()
    assert b"-c Qwen/Qwen3-4B" in result.stdout
    assert b"tokens/s" in result.stderr
    assert b"Ready: builtin" in result.stderr


def test_the_built_in_model_chats_on_a_terminal(tmp_path: Path) -> None:
    environment = {**os.environ, **chat_environment(HOME=str(tmp_path), QWEN_DEMO_SEED="7", QWEN_DEMO_SERVER_PORT="1")}
    terminal = PseudoTerminal(command("--history", str(tmp_path / "history.db")), 100, 40, environment)
    try:
        terminal.wait_for("User>", timeout_s=120)
        terminal.send("Show me a table\r")
        terminal.wait_for("tokens/s", timeout_s=60)
        terminal.send(":seed\r:quit\r")
        assert terminal.wait() == 0
        assert "The seed is 7." in terminal.text()
        assert "────" in terminal.text()
    finally:
        terminal.close()
    assert (tmp_path / "history.db").stat().st_mode & 0o077 == 0
