"""The page in a browser: asking, watching, stopping, repeating and clearing."""

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.scripted_model import Script, many_words
from tests.ui.web.served_page import RICH, WORDS, Served, answers, ask, eventually, record, shoot, wait_until_answered
from ui.web.strings import say

# Gradio leaves its event loop and some sockets to the garbage collector when a page is closed.
pytestmark = [
    pytest.mark.usefixtures("nothing_is_wrong_in_the_browser"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
expect = pytest.importorskip("playwright.sync_api").expect


def test_an_answer_streams_and_ends_with_its_figures(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=WORDS, tokens_per_s=150))
    served.open(page)
    shoot(page, "empty")
    lengths = record(page, "document.querySelector('#chatbot .bot-row:has(.foot.live)')?.textContent.length")
    ask(page, "Tell me words")
    expect(page.locator("#box textarea")).to_have_value("")
    expect(page.locator("#chatbot .user-row")).to_contain_text("Tell me words")
    page.wait_for_selector("#chatbot .bot-row:has-text('word100')")
    shoot(page, "streaming")
    wait_until_answered(page)
    assert len(lengths()) > 4
    assert lengths() == sorted(lengths())
    foot = page.locator("#chatbot .facts").inner_text()
    assert re.search(r"400 tokens · [\d.]+ tokens/s · first after 0\.\d\d s", foot)


def test_code_tables_and_formulas_are_rendered(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=RICH, reasoning="Let me think about it.", tokens_per_s=400))
    served.open(page)
    ask(page, "Show me everything")
    wait_until_answered(page)
    expect(page.locator("#chatbot td")).to_have_text(["Qwen3-0.6B", "0.6 B", "Qwen3-4B", "4.0 B"])
    expect(page.locator("#chatbot pre code")).to_contain_text("def double(number: int) -> int:\n    return 2 * number")
    page.wait_for_selector("#chatbot .katex-display .mfrac")
    expect(answers(page)).to_contain_text("It costs $5 or $10")
    expect(answers(page)).to_contain_text("Thought for")
    shoot(page, "finished")


def wait_for_messages(served: Served, page: Any, number: int) -> None:
    """Waits until so many messages are there and the last of them is whole."""
    eventually(lambda: len(served.path()) == number and served.path()[-1].state == "complete")
    wait_until_answered(page)


def test_what_is_typed_arrives_whole_and_what_the_model_wrote_is_copied(
    page: Any, serve: Callable[..., Served]
) -> None:
    served = serve(Script(tokens_per_s=500))
    served.open(page)
    page.focus("#box textarea")
    page.keyboard.type("first")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second")
    page.keyboard.press("Enter")
    wait_until_answered(page)
    assert served.path()[0].text == "first\nsecond"
    tabs_and_indentation(page, served)
    copy_button(page, served)


def test_enter_that_ends_a_composition_does_not_send(page: Any, serve: Callable[..., Served]) -> None:
    served = serve()
    served.open(page)
    page.fill("#box textarea", "にほんご")
    for composing in ({"isComposing": True}, {"keyCode": 229}):
        page.eval_on_selector(
            "#box textarea",
            "(box, extra) => box.dispatchEvent(new KeyboardEvent('keydown', "
            "{ key: 'Enter', bubbles: true, cancelable: true, ...extra }))",
            composing,
        )
    session = page.context.new_cdp_session(page)
    page.focus("#box textarea")
    session.send("Input.imeSetComposition", {"text": "日本", "selectionStart": 2, "selectionEnd": 2})
    session.send(
        "Input.dispatchKeyEvent",
        {"type": "rawKeyDown", "key": "Process", "code": "Enter", "windowsVirtualKeyCode": 229},
    )
    session.send("Input.insertText", {"text": "日本語"})
    eventually(lambda: page.evaluate("document.querySelector('#box textarea').value.includes('日本語')"))
    assert served.paths() == []
    page.press("#box textarea", "Enter")
    wait_until_answered(page)
    assert served.path()[0].text == "にほんご日本語"


def tabs_and_indentation(page: Any, served: Served) -> None:
    served.model.script = Script(answer="```make\nall:\n\techo \\(hi) $HOME $a\n```", tokens_per_s=500)
    ask(page, "    indented\n\ttabbed")
    wait_for_messages(served, page, 4)
    assert served.path()[2].text == "    indented\n\ttabbed"
    page.click("#chatbot .bot-row .code-copy")
    eventually(lambda: page.evaluate("navigator.clipboard.readText().then((text) => text.startsWith('all:'))"))
    assert page.evaluate("navigator.clipboard.readText()").rstrip() == "all:\n\techo \\(hi) $HOME $a"


