"""The page in a browser: reloads, tabs, other browsers, and tabs that are closed."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.browser import watch
from tests.scripted_model import Script
from tests.ui.web.served_page import WORDS, Served, answers, ask, eventually, record, wait_until_answered

# Gradio leaves its event loop and some sockets to the garbage collector when a page is closed.
pytestmark = [
    pytest.mark.usefixtures("nothing_is_wrong_in_the_browser"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
expect = pytest.importorskip("playwright.sync_api").expect


def test_a_reload_in_the_middle_goes_on_streaming(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=WORDS, tokens_per_s=20))
    served.open(page)
    ask(page, "Tell me words")
    page.wait_for_selector("#chatbot .bot-row:has-text('word20')")
    shown = record(page, "document.querySelectorAll('#chatbot .message-row').length")
    page.evaluate("document.querySelector('#do-follow').click()")  # it is followed already
    page.wait_for_selector("#chatbot .bot-row:has-text('word30')")
    assert set(shown()) == {2}
    page.reload()
    page.wait_for_selector("#chatbot .bot-row:has-text('word40')")
    assert page.locator("#chatbot .foot.live").count() == 1
    page.wait_for_selector("#chatbot .bot-row:has-text('word60')")
    page.click("#stop")
    wait_until_answered(page)
    assert served.path()[-1].state == "stopped"


def test_what_comes_over_a_stream_that_was_just_closed_is_heard(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="one two three", tokens_per_s=500))
    closed = []

    def close_at_once(route: Any) -> None:
        closed.append(route.request.url)
        route.fulfill(content_type="text/event-stream", body='data: {"msg": "close_stream"}\n\n')

    page.route("**/queue/data*", close_at_once, times=1)
    served.open(page)
    expect(page.locator("#brand")).to_contain_text("scripted")
    page.route("**/queue/data*", close_at_once, times=1)
    ask(page, "hello")
    expect(answers(page)).to_contain_text("one two three")
    assert len(closed) == 2


def test_unsent_text_survives_a_reload(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(tokens_per_s=500))
    served.open(page)
    page.fill("#box textarea", "a draft")
    page.reload()
    page.wait_for_selector("body[data-attached=yes]")
    expect(page.locator("#box textarea")).to_have_value("a draft")
    page.press("#box textarea", "Enter")
    wait_until_answered(page)
    assert served.path()[0].text == "a draft"


@pytest.mark.timed
def test_a_closed_tabs_answer_lingers_and_ends_as_interrupted(browser: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=WORDS, tokens_per_s=40), linger_s=1.0)
    context = browser.new_context()
    tab = context.new_page()
    served.open(tab)
    ask(tab, "Tell me words")
    tab.wait_for_selector("#chatbot .bot-row:has-text('word5')")
    tab.close()
    closed = time.monotonic()
    eventually(lambda: served.path()[-1].state != "streaming")
    assert 0.9 < time.monotonic() - closed < 3.0
    assert served.path()[-1].state == "interrupted"
    eventually(lambda: served.model.num_streams == 0)
    again = context.new_page()
    served.open(again)
    expect(again.locator("#chatbot .facts")).to_contain_text("Interrupted")
    context.close()


def test_two_tabs_of_a_browser_have_a_conversation_each(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=lambda question: f"You said {question}.", tokens_per_s=500))
    served.open(page)
    ask(page, "apples")
    wait_until_answered(page)
    other = page.context.new_page()
    watch(other)
    served.open(other)
    expect(other.locator("#welcome")).to_be_visible()
    ask(other, "pears")
    wait_until_answered(other)
    expect(answers(other)).to_contain_text("You said pears.")
    expect(answers(page)).to_contain_text("You said apples.")
    assert len(served.paths()) == 2
    assert other.page_errors == []


def test_a_new_tab_opens_the_browsers_last_conversation(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(tokens_per_s=500))
    first = page.context.new_page()
    served.open(first)
    ask(first, "remember me")
    wait_until_answered(first)
    first.close()
    (conversation,) = served.page.conversations._loaded.values()
    eventually(lambda: not served.page.tabs.num_showing(conversation.id))
    served.open(page)
    expect(page.locator("#chatbot .user-row")).to_contain_text("remember me")


def test_a_duplicated_tab_shows_what_the_other_one_does(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=lambda question: f"You said {question}.", tokens_per_s=500))
    served.open(page)
    ask(page, "apples")
    wait_until_answered(page)
    stored = page.evaluate("Object.entries(sessionStorage)")
    twin = page.context.new_page()
    twin.add_init_script(f"for (const [key, value] of {stored!r}) sessionStorage.setItem(key, value)")
    served.open(twin)
    expect(answers(twin)).to_contain_text("You said apples.")
    ask(page, "pears")
    expect(answers(twin).last).to_contain_text("You said pears.")
    ask(twin, "plums")
    expect(answers(page).last).to_contain_text("You said plums.")
    assert len(served.path()) == 6


def test_another_browser_cannot_see_a_conversation_even_by_its_id(
    page: Any, browser: Any, serve: Callable[..., Served]
) -> None:
    served = serve(Script(tokens_per_s=500))
    served.open(page)
    ask(page, "my secret")
    wait_until_answered(page)
    stored = page.evaluate("Object.entries(sessionStorage)")
    context = browser.new_context()
    stranger = context.new_page()
    stranger.add_init_script(f"for (const [key, value] of {stored!r}) sessionStorage.setItem(key, value)")
    served.open(stranger)
    expect(stranger.locator("#welcome")).to_be_visible()
    ask(stranger, "hello")
    wait_until_answered(stranger)
    assert "my secret" not in stranger.inner_text("body")
    assert len(served.paths()) == 2
    context.close()


def test_old_messages_are_shown_on_request(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="yes", tokens_per_s=1000), max_shown=4)
    served.open(page)
    for number in range(4):
        ask(page, f"question {number}")
        eventually(lambda done=2 * number + 2: len(served.path()) == done and served.path()[-1].state == "complete")
        wait_until_answered(page)
    expect(page.locator("#chatbot .user-row")).to_contain_text(["question 2", "question 3"])
    page.click("#chatbot .act-earlier")
    expect(page.locator("#chatbot .user-row")).to_contain_text([f"question {number}" for number in range(4)])
    expect(page.locator("#chatbot .act-earlier")).to_have_count(0)


def test_a_page_that_was_idle_while_the_program_was_started_anew_is_known_again(browser: Any) -> None:
    served = Served(Script(answer="one two", tokens_per_s=500))
    context = browser.new_context()
    try:
        tab = context.new_page()
        served.open(tab)
        tab.evaluate("() => { performance.now = () => 20000; }")  # it is no new page
        tab.wait_for_timeout(1000)  # nothing is on its way any more
        served.close()
        served = Served(Script(answer=WORDS, tokens_per_s=50), port=served.port)
        with tab.expect_file_chooser() as chooser:
            tab.click("#attach")
        chooser.value.set_files([{"name": "notes.txt", "mimeType": "text/plain", "buffer": b"buy milk"}])
        expect(tab.locator("#files .file-name")).to_have_text(["notes.txt"])
        owner = tab.evaluate("localStorage.getItem('qwen-chat.owner')")
        eventually(lambda: served.page.tabs.is_here(owner))
        tab.wait_for_timeout(1000)
        port = served.port
        served.close()
        served = Served(Script(answer="three four", tokens_per_s=500), port=port)
        eventually(lambda: served.page.tabs.is_here(owner), timeout_s=30)
    finally:
        context.close()
        served.close()


def test_a_page_whose_program_was_started_anew_comes_back_with_what_was_typed(browser: Any) -> None:
    served = Served(Script(answer="one two", tokens_per_s=500))
    context = browser.new_context()
    try:
        tab = context.new_page()
        served.open(tab)
        ask(tab, "before")
        wait_until_answered(tab)
        served.close()
        ask(tab, "typed meanwhile")
        tab.wait_for_timeout(1000)
        served = Served(Script(answer="three four", tokens_per_s=500), port=served.port)
        with tab.expect_navigation():
            pass
        tab.wait_for_selector("body[data-attached=yes]")
        expect(tab.locator("#box textarea")).to_have_value("typed meanwhile")
        tab.press("#box textarea", "Enter")
        wait_until_answered(tab)
        assert served.path()[0].text == "typed meanwhile"
    finally:
        context.close()
        served.close()
