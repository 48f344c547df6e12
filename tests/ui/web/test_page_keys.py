"""The keyboard, the page's language, and what somebody hears or sees who does not look at the page."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.scripted_model import Script, many_words
from tests.ui.web.served_page import Served, answers, ask, eventually, shoot, wait_until_answered

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("nothing_is_wrong_in_the_browser"),
]
expect = pytest.importorskip("playwright.sync_api").expect

FAST = 400


def test_the_keyboard_reaches_everything(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="yes", tokens_per_s=FAST))
    served.open(page)
    ask(page, "first")
    wait_until_answered(page)
    page.focus("#box textarea")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#box textarea")).to_have_value("first")
    page.keyboard.press("Escape")
    expect(page.locator("#box textarea")).to_have_value("")
    page.keyboard.type("a/b?")
    expect(page.locator("#box textarea")).to_have_value("a/b?")
    page.fill("#box textarea", "")
    page.locator("#box textarea").blur()
    page.keyboard.press("/")
    expect(page.locator("#history-search input")).to_be_focused()
    page.locator("#history-search input").blur()
    page.keyboard.press("?")
    expect(page.locator("#keys .sheet")).to_contain_text("Ctrl + Shift + O")
    shoot(page, "keys")
    page.keyboard.press("Escape")
    expect(page.locator("#keys .sheet")).to_have_count(0)
    page.keyboard.press("Control+Shift+O")
    expect(page.locator("#welcome")).to_be_visible()


def test_escape_stops_an_answer_and_a_hidden_tab_says_that_one_is_there(
    page: Any, serve: Callable[..., Served]
) -> None:
    served = serve(Script(answer=many_words(400), tokens_per_s=50))
    served.open(page)
    ask(page, "go")
    expect(answers(page)).to_contain_text("word0 word1")
    page.keyboard.press("Escape")
    wait_until_answered(page)
    assert served.path()[-1].state == "stopped"
    served.model.script = Script(answer=many_words(20), tokens_per_s=40)
    hide_while_it_answers(page)


def test_the_language_can_be_chosen_on_the_page(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="yes", tokens_per_s=FAST))
    served.open(page)
    page.click("#panel .toggle-button")
    expect(page.locator("#speak-en")).to_have_attribute("aria-pressed", "true")
    page.click("#speak-ja")
    expect(page.locator("#greeting")).to_contain_text("何から始めましょうか")
    page.wait_for_selector("body[data-attached=yes]")
    ask(page, "こんにちは")
    wait_until_answered(page)
    expect(page.locator("#chatbot .facts")).to_contain_text("トークン")
    expect(page.locator("html")).to_have_attribute("lang", "ja")
    shoot(page, "japanese")


@pytest.mark.parametrize("tokens_per_s", [10, 1e6])
def test_an_answer_is_told_once_when_it_is_whole(page: Any, serve: Callable[..., Served], tokens_per_s: float) -> None:
    served = serve(Script(answer=lambda question: f"All of it, to the end, to {question}.", tokens_per_s=tokens_per_s))
    served.open(page)
    page.evaluate(
        """() => {
            window.told = [];
            const look = () => window.told.push(document.querySelector('#told').textContent);
            new MutationObserver(look).observe(document.querySelector('#told'), { childList: true });
        }"""
    )
    for question in ("one", "two"):
        ask(page, question)
        expect(page.locator("#told")).to_have_text(f"All of it, to the end, to {question}.")
        wait_until_answered(page)
    page.click("#chatbot .act-take-back")
    expect(answers(page)).to_have_count(1)
    page.wait_for_timeout(500)  # what would be told now
    assert page.evaluate("window.told") == [f"All of it, to the end, to {question}." for question in ("one", "two")]
    assert page.get_attribute("#chatbot [role=log]", "aria-live") == "off"


def hide_while_it_answers(page: Any) -> None:
    """The title says that the answer is there, until the tab is seen again."""
    hide = "Object.defineProperty(document, 'hidden', { get: () => %s, configurable: true })"
    ask(page, "go")
    page.evaluate(hide % "true")
    eventually(lambda: page.title().startswith("●"))
    page.evaluate(hide % "false")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    eventually(lambda: page.title() == "Qwen chat")