def test_a_starter_question_is_asked_with_one_click(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(tokens_per_s=500))
    served.open(page)
    page.click("#starters .starter >> nth=1")
    wait_until_answered(page)
    assert served.path()[0].text == say("en", "starter_2")
    expect(page.locator("#welcome")).to_be_hidden()


def copy_button(page: Any, served: Served) -> None:
    text = "**“引号”**后，costs $5, $x^2$ and `code`\n\n- <div> stays\n"
    served.model.script = Script(answer=text, tokens_per_s=500)
    ask(page, "hello")
    wait_for_messages(served, page, 6)
    expect(answers(page)).to_have_count(3)
    expect(answers(page).last.locator(".facts")).to_be_visible()
    copied = record(page, "document.querySelector('#chatbot .act-copy.is-done') && true")
    answers(page).last.locator(".act-copy").click()
    eventually(lambda: copied() == [True])
    assert page.evaluate("navigator.clipboard.readText()") == text


def test_a_reader_is_not_pulled_back_to_the_end(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=many_words(900).replace(" ", "\n\n "), tokens_per_s=30))
    served.open(page)
    ask(page, "Tell me words")
    page.wait_for_selector("#chatbot .bot-row:has-text('word40')")
    where = "document.querySelector('#chatbot .bubble-wrap').scrollTop"
    assert page.evaluate(where) > 500
    page.mouse.move(600, 400)
    page.mouse.wheel(0, -400)
    page.wait_for_selector("body[data-away=yes]")
    page.wait_for_timeout(300)  # the wheel's own smooth scrolling
    end = page.evaluate(where)
    page.wait_for_selector("#chatbot .bot-row:has-text('word90')")
    assert abs(page.evaluate(where) - end) < 50
    page.click("#to-end")
    eventually(lambda: page.evaluate(where) > end)
    page.wait_for_selector("#chatbot .bot-row:has-text('word120')")
    expect(page.locator("#to-end")).to_be_hidden()
    page.click("#stop")


def test_a_question_sent_before_the_page_knows_its_conversation_is_not_lost(
    page: Any, serve: Callable[..., Served]
) -> None:
    served = serve(Script(tokens_per_s=500))
    page.goto(served.page.url)
    page.wait_for_selector("#box textarea")
    ask(page, "early")
    wait_until_answered(page)
    assert served.path()[0].text == "early"


def test_a_page_whose_conversation_is_gone_begins_a_new_one_by_itself(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(tokens_per_s=500))
    served.open(page)
    served.begin_again(Script(tokens_per_s=500))
    ask(page, "after a restart")
    wait_until_answered(page)
    assert served.path()[0].text == "after a restart"
    expect(page.locator("#notice")).to_be_hidden()


def test_what_is_half_typed_is_not_sent_by_a_page_that_finds_back(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(tokens_per_s=500))
    served.open(page)
    page.fill("#box textarea", "half a questi")
    page.click("#panel .toggle-button")
    served.begin_again(Script(tokens_per_s=500))
    page.fill("#set-temperature input[type=number]", "0.3")
    page.press("#set-temperature input[type=number]", "Enter")
    eventually(lambda: bool(served.page.conversations._loaded))
    page.wait_for_selector("body[data-attached=yes]")
    page.wait_for_timeout(1000)
    expect(page.locator("#box textarea")).to_have_value("half a questi")
    assert served.model.prompts == []


_HELD_LINK = """() => {
  const real = window.fetch;
  window.fetch = async (...given) => {
    const isQuestion = String(given[0]?.url || given[0]).includes("/run/predict");
    while (isQuestion && document.body.dataset.holds === "yes") await new Promise((go) => setTimeout(go, 20));
    return real(...given);
  };
}"""


