"""Many conversations, versions of messages, and what the page tells before and after, in a browser."""

import gc
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.start import free_port
from tests.scripted_model import Script, ScriptedLoad, ScriptedModel, many_words
from tests.ui.web.served_page import WORDS, Served, answers, ask, eventually, record, shoot, wait_until_answered
from ui.web.launch import ServedPage
from ui.web.options import PageOptions

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("nothing_is_wrong_in_the_browser"),
]
expect = pytest.importorskip("playwright.sync_api").expect

FAST = 400


def talk(page: Any, served: Served, text: str) -> None:
    """Asks and waits until the answer is there."""
    before = len(served.model.prompts)
    ask(page, text)
    eventually(lambda: len(served.model.prompts) > before)
    eventually(lambda: all(path[-1].state != "streaming" for path in served.paths()))
    wait_until_answered(page)


def new_conversation(page: Any) -> None:
    page.click("#new")
    expect(page.locator("#welcome")).to_be_visible()


def entry(page: Any, title: str) -> Any:
    return page.locator("#history .entry", has_text=title)


def test_conversations_are_listed_opened_found_and_named(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=lambda question: f"About {question}", tokens_per_s=FAST))
    served.open(page)
    talk(page, served, "How do whales sleep?")
    new_conversation(page)
    talk(page, served, "东京有什么好玩的")
    expect(page.locator("#history .entry-title")).to_have_text(["东京有什么好玩的", "How do whales sleep?"])
    entry(page, "whales").locator(".entry-open").click()
    expect(answers(page)).to_contain_text("About How do whales sleep?")
    page.fill("#history-search :is(textarea, input)", "好玩")
    expect(page.locator("#history .entry-title")).to_have_text(["东京有什么好玩的"])
    page.fill("#history-search :is(textarea, input)", "")
    expect(page.locator("#history .entry")).to_have_count(2)
    entry(page, "whales").hover()
    entry(page, "whales").locator(".tool-rename").click()
    page.fill(".entry-name", "Sleep under water")
    page.press(".entry-name", "Enter")
    expect(entry(page, "Sleep under water")).to_have_count(1)
    entry(page, "Sleep under water").hover()
    entry(page, "Sleep under water").locator(".tool-pin").click()
    expect(page.locator("#history .group").first).to_have_text("Pinned")
    shoot(page, "history")


def test_a_name_is_typed_without_opening_its_conversation_and_other_tabs_hear_of_it(
    page: Any, serve: Callable[..., Served]
) -> None:
    served = serve(Script(answer=lambda question: f"About {question}", tokens_per_s=FAST))
    served.open(page)
    talk(page, served, "whales")
    other = page.context.new_page()
    served.open(other)
    new_conversation(page)
    talk(page, served, "fish")
    expect(other.locator("#history .entry")).to_have_count(2)
    expect(page.locator("#history .entry")).to_have_count(2)
    entry(page, "whales").hover()
    entry(page, "whales").locator(".tool-rename").click()
    page.locator(".entry-name").click()
    page.keyboard.press("End")
    page.keyboard.type(" that sleep")
    ask(other, "one more")  # the list changes meanwhile
    expect(answers(other)).to_contain_text("About one more")
    page.keyboard.type(" and dive")
    page.keyboard.press("Enter")
    expect(page.locator("#history .entry-title").first).to_be_visible()
    expect(entry(page, "whales that sleep and dive")).to_have_count(1)
    expect(entry(other, "whales that sleep and dive")).to_have_count(1)
    expect(answers(page)).to_contain_text("About fish")
    other.close()


