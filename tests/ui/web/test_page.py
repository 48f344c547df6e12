"""The page in a browser, with a scripted model: what a user does, and what is then on the screen."""

import gc
import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.browser import output_folder, watch
from tests.scripted_model import Script, ScriptedLoad, ScriptedModel
from ui.chat.message import StoredMessage
from ui.web.launch import ServedPage
from ui.web.options import PageOptions
from ui.web.strings import Language, say

# Gradio leaves its event loop and some sockets to the garbage collector when a page is closed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
expect = pytest.importorskip("playwright.sync_api").expect

WORDS = " ".join(f"word{number}" for number in range(400))
RICH = """## A table

| Checkpoint | Parameters |
|:--|--:|
| Qwen3-0.6B | 0.6 B |
| Qwen3-4B | 4.0 B |

```python
def double(number: int) -> int:
    return 2 * number
```

It costs $5 or $10, and $$\\frac{a}{b} = c$$ is a formula.
"""


class Served:
    """A page on a free port with a scripted model behind it."""

    def __init__(
        self,
        script: Script,
        *,
        is_loaded: bool = True,
        linger_s: float = 10.0,
        max_shown: int = 60,
        context_length: int = 4096,
    ) -> None:
        self.model = ScriptedModel(script, context_length)
        self.load = ScriptedLoad(self.model, is_loaded=is_loaded)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = PageOptions(server_port=port, linger_s=linger_s)
        self.page = ServedPage(self.load, options, max_shown=max_shown)  # type: ignore[arg-type]

    def open(self, page: Any) -> None:
        """Opens the page and waits until it knows its conversation."""
        page.goto(self.page.url)
        page.wait_for_selector("body[data-attached=yes]")

    def begin_again(self, script: Script) -> None:
        """As if it had just been opened."""
        for conversation in self.page.conversations._by_id.values():
            self.page.answers.stop(conversation.id)
        self.page.conversations._by_id.clear()
        self.model.begin_again(script)

    def close(self) -> None:
        """Ends what runs and closes the port."""
        self.model.released.set()
        self.page.close()
        gc.collect()

    def paths(self) -> list[tuple[StoredMessage, ...]]:
        """The branches on screen of all conversations that are not empty."""
        conversations = self.page.conversations._by_id.values()
        return [path for path in (one.path() for one in conversations) if path]

    def path(self) -> tuple[StoredMessage, ...]:
        """The only branch there is, empty as long as there is none."""
        paths = self.paths()
        assert len(paths) <= 1
        return paths[0] if paths else ()


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    """The page that tests without wishes of their own take one after another."""
    served = Served(Script())
    yield served
    served.close()


@pytest.fixture
def serve(shared: Served) -> Iterator[Callable[..., Served]]:
    """Gives a page with a script and no conversations; options make a page of its own."""
    own: list[Served] = []

    def make(script: Script | None = None, **options: Any) -> Served:
        script = script or Script()
        if not options:
            shared.begin_again(script)
            return shared
        own.append(Served(script, **options))
        return own[-1]

    yield make
    for one in own:
        one.close()


