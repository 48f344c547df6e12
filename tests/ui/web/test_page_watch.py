"""Answers that repeat themselves or leave their language, and what the page offers then, in a browser."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.scripted_model import Script
from tests.ui.web.served_page import Served, answers, ask, eventually, shoot, wait_until_answered

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("nothing_is_wrong_in_the_browser"),
]
expect = pytest.importorskip("playwright.sync_api").expect

LOOP = "Here is a good beginning. " + "The same sentence comes again and again. " * 60
JA = "クジラは脳の半分ずつを眠らせます。だから、眠っている間も息をしに水面へ上がれるのです。"
EN = "They come up to breathe while they sleep, and then they sink again into the dark water."


def talk(page: Any, served: Served, text: str) -> None:
    before = len(served.model.prompts)
    ask(page, text)
    eventually(lambda: len(served.model.prompts) > before)
    eventually(lambda: all(path[-1].state != "streaming" for path in served.paths()))
    wait_until_answered(page)


def redo(page: Any, served: Served, action: str) -> None:
    before = len(served.model.prompts)
    page.click(f"#chatbot .act-{action}")
    eventually(lambda: len(served.model.prompts) > before)
    eventually(lambda: served.path()[-1].state != "streaming")
    wait_until_answered(page)


def test_a_loop_is_stopped_folded_and_goes_on_with_a_penalty_or_warmer(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=LOOP, tokens_per_s=400))
    served.open(page)
    talk(page, served, "Say something")
    answer = served.path()[-1]
    assert answer.state == "stopped"
    assert len(answer.text) < len(LOOP) / 4
    good = "Here is a good beginning. The same sentence comes again and again. "
    assert answer.text[: answer.loops_at] == good
    expect(page.locator("#chatbot .watch")).to_contain_text("Stopped: it repeated itself")
    expect(page.locator("#chatbot .fold-text")).to_be_hidden()
    expect(answers(page)).to_contain_text("Here is a good beginning.")
    shoot(page, "loop")
    page.click("#chatbot .fold summary")
    expect(page.locator("#chatbot .fold-text")).to_be_visible()
    served.model.script = Script(answer="And so it ends.", tokens_per_s=400)
    redo(page, served, "penalty")
    assert served.path()[-1].text == good + "And so it ends."
    assert served.model.openings[-1].text == good
    assert served.model.samplings[-1].repetition_penalty == pytest.approx(1.2)
    expect(page.locator("#chatbot .watch")).to_have_count(0)
    page.click("#chatbot .foot .act-back")
    expect(page.locator("#chatbot .watch")).to_have_count(1)
    redo(page, served, "warmer")
    assert served.model.samplings[-1].temperature == pytest.approx(1.1)
    assert served.model.samplings[-1].repetition_penalty == pytest.approx(1.05)
    expect(page.locator("#chatbot .foot")).to_contain_text("3/3")


def test_a_loop_can_be_kept_and_the_guard_switched_off(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=LOOP, tokens_per_s=400))
    served.open(page)
    talk(page, served, "Say something")
    kept = served.path()[-1].text
    page.click("#chatbot .act-keep")
    expect(page.locator("#chatbot .watch")).to_have_count(0)
    assert served.path()[-1].text == kept
    page.click("#panel .toggle-button")
    page.click("#more-settings > button")
    page.click("#stops-loops input")
    page.click("#panel .toggle-button")
    page.wait_for_timeout(500)  # the panel slides, and what is below the pointer with it
    before = len(served.model.prompts)
    page.click("#chatbot .act-again")
    eventually(lambda: len(served.model.prompts) > before)
    eventually(lambda: served.path()[-1].state == "complete", timeout_s=20)
    assert served.path()[-1].text == LOOP


def test_thoughts_that_go_in_circles_are_stopped(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="yes", reasoning="Wait, let me check that again. " * 60, tokens_per_s=400))
    served.open(page)
    talk(page, served, "Think")
    assert served.path()[-1].state == "stopped"
    assert served.path()[-1].loops_in_reasoning
    expect(page.locator("#chatbot .watch")).to_contain_text("Its thoughts repeat themselves.")
    served.model.script = Script(answer="Done.", tokens_per_s=400)
    redo(page, served, "penalty")
    assert served.path()[-1].text == "Done."
    assert served.model.openings[-1].reasoning == "Wait, let me check that again. "


@pytest.mark.browser_page(locale="ja-JP")
def test_an_answer_that_leaves_its_language_is_redone_from_there(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=JA + "\n\n" + EN, tokens_per_s=400))
    served.open(page)
    page.click("#panel .toggle-button")
    page.click("#answer-in label:has-text('日本語')")
    page.wait_for_timeout(300)
    shoot(page, "language")
    page.click("#panel .toggle-button")
    talk(page, served, "How do whales sleep?")
    assert served.model.prompts[-1][0].content.endswith("必ず日本語で答えてください。")
    receipt = served.path()[-1].receipt
    assert receipt is not None
    assert receipt.system.endswith("必ず日本語で答えてください。")
    expect(page.locator("#chatbot .watch")).to_contain_text("日本語ではありません：「They come up")
    shoot(page, "drift")
    served.model.script = Script(answer="そしてまた暗い海へ沈みます。", tokens_per_s=400)
    redo(page, served, "redo")
    assert served.path()[-1].text == JA + "\n\nそしてまた暗い海へ沈みます。"
    expect(page.locator("#chatbot .watch")).to_have_count(0)
    expect(page.locator("#chatbot .foot")).to_contain_text("2/2")
    page.click("#chatbot .foot .act-back")
    expect(page.locator("#chatbot .watch")).to_have_count(1)
