"""Exchanging the model from the page, in Chromium, on the built-in checkpoint and a copy of it."""

import gc
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from model_loader.background_load import BackgroundLoad
from model_loader.builtin import CHECKPOINT_FOLDER
from model_loader.checkpoint.hub import ANY_HUB
from model_loader.loading.placement import LoadOptions
from model_loader.model_menu import ModelMenu
from model_loader.open_model import open_chat_model
from tests.benchmarks.start import free_port
from tests.browser import output_folder
from ui.chat.audience import Audience
from ui.web.launch import ServedPage, launch_page
from ui.web.login.options import SharingOptions
from ui.web.options import PageOptions

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
expect = pytest.importorskip("playwright.sync_api").expect
OPTIONS = LoadOptions(cpu_only=True)
SLOW_MS = 60_000


def serve(options: PageOptions) -> ServedPage:
    load = BackgroundLoad(partial(open_chat_model, "builtin", OPTIONS))
    return launch_page(load, options, ModelMenu(load, OPTIONS, ANY_HUB))


@pytest.fixture(scope="module")
def served() -> Iterator[ServedPage]:
    page = serve(PageOptions(server_port=free_port()))
    yield page
    page.close()
    gc.collect()


def choose(page: Any, name: str) -> None:
    expect(page.locator("#model-switch")).to_be_enabled(timeout=SLOW_MS)
    box = page.locator("#model-names input")
    box.press("Control+a")
    box.press_sequentially(name)
    box.press("Enter")


def test_the_menu_tells_what_a_model_needs_before_it_is_fetched(served: ServedPage, page: Any) -> None:
    page.goto(served.url)
    page.locator("#panel .toggle-button").click()
    choose(page, "Qwen2.5-0.5B-Instruct \u00b7")
    expect(page.locator(".model-note")).to_contain_text("Reads 32,768 tokens. Licence: Apache-2.0.")
    expect(page.locator(".model-note")).to_contain_text("on cpu, because")
    page.screenshot(path=output_folder() / "model-menu.png")
    assert page.page_errors == []


def test_the_model_is_exchanged_and_comes_back_when_the_next_one_fails(
    served: ServedPage, page: Any, tmp_path: Path
) -> None:
    copy = shutil.copytree(CHECKPOINT_FOLDER, tmp_path / "second-guide")
    page.goto(served.url)
    page.locator("#panel .toggle-button").click()
    choose(page, str(copy))
    page.locator("#model-switch").click()
    expect(page.locator("#card .model-name")).to_have_text("second-guide", timeout=SLOW_MS)
    page.locator("#box textarea").fill("Hello")
    page.locator("#box textarea").press("Enter")
    expect(page.locator("#chatbot .foot:not(.live)")).to_have_count(1, timeout=SLOW_MS)
    choose(page, "/nonexistent/model")
    page.locator("#model-switch").click()
    expect(page.locator(".load-failed")).to_contain_text("There is no folder '/nonexistent/model'", timeout=SLOW_MS)
    expect(page.locator("#card .model-name")).to_have_text("second-guide", timeout=SLOW_MS)
    assert page.page_errors == []


def test_a_running_answer_ends_as_interrupted_and_keeps_what_it_has(served: ServedPage, page: Any) -> None:
    page.goto(served.url)
    page.locator("#panel .toggle-button").click()
    expect(page.locator("#model-switch")).to_be_enabled(timeout=SLOW_MS)
    conversation = served.conversations.create("f" * 32)
    answer = served.answers.ask(conversation, "Show me a table")
    answer._audience = Audience(lambda: True, 0.0)
    choose(page, "builtin")
    page.locator("#model-switch").click()
    expect(page.locator("#card .model-name")).to_have_text("builtin", timeout=SLOW_MS)
    assert answer.wait(10)
    assert conversation.path()[-1].state in ("interrupted", "complete")


def test_where_others_reach_the_page_the_model_stays(page: Any) -> None:
    assert PageOptions("0.0.0.0", 9000).may_switch_model is False
    assert PageOptions("0.0.0.0", 9000, allow_model_switch=True).may_switch_model is True
    served = serve(PageOptions("0.0.0.0", free_port(), sharing=SharingOptions(is_public=True)))
    try:
        page.goto(served.url.replace("0.0.0.0", "127.0.0.1"))
        page.locator("#panel .toggle-button").click()
        expect(page.locator("#card .model-name")).to_have_text("builtin", timeout=SLOW_MS)
        assert page.locator("#model-switch").count() == 0
    finally:
        served.close()