def test_what_is_typed_before_the_question_has_arrived_stays(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="yes", tokens_per_s=500))
    served.open(page)
    page.evaluate(_HELD_LINK)
    hold = "document.body.dataset.holds = %s"
    page.evaluate(hold % "'yes'")
    ask(page, "first")
    page.keyboard.type(" and now")
    page.keyboard.press("Enter")  # too early: the first one is still on its way
    page.evaluate(hold % "'no'")
    wait_until_answered(page)
    expect(page.locator("#box textarea")).to_have_value(" and now")
    assert [message.text for message in served.path()] == ["first", "yes"]
    page.hover("#chatbot .user-row")
    page.click("#chatbot .question-foot .act-edit")
    expect(page.locator("#box textarea")).to_have_value("first")
    page.fill("#box textarea", "second")
    page.evaluate(hold % "'yes'")
    page.press("#box textarea", "Enter")
    page.keyboard.type("!")
    page.evaluate(hold % "'no'")
    expect(page.locator("#chatbot .user-row")).to_contain_text("second")
    expect(page.locator("#cancel-edit")).to_be_hidden()
    expect(page.locator("#box textarea")).to_have_value(" and now!")


def test_a_question_can_be_edited_while_it_is_answered(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=WORDS, tokens_per_s=20))
    served.open(page)
    ask(page, "Tell me wrods")
    page.wait_for_selector("#chatbot .bot-row:has-text('word3')")
    page.press("#box textarea", "ArrowUp")
    expect(page.locator("#box textarea")).to_have_value("Tell me wrods")
    page.fill("#box textarea", "Tell me words")
    page.press("#box textarea", "Enter")
    expect(page.locator("#notice .notice")).to_contain_text("Stop it first")
    page.click("#stop")
    page.wait_for_selector("body[data-answering=no]")
    served.model.script = Script(answer="done", tokens_per_s=500)
    page.press("#box textarea", "Enter")
    wait_until_answered(page)
    expect(answers(page)).to_contain_text("done")
    assert [message.text for message in served.path()] == ["Tell me words", "done"]


@pytest.mark.timed
def test_stop_keeps_the_partial_answer_and_frees_the_model(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=WORDS, tokens_per_s=40))
    served.open(page)
    ask(page, "Tell me words")
    page.wait_for_selector("#chatbot .bot-row:has-text('word10')")
    pressed = time.monotonic()
    page.click("#stop")
    eventually(lambda: served.model.num_streams == 0)
    assert time.monotonic() - pressed < 1.0
    wait_until_answered(page)
    assert time.monotonic() - pressed < 2.0
    assert served.path()[-1].state == "stopped"
    expect(page.locator("#chatbot .facts")).to_contain_text("Stopped")
    expect(answers(page)).to_contain_text("word10")
    expect(page.locator("#send")).to_be_visible()


def test_stop_then_send_at_once_works(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=WORDS, tokens_per_s=40))
    served.open(page)
    ask(page, "first")
    page.wait_for_selector("#chatbot .bot-row:has-text('word3')")
    page.fill("#box textarea", "second")
    page.keyboard.press("Escape")
    page.wait_for_selector("body[data-answering=no]")
    served.model.script = Script(answer="done", tokens_per_s=500)
    page.press("#box textarea", "Enter")
    expect(answers(page).last).to_contain_text("done")
    assert [one.text for one in served.path()[::2]] == ["first", "second"]


def test_a_second_question_is_refused_and_its_text_stays(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=WORDS, tokens_per_s=20))
    served.open(page)
    ask(page, "first")
    page.wait_for_selector("#chatbot .bot-row:has-text('word3')")
    ask(page, "second")
    expect(page.locator("#notice")).to_contain_text(say("en", "refused_still_answering"))
    expect(page.locator("#box textarea")).to_have_value("second")
    assert len(served.path()) == 2
    page.click("#stop")
    expect(page.locator("#notice")).to_be_hidden()


def test_regenerate_gives_another_answer_and_keeps_the_first(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="The first answer.", tokens_per_s=500))
    served.open(page)
    ask(page, "hello")
    wait_until_answered(page)
    served.model.script = Script(answer="The second answer.", tokens_per_s=500)
    page.click("#chatbot .act-again")
    expect(answers(page)).to_contain_text("The second answer.")
    expect(page.locator("#chatbot .foot")).to_contain_text("2/2")
    page.click("#chatbot .act-back")
    expect(answers(page)).to_contain_text("The first answer.")
    expect(page.locator("#chatbot .foot")).to_contain_text("1/2")


def test_clear_can_be_undone(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(tokens_per_s=500))
    served.open(page)
    ask(page, "hello")
    wait_until_answered(page)
    page.click("#clear")
    expect(page.locator("#welcome")).to_be_visible()
    expect(page.locator("#chatbot .message-row")).to_have_count(0)
    page.reload()
    page.click("#undo")
    expect(page.locator("#chatbot .user-row")).to_contain_text("hello")
    expect(page.locator("#undo-bar")).to_be_hidden()