def test_a_deleted_conversation_can_be_brought_back_at_once_and_from_the_trash(
    page: Any, serve: Callable[..., Served]
) -> None:
    served = serve(Script(answer="yes", tokens_per_s=FAST))
    served.open(page)
    talk(page, served, "Precious")
    entry(page, "Precious").hover()
    entry(page, "Precious").locator(".tool-trash").click()
    expect(page.locator("#history .entry")).to_have_count(0)
    expect(page.locator("#welcome")).to_be_visible()
    page.click(".tool-restore")
    expect(entry(page, "Precious")).to_have_count(1)
    entry(page, "Precious").hover()
    entry(page, "Precious").locator(".tool-trash").click()
    expect(page.locator("#history .entry")).to_have_count(0)
    page.click("#to-trash")
    expect(entry(page, "Precious")).to_have_count(1)
    page.click("#empty-trash")
    page.click("#really")
    expect(page.locator("#history .history-note")).to_have_text("The trash is empty.")
    page.click("#from-trash")
    expect(page.locator("#history .history-note")).to_have_text("Your conversations will appear here.")


def test_an_answer_goes_on_while_its_reader_is_elsewhere(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=many_words(400), tokens_per_s=25))
    served.open(page)
    ask(page, "A long one")
    expect(answers(page)).to_contain_text("word0 word1")
    page.click("#new")
    expect(page.locator("#welcome")).to_be_visible()
    expect(page.locator("#history .entry.is-answering")).to_have_count(1)
    (path,) = served.paths()
    before = len(path[-1].text)
    time.sleep(1.0)
    entry(page, "A long one").locator(".entry-open").click()
    expect(answers(page)).to_contain_text("word0 word1")
    (path,) = served.paths()
    assert path[-1].state == "streaming"
    assert len(path[-1].text) > before
    shown = len(answers(page).text_content())
    eventually(lambda: len(answers(page).text_content()) > shown)
    page.click("#stop")
    wait_until_answered(page)


def test_a_question_is_edited_and_both_versions_stay(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=lambda question: f"About {question}", tokens_per_s=FAST))
    served.open(page)
    talk(page, served, "first wording")
    talk(page, served, "what follows")
    row = page.locator("#chatbot .user-row").first
    row.hover()
    row.locator(".act-edit").click()
    expect(page.locator("#box textarea")).to_have_value("first wording")
    expect(page.locator("#editing")).to_be_visible()
    talk(page, served, "second wording")
    expect(page.locator("#editing")).to_be_hidden()
    expect(page.locator("#chatbot .user-row")).to_have_count(1)
    expect(page.locator("#chatbot .question-foot")).to_contain_text("2/2")
    page.mouse.move(5, 5)
    shoot(page, "versions")
    page.click("#chatbot .question-foot .act-back")
    expect(page.locator("#chatbot .user-row")).to_contain_text(["first wording", "what follows"])


def test_an_edit_can_be_cancelled(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(tokens_per_s=FAST))
    served.open(page)
    talk(page, served, "stays")
    page.locator("#chatbot .user-row").hover()
    page.click("#chatbot .question-foot .act-edit")
    expect(page.locator("#box textarea")).to_have_value("stays")
    page.press("#box textarea", "Escape")
    expect(page.locator("#editing")).to_be_hidden()
    expect(page.locator("#box textarea")).to_have_value("")
    talk(page, served, "a new question")
    expect(page.locator("#chatbot .user-row")).to_have_count(2)


def test_what_stood_in_the_box_comes_back_after_an_edit(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(tokens_per_s=FAST))
    served.open(page)
    talk(page, served, "first")
    page.fill("#box textarea", "half a thought")
    for how in ("Escape", "Enter"):
        page.locator("#chatbot .user-row").hover()
        page.click("#chatbot .question-foot .act-edit")
        expect(page.locator("#box textarea")).to_have_value("first")
        page.fill("#box textarea", "better")
        page.press("#box textarea", how)
        expect(page.locator("#editing")).to_be_hidden()
        expect(page.locator("#box textarea")).to_have_value("half a thought")


def test_a_receipt_that_runs_again_can_be_closed(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=WORDS, tokens_per_s=2000))
    served.open(page)
    talk(page, served, "tell me words")
    served.model.script.tokens_per_s = 20
    page.click("#chatbot .bot-row .act-receipt")
    page.click(".receipt-reproduce")
    page.wait_for_selector("#receipt .is-running")
    page.keyboard.press("Escape")
    expect(page.locator("#receipt .sheet")).to_have_count(0)
    page.wait_for_timeout(800)
    expect(page.locator("#receipt .sheet")).to_have_count(0)
    eventually(lambda: served.model.num_streams == 0)


