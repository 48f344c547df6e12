"""Every kind of handler stays what it is behind the shield, and none shows a user what went wrong inside."""

import asyncio
import inspect
from collections.abc import AsyncIterator

import gradio as gr
import pytest

from ui.web.shield import _shielded


def answers_at_once(text: str) -> str:
    return text.removeprefix("x")


async def answers_later(text: str) -> str:
    return answers_at_once(text)


async def streams(text: str) -> AsyncIterator[str]:
    yield answers_at_once(text)


async def collected(text: str) -> list[str]:
    return [piece async for piece in _shielded(streams)(text)]


def test_each_kind_of_handler_stays_what_it_is() -> None:
    assert _shielded(answers_at_once)("xa") == "a"
    assert asyncio.run(_shielded(answers_later)("xa")) == "a"
    assert asyncio.run(collected("xa")) == ["a"]
    assert inspect.iscoroutinefunction(_shielded(answers_later))
    assert inspect.isasyncgenfunction(_shielded(streams))


def test_a_fault_names_its_entry_in_the_log_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    secret: list[object] = ["a secret text"]
    for call in (
        lambda: _shielded(answers_at_once)(secret),
        lambda: asyncio.run(_shielded(answers_later)(secret)),
        lambda: asyncio.run(collected(secret)),  # type: ignore[arg-type]
    ):
        with pytest.raises(gr.Error) as raised:
            call()
        assert "removeprefix" not in str(raised.value)
    assert "secret" not in caplog.text
    assert caplog.text.count("fault ") >= 3
