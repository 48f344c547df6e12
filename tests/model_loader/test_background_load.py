"""A model on its way: progress, the model or a sentence, and closing at any moment."""

import logging
import threading
import weakref

import psutil
import pytest

from model_loader.background_load import BackgroundLoad
from model_loader.chat_model import ChatModel
from model_loader.errors import CheckpointNotFound, InvalidSetting
from model_loader.loading.hardware import give_back_memory
from model_loader.loading.placement import LoadOptions
from model_loader.open_model import open_chat_model
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
    assert load.error_class == ("CheckpointNotFound" if "folder" in message else "")
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


def test_nobody_holds_the_old_model_while_the_new_one_is_loaded() -> None:
    held: list[weakref.ref[ScriptedModel]] = []
    was_held: list[bool] = []

    def open_first(report: ReportProgress) -> ScriptedModel:
        model = ScriptedModel()
        held.append(weakref.ref(model))
        return model

    def open_second(report: ReportProgress) -> ScriptedModel:
        was_held.append(held[0]() is not None)
        return ScriptedModel()

    load = load_of(open_first)
    load.wait(5)
    load.switch(open_second)  # type: ignore[arg-type]
    assert load.wait(5)
    assert was_held == [False]


def test_another_model_takes_the_place_of_one_that_is_closed_first() -> None:
    first, second = ScriptedModel(), ScriptedModel()
    was_closed_first: list[bool] = []

    def open_second(report: ReportProgress) -> ScriptedModel:
        was_closed_first.append(first.is_closed)
        return second

    load = load_of(lambda report: first)
    load.wait(5)
    load.switch(open_second)  # type: ignore[arg-type]
    assert load.wait(5) is second
    assert was_closed_first == [True]
    assert load.notice is None


def test_a_model_that_fails_gives_the_place_back() -> None:
    opened: list[ScriptedModel] = []

    def open_first(report: ReportProgress) -> ScriptedModel:
        opened.append(ScriptedModel())
        return opened[-1]

    def fail(report: ReportProgress) -> ScriptedModel:
        raise CheckpointNotFound("There is no folder 'x'.")

    load = load_of(open_first)
    load.wait(5)
    load.switch(fail)  # type: ignore[arg-type]
    assert load.wait(5) is opened[1]
    assert opened[0].is_closed
    assert (load.error, load.notice) == (None, "There is no folder 'x'.")
    load.switch(open_first)  # type: ignore[arg-type]
    load.wait(5)
    assert load.notice is None


def test_while_a_model_is_on_its_way_no_other_is_taken() -> None:
    go_on = threading.Event()

    def open_model(report: ReportProgress) -> ScriptedModel:
        go_on.wait(5)
        return ScriptedModel()

    load = load_of(open_model)
    with pytest.raises(InvalidSetting, match="still being loaded"):
        load.switch(open_model)  # type: ignore[arg-type]
    go_on.set()
    load.wait(5)


@pytest.mark.timed
def test_switches_leave_memory_where_it_was() -> None:
    """The process' own memory, once the first switches have filled every cache."""
    options = LoadOptions(cpu_only=True)

    def open_model(report: ReportProgress) -> ChatModel:
        return open_chat_model("builtin", options, report)

    load = BackgroundLoad(open_model)
    load.start()
    load.wait(60)
    process = psutil.Process()
    try:
        taken = []
        for _ in range(14):
            load.switch(open_model)
            assert load.wait(60) is not None
            give_back_memory()
            taken.append(process.memory_info().rss)
    finally:
        load.close()
    kept = min(taken[9:]) - min(taken[4:9])  # single values swing with what the allocators hold back
    assert kept < 40_000_000, f"two models' weights are left: {[each // 1_000_000 for each in taken]} MB"
