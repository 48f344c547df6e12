"""A model on its way: progress, the model or a sentence, and closing at any moment."""

import logging
import threading

import pytest

from model_loader.background_load import BackgroundLoad
from model_loader.chat_model import ChatModel
from model_loader.errors import CheckpointNotFound
from model_loader.progress import LoadProgress, ReportProgress


class ScriptedModel:
    """Knows only whether it was closed."""

    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


def load_of(open_model: object) -> BackgroundLoad:
    load = BackgroundLoad(open_model)  # type: ignore[arg-type]
    load.start()
    return load


def test_the_model_is_there_when_the_load_has_ended(tiny_model: ChatModel) -> None:
    load = load_of(lambda report: tiny_model)
    assert load.wait(5) is tiny_model
    assert load.progress == LoadProgress("ready", 1.0)
    assert load.error is None


def test_progress_is_the_latest_report() -> None:
    go_on = threading.Event()
    reported = threading.Event()

    def open_model(report: ReportProgress) -> ScriptedModel:
        report(LoadProgress("weights", 0.5))
        reported.set()
        go_on.wait(5)
        return ScriptedModel()

    load = load_of(open_model)
    assert reported.wait(5)
    assert load.progress == LoadProgress("weights", 0.5)
    assert load.chat_model is None
    go_on.set()
    assert load.wait(5)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (CheckpointNotFound("There is no folder 'x'."), "There is no folder 'x'."),
        (KeyError("/secret"), "program's log"),
    ],
)
def test_a_failed_load_leaves_a_sentence(error: Exception, message: str, caplog: pytest.LogCaptureFixture) -> None:
    def open_model(report: ReportProgress) -> ScriptedModel:
        raise error

    with caplog.at_level(logging.CRITICAL):
        load = load_of(open_model)
        assert load.wait(5) is None
    assert message in (load.error or "")
    assert "secret" not in (load.error or "")


def test_closing_during_the_load_closes_the_model_when_it_comes() -> None:
    model, go_on = ScriptedModel(), threading.Event()

    def open_model(report: ReportProgress) -> ScriptedModel:
        go_on.wait(5)
        return model

    load = load_of(open_model)
    load.close()
    go_on.set()
    load.wait(5)
    assert model.is_closed


def test_closing_after_the_load_closes_the_model() -> None:
    model = ScriptedModel()
    load = load_of(lambda report: model)
    load.wait(5)
    load.close()
    assert model.is_closed
