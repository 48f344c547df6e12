"""How an answer was made: the same request for other programs, and what differs the second time."""

import json
import shlex
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from model_loader.chat_format.messages import Message
from model_loader.engine.request import Sampling
from tests.scripted_model import Script, ScriptedModel, many_words
from tests.ui.web.served_page import eventually
from ui.chat.audience import Audience
from ui.chat.message import StoredMessage
from ui.chat.receipt import Receipt, as_curl, as_python, first_difference, make_receipt, request_body
from ui.chat.reproduction import Reproduction

MESSAGES = [Message("system", "Be brief."), Message("user", 'It\'s "quoted" `$x` 你好\nand more')]
URL = "http://127.0.0.1:8000/"


def receipt_of(model: Any, **changes: Any) -> Receipt:
    sampling = Sampling(max_new_tokens=50, temperature=0.5, min_p=0.1, seed=7)
    values = {"stop": ("END",), "prefill": "", "thinking": None, **changes}
    return make_receipt(model, "Be brief.", sampling, **values)


def test_the_body_says_what_was_asked_and_leaves_out_what_changes_nothing() -> None:
    body = request_body(receipt_of(ScriptedModel()), MESSAGES)
    assert body["messages"][1] == {"role": "user", "content": MESSAGES[1].content}
    assert (body["max_tokens"], body["temperature"], body["seed"], body["min_p"]) == (50, 0.5, 7, 0.1)
    assert "presence_penalty" not in body
    assert body["stop"] == ["END"]


def test_a_beginning_becomes_a_message_to_continue() -> None:
    body = request_body(receipt_of(ScriptedModel(), prefill="Sure", thinking=False), MESSAGES)
    assert body["messages"][-1] == {"role": "assistant", "content": "Sure"}
    assert body["continue_final_message"] is True
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


def test_the_command_for_a_shell_keeps_every_character() -> None:
    body = request_body(receipt_of(ScriptedModel()), MESSAGES)
    words = shlex.split(as_curl(body, URL).replace("\\\n", ""))
    assert words[1] == "http://127.0.0.1:8000/v1/chat/completions"
    assert json.loads(words[words.index("-d") + 1]) == body


def test_the_python_program_asks_for_the_same() -> None:
    body = request_body(receipt_of(ScriptedModel(), thinking=False), MESSAGES)
    asked: dict[str, Any] = {}

    def create(**given: Any) -> Any:
        asked.update(given)
        return SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content="yes"))])

    client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    program = as_python(body, URL).replace("from openai import OpenAI", "")
    exec(compile(program, "program", "exec"), {"OpenAI": lambda base_url, api_key: client, "print": lambda _text: None})
    extra = asked.pop("extra_body")
    assert {**asked, **extra} == body


@pytest.mark.parametrize(
    ("one", "other", "at"), [("", "", None), ("ab", "ab", None), ("ab", "ac", 1), ("ab", "abc", 2)]
)
def test_the_first_difference(one: str, other: str, at: int | None) -> None:
    assert first_difference(one, other) == at


@pytest.mark.parametrize(
    ("then", "now", "state", "difference"),
    [
        ("one two", "one two", "complete", None),
        ("one two", "one three", "complete", 5),
        ("one two", "one two three", "complete", 7),
        ("one two", "one two three", "stopped", None),
        ("one two three", "one two", "complete", 7),
    ],
)
def test_a_second_run_is_compared_with_the_first(then: str, now: str, state: Any, difference: int | None) -> None:
    model: Any = ScriptedModel(Script(answer=now, tokens_per_s=2000))
    answer = StoredMessage("assistant", then, state=state)
    run = Reproduction(model, answer, MESSAGES, receipt_of(model), Audience(lambda: True, 0.0))
    run.start()
    run._thread.join(5)
    assert run.error == ""
    assert run.difference == difference
    assert model.samplings[-1].seed == 7


def test_a_second_run_ends_when_nobody_has_listened_for_a_while() -> None:
    text = many_words(2000)
    model: Any = ScriptedModel(Script(answer=text, tokens_per_s=200))
    is_there = threading.Event()
    is_there.set()
    audience = Audience(is_there.is_set, 0.1)
    run = Reproduction(model, StoredMessage("assistant", text), MESSAGES, receipt_of(model), audience)
    run.start()
    eventually(lambda: run.num_tokens > 40)  # for longer than the audience may be away
    is_there.clear()
    before = run.num_tokens
    run._thread.join(5)
    assert run.has_ended
    assert run.num_tokens - before > 2
    assert model.num_streams == 0


def test_a_request_too_long_for_an_argument_goes_through_standard_input() -> None:
    body = {"messages": [{"role": "user", "content": "it's\nEND\n" + "x" * 150_000}]}
    opening, data = as_curl(body, URL).split("-d @- <<'END'\n")
    assert opening.startswith("curl http://127.0.0.1:8000/v1/chat/completions")
    assert data.split("\n").count("END") == 1  # the shell reads as far as this line
    assert json.loads(data.removesuffix("END\n")) == body
