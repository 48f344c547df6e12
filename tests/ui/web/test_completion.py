"""The mode for base checkpoints, in a browser: a text is continued in place, stopped and undone."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.scripted_model import Script, ScriptedModel
from tests.ui.web.served_page import Served, eventually, shoot

pytestmark = [
    pytest.mark.usefixtures("nothing_is_wrong_in_the_browser"),
    # Gradio leaves its event loop and some sockets to the garbage collector when a page is closed.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
expect = pytest.importorskip("playwright.sync_api").expect
STORY = "The lighthouse keeper had not spoken for a year. "


@pytest.fixture
def base(serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch) -> Served:
    monkeypatch.setattr(ScriptedModel, "is_completion_model", True)
    return serve(Script(answer="Then, one evening, a boat came in without lights.", tokens_per_s=100))


def test_a_base_model_continues_a_text_in_place(base: Served, page: Any) -> None:
    base.open(page)
    draft = page.locator("#draft textarea")
    expect(draft).to_be_visible()
    expect(page.locator("#composer")).not_to_be_visible()
    draft.fill(STORY)
    page.click("#continue")
    expect(draft).to_have_value(STORY + "Then, one evening, a boat came in without lights.")
    expect(page.locator("#completion-facts")).to_contain_text("tokens/s")
    assert base.model.prompts[-1][-1].content == STORY
    shoot(page, "completion")
    draft.press("Control+Enter")
    expect(draft).to_have_value(STORY + 2 * "Then, one evening, a boat came in without lights.")
    page.click("#undo-draft")
    expect(draft).to_have_value(STORY + "Then, one evening, a boat came in without lights.")
    page.click("#undo-draft")
    expect(draft).to_have_value(STORY)


def test_a_continuation_can_be_stopped_and_changed_by_hand(base: Served, page: Any) -> None:
    base.begin_again(Script(answer="on and " * 400, tokens_per_s=40))
    base.open(page)
    draft = page.locator("#draft textarea")
    draft.fill(STORY)
    page.click("#continue")
    eventually(lambda: len(draft.input_value()) > len(STORY) + 20)
    page.click("#stop-draft")
    expect(page.locator("#continue")).to_be_visible()
    eventually(lambda: base.model.num_streams == 0, 2)
    stopped = draft.input_value()
    assert stopped.startswith(STORY + "on and ")
    draft.fill("Another text. ")
    base.begin_again(Script(answer="Its end.", tokens_per_s=100))
    page.click("#continue")
    expect(draft).to_have_value("Another text. Its end.")


def test_a_base_model_can_still_be_chatted_with(base: Served, page: Any) -> None:
    base.open(page)
    page.click("#mode-chat")
    expect(page.locator("#composer")).to_be_visible()
    expect(page.locator("#draft textarea")).not_to_be_visible()
    page.click("#mode-text")
    expect(page.locator("#draft textarea")).to_be_visible()


def test_a_text_that_was_begun_survives_a_reload(base: Served, page: Any) -> None:
    base.open(page)
    page.fill("#draft textarea", STORY)
    page.reload()
    page.wait_for_selector("body[data-attached=yes]")
    expect(page.locator("#draft textarea")).to_have_value(STORY)


def test_a_closed_tab_ends_its_continuation(base: Served, page: Any) -> None:
    base.begin_again(Script(answer="on and " * 400, tokens_per_s=40))
    base.open(page)
    page.fill("#draft textarea", STORY)
    page.click("#continue")
    eventually(lambda: base.model.num_streams == 1)
    page.close()
    eventually(lambda: base.model.num_streams == 0, 5)


def test_a_chat_model_has_no_second_mode(serve: Callable[..., Served], page: Any) -> None:
    serve().open(page)
    expect(page.locator("#composer")).to_be_visible()
    expect(page.locator("#modes")).not_to_be_visible()
    expect(page.locator("#draft textarea")).not_to_be_visible()
