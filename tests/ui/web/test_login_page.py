"""Logging in, being wrong, logging out and being sent away, as somebody in front of a browser sees it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.scripted_model import Script, many_words
from tests.ui.web.served_page import Served, answers, ask, eventually, is_cut_by_leaving, shoot, wait_until_answered
from ui.web.login.options import SharingOptions

# Gradio leaves event loops and their sockets to the garbage collector when it starts and when a page is closed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(400),
]

_PATIENCE_MS = 90_000  # a busy machine opens several pages here
EXPECTED_REFUSALS = ("401 (Unauthorized)", "403 (Forbidden)", "429 (Too Many Requests)")


@pytest.fixture(scope="module")
def house() -> Iterator[Served]:
    """A page with two accounts."""
    served = Served(Script(answer="Good morning to you."), sharing=SharingOptions(auth=("ann:tulip", "bob:rose")))
    yield served
    served.close()


def log_in(page: Any, name: str, password: str) -> None:
    page.fill("input[name=name]", name)
    page.fill("input[name=password]", password)
    page.click("button")


def wait_for_chat(page: Any) -> None:
    page.wait_for_selector("body[data-attached=yes]", timeout=_PATIENCE_MS)
    page.wait_for_selector("#login-line button:visible")


def is_expected(said: str) -> bool:
    return any(refusal in said for refusal in EXPECTED_REFUSALS) or is_cut_by_leaving(said)


def test_a_guest_logs_in_talks_and_logs_out(page: Any, house: Served) -> None:
    page.goto(house.page.url)
    assert page.url.endswith("/login")
    shoot(page, "login")
    log_in(page, "ann", "wrong")
    page.wait_for_selector(".wrong:has-text('The name or the password is wrong.')")
    shoot(page, "login-wrong")
    log_in(page, "ann", "tulip")
    wait_for_chat(page)
    assert page.text_content("#login-line b") == "ann"
    assert not page.is_visible("#login-line a")
    ask(page, "good morning")
    wait_until_answered(page)
    shoot(page, "logged-in")
    page.fill("#box textarea", "for my eyes only")
    page.click("#login-line button")
    page.wait_for_url("**/login")
    log_in(page, "bob", "rose")
    wait_for_chat(page)
    assert page.input_value("#box textarea") == ""
    assert [said for said in page.page_errors if not is_expected(said)] == []
    assert page.foreign_requests == []


def test_conversations_belong_to_the_account_whatever_the_browser_says(browser: Any, house: Served) -> None:
    def visit(name: str, password: str) -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.add_init_script(f"localStorage.setItem('qwen-chat.owner', '{'ab' * 16}')")
        page = context.new_page()
        page.goto(house.page.url)
        log_in(page, name, password)
        wait_for_chat(page)
        return page

    anns = visit("ann", "tulip")
    ask(anns, "a secret of ann's")
    wait_until_answered(anns)
    bobs = visit("bob", "rose")
    bobs.wait_for_timeout(500)
    assert "secret" not in bobs.content()
    again = visit("ann", "tulip")
    again.click("#history .entry-open")
    again.wait_for_selector("#chatbot .user-row:has-text('a secret')")
    for one in (anns, bobs, again):
        one.context.close()


def test_the_host_sees_who_is_on_and_sends_everybody_away(browser: Any, page: Any) -> None:
    served = Served(Script(tokens_per_s=5, answer=many_words(300)), sharing=SharingOptions(link=True))
    try:
        gate, accounts = served.page.sharing.gate, served.page.sharing._accounts
        assert gate is not None
        assert accounts is not None
        assert accounts.shared_password is not None
        guest = browser.new_context(locale="ja-JP", viewport={"width": 420, "height": 800}).new_page()
        guest.goto(served.page.url)
        shoot(guest, "login-ja")
        log_in(guest, "みどり", accounts.shared_password)
        wait_for_chat(guest)
        ask(guest, "long")
        guest.wait_for_selector("#chatbot .bot-row")
        shoot(guest, "guest-ja")
        page.goto(served.page.url + gate.host_path)
        wait_for_chat(page)
        page.wait_for_selector("#login-line a:has-text('Guests 1')")
        shoot(page, "host-chat")
        page.click("#login-line a")
        page.wait_for_selector("li:has-text('みどり')")
        shoot(page, "host-guests")
        page.click("button.end")
        page.wait_for_selector("text=The host has ended sharing.")
        shoot(page, "host-ended")
        eventually(lambda: served.model.num_streams == 0)
        guest.wait_for_url("**/login", timeout=_PATIENCE_MS)
        log_in(guest, "みどり", accounts.shared_password)
        guest.wait_for_selector("text=ホストが共有を終了しました。")
        shoot(guest, "guest-ended")
        page.goto(served.page.url)
        wait_for_chat(page)
        assert answers(page).count() == 0
        other = browser.new_context().new_page()
        other.goto(served.page.url + gate.host_path)
        assert "Only the host" in other.content()
        other.context.close()
        guest.context.close()
    finally:
        served.close()
