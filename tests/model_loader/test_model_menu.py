"""The models that may be chosen while the program runs."""

from collections.abc import Iterator

import pytest

from model_loader.background_load import BackgroundLoad
from model_loader.checkpoint.hub import HubOptions
from model_loader.errors import InvalidSetting
from model_loader.loading.placement import LoadOptions
from model_loader.model_menu import ModelMenu
from model_loader.open_model import open_chat_model

OPTIONS = LoadOptions(cpu_only=True)


@pytest.fixture(scope="module")
def load() -> Iterator[BackgroundLoad]:
    load = BackgroundLoad(lambda report: open_chat_model("builtin", OPTIONS, report))
    load.start()
    assert load.wait(60) is not None
    yield load
    load.close()


@pytest.fixture
def menu(load: BackgroundLoad) -> ModelMenu:
    return ModelMenu(load, OPTIONS, HubOptions())


def test_every_model_of_the_menu_says_what_it_needs(menu: ModelMenu) -> None:
    estimates = menu.estimates()
    assert estimates[0].entry.name.startswith("Qwen/Qwen3.5"), "the newest come first"
    assert all(each.reason for each in estimates)
    assert menu.current == "builtin"


def test_one_name_can_be_asked_about(menu: ModelMenu) -> None:
    estimate = menu.estimate("qwen/qwen2.5-0.5b-instruct")
    assert estimate is not None
    assert estimate.entry.name == "Qwen/Qwen2.5-0.5B-Instruct"
    assert menu.estimate("/some/folder") is None


@pytest.mark.parametrize("name", ["", "  ", "x" * 301])
def test_what_is_no_name_is_refused_and_the_model_stays(menu: ModelMenu, load: BackgroundLoad, name: str) -> None:
    running = load.chat_model
    with pytest.raises(InvalidSetting, match="is no model"):
        menu.choose(name)
    assert load.chat_model is running


def test_a_folder_that_does_not_exist_leaves_a_notice_and_the_old_model(menu: ModelMenu, load: BackgroundLoad) -> None:
    menu.choose("/nonexistent/folder")
    chat_model = load.wait(60)
    assert chat_model is not None
    assert chat_model.name == "builtin"
    assert "There is no folder '/nonexistent/folder'" in (load.notice or "")