def test_an_answer_is_rewritten_branched_continued_and_taken_back(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="wrong", tokens_per_s=FAST))
    served.open(page)
    talk(page, served, "one")
    page.click("#chatbot .bot-row .act-edit")
    expect(page.locator("#box textarea")).to_have_value("wrong")
    page.fill("#box textarea", "right")
    page.press("#box textarea", "Enter")
    expect(answers(page)).to_contain_text("right")
    expect(answers(page)).to_contain_text("Edited")
    page.click("#chatbot .act-branch")
    expect(page.locator("#history .entry")).to_have_count(2)
    expect(answers(page)).to_contain_text("right")
    served.model.script = Script(answer=many_words(400), tokens_per_s=20)
    ask(page, "two")
    expect(answers(page).last).to_contain_text("word0 word1")
    page.click("#stop")
    wait_until_answered(page)
    served.model.script = Script(answer="THE END", tokens_per_s=FAST)
    page.click("#chatbot .act-continue")
    expect(answers(page).last).to_contain_text("THE END")
    expect(page.locator("#chatbot .act-continue")).to_have_count(0)
    page.click("#chatbot .act-take-back")
    expect(page.locator("#chatbot .user-row")).to_have_count(1)
    expect(page.locator("#box textarea")).to_have_value("two")
    page.click("#undo")
    expect(answers(page).last).to_contain_text("THE END")


def test_the_meter_tells_what_a_question_costs_while_one_types(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(tokens_per_s=FAST))
    served.open(page)
    page.fill("#box textarea", "hello there")
    expect(page.locator("#meter")).to_contain_text("of 4,096 tokens")
    page.fill("#box textarea", "x" * 5000)
    expect(page.locator("#meter .is-over")).to_have_count(1)
    page.fill("#box textarea", "")
    expect(page.locator("#meter")).to_be_hidden()


def test_a_receipt_is_shown_copied_and_proved(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="the very same", tokens_per_s=FAST))
    served.open(page)
    talk(page, served, "again?")
    page.click("#chatbot .act-receipt")
    expect(page.locator(".receipt")).to_contain_text("feedc0ffee42")
    page.click(".receipt-reproduce")
    expect(page.locator(".receipt-outcome")).to_have_text("Identical: 13 characters")
    page.click(".receipt summary >> nth=1")
    copied = record(page, "document.querySelector('.receipt-copy.is-done') && true")
    page.click(".receipt details[open] .receipt-copy")
    eventually(lambda: copied() == [True])
    assert "from openai import OpenAI" in page.evaluate("navigator.clipboard.readText()")
    shoot(page, "receipt")
    served.model.script = Script(answer="the very other", tokens_per_s=FAST)
    page.click(".receipt-reproduce")
    expect(page.locator(".receipt-outcome")).to_contain_text("Different from character 10 on")
    page.keyboard.press("Escape")
    expect(page.locator(".receipt")).to_have_count(0)


def test_presets_and_stop_strings_steer_the_conversation_they_are_set_in(
    page: Any, serve: Callable[..., Served]
) -> None:
    served = serve(Script(answer="yes", tokens_per_s=FAST))
    served.open(page)
    talk(page, served, "before")
    page.click("#panel .toggle-button")
    page.click("#presets input")
    page.locator("[role=option]", has_text="Programmer").click()
    expect(page.locator("#system textarea")).to_have_value(re.compile("^You are an experienced programmer"))
    page.click("#more-settings button")
    page.wait_for_timeout(500)  # the menu has lost the focus and may tell its choice once more
    page.fill("#set-prefill textarea", "Well: ")
    page.click("#panel .toggle-button")
    talk(page, served, "steered")
    expect(answers(page).last).to_contain_text("Well: yes")
    assert served.model.prompts[-1][0].content.startswith("You are an experienced programmer.")
    new_conversation(page)
    talk(page, served, "not steered")
    expect(answers(page).last).not_to_contain_text("Well")
    assert served.model.prompts[-1][0].content == served.model.default_system


