"""Whether the page can be used without seeing it or without a mouse: axe-core over its states, dialogs by keyboard."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.scripted_model import Script
from tests.ui.web.served_page import RICH, Served, ask, shoot, wait_until_answered

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("nothing_is_wrong_in_the_browser"),
]
expect = pytest.importorskip("playwright.sync_api").expect
Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe

FAST = 3000
STILL = "*, *::before, *::after { animation: none !important; transition: none !important; }"


def problems(page: Any, state: str) -> list[str]:
    """What axe-core finds in a state of the page, each with the first element that has it."""
    return [
        f"{state}: {each['impact']} {each['id']} at {each['nodes'][0]['target']}"
        for each in Axe().run(page).response["violations"]
    ]


def find_in_all_states(page: Any, served: Served, width: int) -> list[str]:
    served.open(page)
    page.add_style_tag(content=STILL)
    page.wait_for_selector("#brand .ready")
    found = problems(page, "empty")
    ask(page, "Show me everything")
    wait_until_answered(page)
    found += problems(page, "answered")
    assert page.locator("#chatbot [aria-label*='message: ']").count() == 0
    page.click("#panel .toggle-button")
    page.click("#more-settings button")
    expect(page.locator("#set-prefill")).to_be_visible()
    found += problems(page, "settings")
    page.click("#panel .toggle-button")
    page.click("#chatbot .bot-row .act-receipt")
    expect(page.locator(".receipt")).to_be_visible()
    found += problems(page, "receipt")
    page.keyboard.press("Escape")
    expect(page.locator(".receipt")).to_have_count(0)
    with page.expect_file_chooser() as chooser:
        page.click("#attach")
    chooser.value.set_files([{"name": "notes.txt", "mimeType": "text/plain", "buffer": b"a line"}])
    page.click("#files .file-open")
    expect(page.locator("#file-sheet pre")).to_have_text("a line")
    found += problems(page, "an attached file")
    page.keyboard.press("Escape")
    expect(page.locator("#files .file-open")).to_be_focused()
    found += problems(page, "a file in the composer")
    if width < 640:
        page.click("#history .toggle-button")
    page.click("#to-transfer")
    expect(page.locator("#transfer")).to_be_visible()
    return found + problems(page, "files")


def test_axe_core_finds_nothing(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=RICH, reasoning="Hm.", tokens_per_s=FAST))
    assert find_in_all_states(page, served, 1280) == []


@pytest.mark.browser_page(locale="ja-JP", width=375, height=740, color_scheme="dark")
def test_axe_core_finds_nothing_on_a_phone_in_the_dark(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=RICH, reasoning="Hm.", tokens_per_s=FAST))
    assert find_in_all_states(page, served, 375) == []
    shoot(page, "files-phone")


def test_a_dialog_takes_the_keyboard_and_gives_it_back(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="yes", tokens_per_s=FAST))
    served.open(page)
    ask(page, "first")
    wait_until_answered(page)
    page.focus("#chatbot .act-receipt")
    page.keyboard.press("Enter")
    sheet = page.get_by_role("dialog", name="How this answer was made")
    expect(sheet.locator(".sheet-close")).to_be_focused()
    for step in ["Shift+Tab", *["Tab"] * 12]:
        page.keyboard.press(step)
        assert page.evaluate("document.querySelector('.sheet').contains(document.activeElement)"), step
    page.keyboard.press("Escape")
    expect(sheet).to_have_count(0)
    expect(page.locator("#chatbot .act-receipt")).to_be_focused()
