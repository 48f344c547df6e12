"""The page in a browser: the load, faults, the queue, the side panel, languages and looks."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser import watch
from tests.scripted_model import Script
from tests.ui.web.served_page import RICH, Served, answers, ask, eventually, record, shoot, wait_until_answered
from ui.web.strings import Language, say

# Gradio leaves its event loop and some sockets to the garbage collector when a page is closed.
pytestmark = [
    pytest.mark.usefixtures("nothing_is_wrong_in_the_browser"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
expect = pytest.importorskip("playwright.sync_api").expect


def test_a_failed_answer_says_why_and_a_long_prompt_how_much_of_it_is_read(
    page: Any, serve: Callable[..., Served]
) -> None:
    served = serve(Script(answer="one two three", fail_at=2, tokens_per_s=500))
    served.open(page)
    ask(page, "hello")
    expect(page.locator("#chatbot .failure")).to_contain_text("The scripted model failed as it was told to.")
    expect(answers(page)).to_contain_text("one two")
    served.model.script = Script(answer="All is well.", tokens_per_s=500)
    ask(page, "again")
    expect(answers(page).last).to_contain_text("All is well.")
    served.model.script = Script(reads=((400, 1830), (1200, 1830)), queue_step_s=1.0, tokens_per_s=500)
    told = record(page, "document.querySelector('#chatbot .live-text')?.textContent")
    ask(page, "hello")
    eventually(lambda: any("Reading 1,200 of 1,830 tokens" in text for text in told()))
    wait_until_answered(page)


def test_the_place_in_the_queue_is_shown(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(queue=2, queue_step_s=1.0, reasoning="Hm. " * 8, tokens_per_s=20))
    served.open(page)
    states = record(page, "document.body.dataset.answering")
    told = record(page, "document.querySelector('#chatbot .live-text')?.textContent")
    ask(page, "hello")
    wait_until_answered(page)
    assert [place for place in told() if "Place" in place] == ["Place 2 of 2 in the queue", "Place 1 of 1 in the queue"]
    assert states() in (["yes", "no"], ["no", "yes", "no"])  # Stop never flickers


def test_a_question_asked_while_the_model_loads_is_answered_later(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="I am here now.", tokens_per_s=500), is_loaded=False)
    served.open(page)
    expect(page.locator("#status")).to_contain_text("Starting")
    served.load.report("weights", 0.4, "3.2 of 8.0 GB")
    expect(page.locator("#status")).to_contain_text("3.2 of 8.0 GB")
    ask(page, "hello")
    expect(page.locator("#chatbot .live-text")).to_contain_text("Reading the weights 40%")
    shoot(page, "loading")
    served.load.finish()
    expect(answers(page)).to_contain_text("I am here now.")
    expect(page.locator("#status")).to_be_hidden()
    expect(page.locator("#brand")).to_contain_text("scripted")


def test_a_failed_load_shows_its_message(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(is_loaded=False)
    served.load.fail("There is not enough memory; use --cpu-only.")
    served.open(page)
    expect(page.locator("#status")).to_contain_text("There is not enough memory; use --cpu-only.")
    ask(page, "hello")
    expect(page.locator("#chatbot .failure")).to_contain_text("There is not enough memory; use --cpu-only.")


def test_a_model_in_trouble_is_told_and_the_conversation_stays(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="Before the trouble.", tokens_per_s=500))
    served.open(page)
    ask(page, "hello")
    wait_until_answered(page)
    served.model.problem = "The model has computed nothing for 30 seconds. Start the program again."
    page.reload()
    expect(page.locator("#status")).to_contain_text("The model is in trouble")
    expect(page.locator("#status")).to_contain_text("computed nothing for 30 seconds")
    expect(answers(page)).to_contain_text("Before the trouble.")
    shoot(page, "trouble")


def test_the_panel_says_what_the_model_is_and_how_it_answers(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(tokens_per_s=500))
    served.open(page)
    page.click("#panel .toggle-button")
    expect(page.locator("#card")).to_contain_text(served.model.placement.reason)
    expect(page.locator("#card")).to_contain_text("4,096")
    expect(page.locator("#card")).to_contain_text(served.model.capacity)
    expect(page.locator("#system textarea")).to_have_value("You are a scripted assistant.")
    expect(page.locator("#set-temperature input[type=number]")).to_have_value("0.7")
    page.fill("#system textarea", "Be brief.")
    page.fill("#set-temperature input[type=number]", "0.3")
    ask(page, "hello")
    wait_until_answered(page)
    assert served.model.prompts[-1][0].content == "Be brief."
    sampling = served.model.samplings[-1]
    assert sampling is not None
    assert (sampling.temperature, sampling.top_p) == (0.3, 0.8)
    page.reload()
    page.wait_for_selector("body[data-attached=yes]")
    page.click("#panel .toggle-button")
    expect(page.locator("#system textarea")).to_have_value("Be brief.")
    expect(page.locator("#set-temperature input[type=number]")).to_have_value("0.3")
    eventually(lambda: page.evaluate("document.querySelector('#panel').getBoundingClientRect().right <= innerWidth"))
    shoot(page, "panel")
    page.click("#reset")
    expect(page.locator("#system textarea")).to_have_value("You are a scripted assistant.")
    expect(page.locator("#set-temperature input[type=number]")).to_have_value("0.7")


def test_messages_over_the_window_are_marked_where_the_model_begins_to_read(
    page: Any, serve: Callable[..., Served]
) -> None:
    served = serve(Script(answer="y" * 60, tokens_per_s=1000), context_length=300)
    served.open(page)
    for number in range(3):
        ask(page, f"{number} " + "x" * 60)
        eventually(lambda done=2 * number + 2: len(served.path()) == done and served.path()[-1].state == "complete")
        wait_until_answered(page)
    expect(page.locator("#chatbot .divider")).to_contain_text("The 2 messages above no longer fit")
    expect(page.locator("#chatbot .facts").last).to_contain_text("without the 2 oldest messages")


@pytest.mark.parametrize(
    ("locale", "language", "scheme", "width"),
    [
        ("en-GB", "en", "light", 1280),
        ("zh-CN", "zh", "dark", 1280),
        ("zh-TW", "zh", "light", 800),
        ("ja-JP", "ja", "light", 375),
        ("fr-FR", "en", "dark", 375),
    ],
)
def test_the_page_speaks_the_browsers_language(
    browser: Any, serve: Callable[..., Served], locale: str, language: Language, scheme: str, width: int
) -> None:
    served = serve(Script(answer=RICH, tokens_per_s=500))
    context = browser.new_context(locale=locale, color_scheme=scheme, viewport={"width": width, "height": 760})
    page = context.new_page()
    watch(page)
    served.open(page)
    name = f"{locale}-{scheme}-{width}"
    shoot(page, f"{name}-empty")
    expect(page.locator("#greeting")).to_have_text(say(language, "greeting"))
    expect(page.locator("#box textarea")).to_have_attribute("placeholder", say(language, "placeholder"))
    expect(page.locator("#send")).to_have_text(say(language, "send"))
    expect(page.locator("#starters .starter").first).to_have_text(say(language, "starter_1"))
    page.click("#starters .starter >> nth=1")
    wait_until_answered(page)
    assert served.path()[0].text == say(language, "starter_2")
    tokens = served.path()[-1].usage.completion_tokens  # type: ignore[union-attr]
    expect(page.locator("#chatbot .facts")).to_contain_text(say(language, "tokens", tokens=tokens))
    expect(page.locator("#chatbot .act-copy")).to_have_attribute("title", say(language, "copy"))
    expect(answers(page)).to_contain_text("is a formula.")
    shoot(page, f"{name}-finished")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")
    assert page.page_errors == []
    context.close()


def test_every_control_has_a_name(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=RICH, reasoning="Hm.", tokens_per_s=500))
    served.open(page)
    ask(page, "hello")
    wait_until_answered(page)
    page.click("#panel .toggle-button")
    expect(page.get_by_role("slider", name="Top-p")).to_be_visible()
    expect(page.get_by_role("button", name="hello", exact=True)).to_be_visible()
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "checkbox", "combobox", "link", "radio", "searchbox", "slider", "spinbutton", "textbox"}
    controls = [one for one in tree if not one["ignored"] and one["role"]["value"] in roles]
    assert len(controls) > 20
    assert [one for one in controls if not one["name"]["value"].strip()] == []


def test_the_conversation_never_travels_from_the_browser(serve: Callable[..., Served]) -> None:
    config = serve().page.blocks.config
    kinds = {component["id"]: component["type"] for component in config["components"]}
    chatbots = {one for one, kind in kinds.items() if kind == "chatbot"}
    assert len(chatbots) == 1
    for dependency in config["dependencies"]:
        assert {kinds[one] for one in dependency["inputs"]} <= {
            "textbox",
            "number",
            "slider",
            "checkbox",
            "dropdown",
            "radio",
            "state",
        }
        assert dependency["api_visibility"] == "private"
        assert not dependency["js"]
        if chatbots & set(dependency["outputs"]):
            assert len(dependency["outputs"]) == 1
    assert "html" not in kinds.values()