@pytest.mark.browser_page(width=375, height=740)
def test_on_a_phone_the_list_is_a_drawer(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="yes", tokens_per_s=FAST))
    served.open(page)
    expect(page.locator("#history")).not_to_have_class("open")
    talk(page, served, "on a phone")
    page.click("#history .toggle-button")
    expect(entry(page, "on a phone")).to_be_visible()
    page.wait_for_timeout(400)  # the drawer slides
    shoot(page, "history-phone")
    page.click("#new")
    expect(page.locator("#history-list")).to_be_hidden()


def test_the_page_reads_searches_and_deletes_while_the_model_is_broken(
    page: Any, serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve(Script(answer="kept words", tokens_per_s=FAST))
    served.open(page)
    talk(page, served, "before the fault")
    monkeypatch.setattr(served.model, "problem", "The model has computed nothing for 30 seconds.", raising=False)
    page.reload()
    page.wait_for_selector("body[data-attached=yes]")
    expect(page.locator("#status")).to_contain_text("computed nothing")
    expect(answers(page)).to_contain_text("kept words")
    page.fill("#history-search :is(textarea, input)", "kept")
    expect(entry(page, "before the fault")).to_contain_text("kept words")
    entry(page, "before the fault").hover()
    entry(page, "before the fault").locator(".tool-trash").click()
    expect(page.locator("#history .entry")).to_have_count(0)


def test_everything_is_there_again_after_the_program_was_started_anew(page: Any, tmp_path: Path) -> None:
    port, place = free_port(), tmp_path / "history.db"

    def start() -> ServedPage:
        load: Any = ScriptedLoad(ScriptedModel(Script(answer="kept", tokens_per_s=FAST)))
        return ServedPage(load, PageOptions(server_port=port, history=place))

    served = start()
    page.goto(served.url)
    page.wait_for_selector("body[data-attached=yes]")
    ask(page, "Will it last?")
    wait_until_answered(page)
    page.goto("about:blank")  # an open page would go on asking for the program
    served.close()
    gc.collect()
    again = start()
    page.goto(again.url)
    page.wait_for_selector("body[data-attached=yes]")
    expect(page.locator("#chatbot")).to_contain_text("kept")
    expect(entry(page, "Will it last?")).to_have_count(1)
    again.close()
    gc.collect()


def test_thoughts_stream_fold_when_they_end_and_can_be_switched_off(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="So it is.", reasoning=many_words(150), tokens_per_s=60), can_switch_thinking=True)
    served.open(page)
    ask(page, "Why <think>?")
    expect(page.locator("#chatbot .thought-group")).to_contain_text("Thinking for 1 s")
    expect(page.locator("#chatbot .thought-group .content")).to_contain_text("word0 word1")
    shoot(page, "thinking")
    wait_until_answered(page)
    expect(answers(page).last).to_contain_text("So it is.")
    expect(page.locator("#chatbot .thought-group")).to_contain_text(re.compile(r"Thought for [\d.]+ s"))
    expect(page.locator("#chatbot .thought-group .content")).to_be_hidden()
    expect(page.locator("#chatbot .user-row")).to_contain_text(re.compile("Why <\u2060?think>"))
    page.locator("#chatbot .thought-group .title").click()
    expect(page.locator("#chatbot .thought-group .content")).to_contain_text("word0 word1 word2")
    assert served.model.openings[-1].thinking is None
    page.click("#panel .toggle-button")
    page.uncheck("#thinks input")
    page.click("#panel .toggle-button")
    talk(page, served, "Now without")
    assert served.model.openings[-1].thinking is False
    assert [one.content for one in served.model.prompts[-1] if one.role == "assistant"] == ["So it is."]