@pytest.fixture(autouse=True)
def nothing_is_wrong_in_the_browser(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test may leave an error in the console or ask another host for anything."""
    page = request.getfixturevalue("page") if "page" in request.fixturenames else None
    yield
    if page is not None:
        assert [said for said in page.page_errors if not is_cut_by_leaving(said)] == []
        assert page.foreign_requests == []


def is_cut_by_leaving(said: str) -> bool:
    """Whether Gradio complains about a stream that ended because the page was left; nobody can see that any more."""
    return said.startswith("AbortError: signal is aborted") or "Connection errored out" in said


def ask(page: Any, text: str) -> None:
    page.fill("#box textarea", text)
    page.press("#box textarea", "Enter")


def answers(page: Any) -> Any:
    return page.locator("#chatbot .bot-row")


def wait_until_answered(page: Any) -> None:
    page.wait_for_selector("#chatbot .foot:not(.live)")
    page.wait_for_selector("body[data-answering=no]")


def eventually(is_so: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def shoot(page: Any, name: str) -> None:
    page.screenshot(path=output_folder() / f"page-{name}.png")


# Asking and watching


def test_an_answer_streams_and_ends_with_its_figures(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=WORDS, tokens_per_s=150))
    served.open(page)
    shoot(page, "empty")
    ask(page, "Tell me words")
    expect(page.locator("#box textarea")).to_have_value("")
    expect(page.locator("#chatbot .user-row")).to_contain_text("Tell me words")
    lengths = []
    for count in (20, 100, 200, 300):
        page.wait_for_selector(f"#chatbot .bot-row:has-text('word{count}')")
        lengths.append(len(answers(page).inner_text()))
        assert page.locator("#chatbot .foot.live").count() == 1
    shoot(page, "streaming")
    assert lengths == sorted(set(lengths))
    wait_until_answered(page)
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


def test_enter_sends_and_shift_enter_breaks_the_line(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(tokens_per_s=500))
    served.open(page)
    page.focus("#box textarea")
    page.keyboard.type("first")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second")
    page.keyboard.press("Enter")
    wait_until_answered(page)
    assert served.path()[0].text == "first\nsecond"


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


def test_text_with_tabs_and_indentation_arrives_whole(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="```make\nall:\n\techo \\(hi) $HOME $a\n```", tokens_per_s=500))
    served.open(page)
    ask(page, "    indented\n\ttabbed")
    wait_until_answered(page)
    assert served.path()[0].text == "    indented\n\ttabbed"
    page.click("#chatbot .bot-row .copy_code_button")
    eventually(lambda: page.evaluate("navigator.clipboard.readText().then((text) => text.startsWith('all:'))"))
    assert page.evaluate("navigator.clipboard.readText()").rstrip() == "all:\n\techo \\(hi) $HOME $a"


def test_a_starter_question_is_asked_with_one_click(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(tokens_per_s=500))
    served.open(page)
    page.click("#starters .starter >> nth=1")
    wait_until_answered(page)
    assert served.path()[0].text == say("en", "starter_2")
    expect(page.locator("#welcome")).to_be_hidden()


def test_the_copy_button_gives_what_the_model_wrote(page: Any, serve: Callable[..., Served]) -> None:
    text = "**“引号”**后，costs $5, $x^2$ and `code`\n\n- <div> stays\n"
    served = serve(Script(answer=text, tokens_per_s=500))
    served.open(page)
    ask(page, "hello")
    wait_until_answered(page)
    page.click("#chatbot .act-copy")
    page.wait_for_selector("#chatbot .act-copy.is-done")
    assert page.evaluate("navigator.clipboard.readText()") == text


def test_a_reader_is_not_pulled_back_to_the_end(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="\n\n ".join(WORDS.split()), tokens_per_s=60))
    served.open(page)
    ask(page, "Tell me words")
    page.wait_for_selector("#chatbot .bot-row:has-text('word40')")
    where = "document.querySelector('#chatbot .bubble-wrap').scrollTop"
    end = page.evaluate(where)
    assert end > 500
    page.mouse.move(600, 400)
    page.mouse.wheel(0, -400)
    eventually(lambda: page.evaluate(where) < end - 300)
    left_at = page.evaluate(where)
    page.wait_for_selector("#chatbot .bot-row:has-text('word80')")
    assert abs(page.evaluate(where) - left_at) < 50
    page.click("#to-end")
    eventually(lambda: page.evaluate(where) > end)
    page.wait_for_selector("#chatbot .bot-row:has-text('word110')")
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


# Stopping, repeating, clearing


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
    served = serve(Script(answer=WORDS, tokens_per_s=40))
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


# Faults and waiting


def test_a_failed_answer_says_why_and_the_next_one_works(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer="one two three", fail_at=2, tokens_per_s=500))
    served.open(page)
    ask(page, "hello")
    expect(page.locator("#chatbot .failure")).to_contain_text("The scripted model failed as it was told to.")
    expect(answers(page)).to_contain_text("one two")
    served.model.script = Script(answer="All is well.", tokens_per_s=500)
    ask(page, "again")
    expect(answers(page).last).to_contain_text("All is well.")


def test_the_place_in_the_queue_is_shown(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(queue=2, queue_step_s=1.0, tokens_per_s=500))
    served.open(page)
    ask(page, "hello")
    for ahead in (2, 1):
        page.wait_for_selector(f"#chatbot .live-text:has-text('{ahead} ahead of you')")
    wait_until_answered(page)


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


# Tabs and reloads


def test_a_reload_in_the_middle_goes_on_streaming(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(answer=WORDS, tokens_per_s=60))
    served.open(page)
    ask(page, "Tell me words")
    page.wait_for_selector("#chatbot .bot-row:has-text('word20')")
    page.reload()
    page.wait_for_selector("#chatbot .bot-row:has-text('word60')")
    assert page.locator("#chatbot .foot.live").count() == 1
    page.wait_for_selector("#chatbot .bot-row:has-text('word90')")
    page.click("#stop")
    wait_until_answered(page)
    assert served.path()[-1].state == "stopped"


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
    eventually(lambda: not served.page.tabs._tabs)
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
    expect(page.locator("#chatbot .user-row")).to_have_text(["question 2", "question 3"])
    page.click("#chatbot .act-earlier")
    expect(page.locator("#chatbot .user-row")).to_have_text([f"question {number}" for number in range(4)])
    expect(page.locator("#chatbot .act-earlier")).to_have_count(0)


# The side panel


def test_the_panel_says_what_the_model_is_and_how_it_answers(page: Any, serve: Callable[..., Served]) -> None:
    served = serve(Script(tokens_per_s=500))
    served.open(page)
    page.click("#panel .toggle-button")
    expect(page.locator("#card")).to_contain_text(served.model.placement.reason)
    expect(page.locator("#card")).to_contain_text("4,096")
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


# Languages and looks


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
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, textarea, input")]
            .filter((one) => one.checkVisibility({ visibilityProperty: true }) && one.ariaHidden !== "true")
            .filter((one) => !(one.innerText || one.ariaLabel || one.title || [...(one.labels || [])].length))
            .map((one) => one.outerHTML.slice(0, 200))"""
    )
    assert nameless == []


# What must hold for Gradio


def test_the_conversation_never_travels_from_the_browser(serve: Callable[..., Served]) -> None:
    config = serve().page.blocks.config
    kinds = {component["id"]: component["type"] for component in config["components"]}
    chatbots = {one for one, kind in kinds.items() if kind == "chatbot"}
    assert len(chatbots) == 1
    for dependency in config["dependencies"]:
        assert {kinds[one] for one in dependency["inputs"]} <= {"textbox", "slider", "state"}
        assert dependency["api_visibility"] == "private"
        assert not dependency["js"]
        if chatbots & set(dependency["outputs"]):
            assert len(dependency["outputs"]) == 1
    assert "html" not in kinds.values()
