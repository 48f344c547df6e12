"""A text that is continued: it grows, is stopped, fails with a sentence."""

import logging

import pytest

from model_loader.errors import GenerationFailed
from tests.scripted_model import Script, ScriptedModel
from tests.ui.web.served_page import eventually
from ui.chat.continuation import Continuation


def continue_text(script: Script, text: str = "Once ") -> tuple[Continuation, ScriptedModel]:
    model = ScriptedModel(script)
    continuation = Continuation(model, text, model.default_sampling)  # type: ignore[arg-type]
    continuation.start()
    return continuation, model


def test_the_text_goes_on_from_its_end() -> None:
    continuation, model = continue_text(Script(answer="upon a time.", tokens_per_s=500))
    eventually(lambda: continuation.has_ended)
    assert continuation.text == "Once upon a time."
    assert continuation.finish_reason == "stop"
    assert continuation.usage is not None
    assert model.num_streams == 0


def test_a_stop_keeps_what_is_written_and_frees_the_model() -> None:
    continuation, model = continue_text(Script(answer="word " * 500))
    eventually(lambda: len(continuation.text) > 20)
    continuation.stop()
    eventually(lambda: continuation.has_ended, 1)
    assert continuation.text.startswith("Once word word ")
    assert continuation.finish_reason is None
    assert model.num_streams == 0


@pytest.mark.parametrize(
    ("error", "sentence"), [(GenerationFailed("The memory ran out."), "The memory ran out."), (KeyError("secret"), "")]
)
def test_a_failure_keeps_the_text_and_says_why(
    error: Exception, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL):
        continuation, _model = continue_text(Script(fail_at=2, error=error, tokens_per_s=500))
        eventually(lambda: continuation.has_ended)
    assert continuation.text == "Once One two "
    assert continuation.error == sentence
    assert (continuation.fault_id is None) == bool(sentence)
