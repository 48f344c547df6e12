"""Messages of every kind on the real page in Chromium: what is seen of them, and what can be done with them.

The pictures `gallery-*.png` in the output folder are for people to look at.
"""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import output_folder
from tests.scripted_model import Script
from tests.ui.web.gallery import CODE, COMMON_LANGUAGES, GALLERY, PYTHON
from tests.ui.web.served_page import Served, ask, eventually, record, wait_until_answered
from ui.web.blocks import MARK

# Gradio leaves event loops and their sockets to the garbage collector when it starts and when a page is closed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
expect = pytest.importorskip("playwright.sync_api").expect

COLOURED = """code => [...CSS.highlights].flatMap(([name, layer]) =>
    [...layer].filter(range => code.contains(range.startContainer)).map(range => [
        name.slice(5), range.startContainer.data.slice(range.startOffset, range.endOffset)
    ]))"""


UNCOLOURED = """languages => new Promise(resolve => {
    const script = performance.getEntriesByType('resource').find(one => one.name.includes('/highlight-'));
    const worker = new Worker(script.name);
    const unknown = [];
    let at = -1;
    worker.onmessage = ({ data }) => {
        if (data.colours === null) unknown.push(languages[at]);
        at += 1;
        if (at === languages.length) resolve(unknown);
        else worker.postMessage({ language: languages[at], text: '"a" 1' });
    };
})"""


def text_of(element: Any) -> str:
    return str(element.inner_text()).replace(MARK, "")


def colours_of(code: Any) -> list[tuple[str, str]]:
    """What of the code has which colour, once it has any."""
    code.scroll_into_view_if_needed()
    code.page.wait_for_function(f"code => ({COLOURED})(code).length", arg=code.element_handle())
    return [tuple(pair) for pair in code.evaluate(COLOURED)]


@pytest.fixture
def gallery(page: Any) -> Iterator[dict[str, Any]]:
    """The gallery as one conversation of the real page, in a window as high as it."""
    served = Served(Script(), max_shown=2 * len(GALLERY))
    owner = secrets.token_hex(16)
    conversation = served.page.conversations.create(owner)
    for name, text in GALLERY.items():
        answer = conversation.start_answer(conversation.add_user(name).id, text)
        conversation.amend(answer.id, state="complete")
    page.add_init_script(f"localStorage.setItem('qwen-chat.owner', {json.dumps(owner)})")
    page.set_viewport_size({"width": 1280, "height": 7000})
    served.open(page)
    rows = page.locator("#chatbot .bot-row")
    expect(rows).to_have_count(len(GALLERY))
    page.wait_for_selector("#chatbot .katex")
    yield {name: rows.nth(index) for index, name in enumerate(GALLERY)}
    served.close()


def test_the_gallery_reads_as_it_was_meant(gallery: dict[str, Any], page: Any) -> None:
    check_texts(gallery, page)
    check_code(gallery)
    check_tables_and_formulas(gallery)
    check_notes(gallery["footnotes"], page)
    check_diagrams(gallery)
    check_directions(gallery["right to left"])
    check_actions(gallery, page)
    check_pictures(page)
    assert [said for said in page.page_errors if "Parse error" not in said] == []
    assert page.foreign_requests == []


def check_texts(gallery: dict[str, Any], page: Any) -> None:
    math = gallery["math"]
    assert math.locator(".katex").count() == 11
    assert math.locator(".katex-display").count() == 3
    assert math.locator("td .katex").count() == 2
    assert math.locator("li .katex").count() == 2 + 1
    assert gallery["chemistry"].locator(".katex").count() == 3
    assert page.locator(".katex-error").count() == 0
    assert text_of(gallery["money"].locator("p").first) == GALLERY["money"]
    assert gallery["money"].locator(".katex").count() == 0
    html = text_of(gallery["html"])
    assert html.startswith("Use the <div> tag, <b>not bold</b>, #include <stdio.h>, https://qwen.ai")
    assert "<!-- shown -->" in html
    assert gallery["html"].locator("a").get_attribute("href") == "https://qwen.ai"
    assert [text_of(one) for one in gallery["bold"].locator("strong").all()][:2] == ["“引号”", "注意："]
    assert gallery["bold"].locator("strong").count() == 3
    assert gallery["bold"].locator("del").count() == 0
    assert gallery["bold"].locator("a").get_attribute("href") == "https://qwen.ai"
    assert gallery["lists"].locator("blockquote .katex-display").count() == 1
    assert gallery["picture"].locator("img").count() == 0
    assert gallery["picture"].locator("a").get_attribute("href") == "https://example.com/cat.png"
    assert "\\frac" in text_of(gallery["streaming"])
    boxes = gallery["tasks"].locator("input[type=checkbox]")
    assert [box.is_checked() for box in boxes.all()] == [True, False, True]
    shown = "box => getComputedStyle(box).backgroundImage"
    assert "svg" in boxes.nth(0).evaluate(shown)
    assert boxes.nth(1).evaluate(shown) == "none"


def check_code(gallery: dict[str, Any]) -> None:
    code = gallery["code"]
    assert text_of(code.locator("p code")) == "$a$ <div> \\(x\\)"
    assert code.locator("pre code").first.text_content().replace(MARK, "") == CODE + "\n"
    assert ("attribute", "$(CFLAGS)") in colours_of(code.locator("pre code").first)
    assert ("keyword", "const") in colours_of(code.locator("pre code").nth(1))
    assert gallery["lists"].locator("li pre code").text_content() == "echo $A $B\n"
    assert gallery["streaming code"].locator("pre code").text_content() == "print('$x$ <b>')\n"
    long = gallery["long code"]
    assert long.locator(".code-language").all_text_contents() == ["python", "Code", "brainfuck"]
    python = colours_of(long.locator("pre code").first)
    assert {("keyword", "class"), ("name", "Point"), ("number", "0.0")} <= set(python)
    assert long.page.evaluate(UNCOLOURED, COMMON_LANGUAGES.split()) == []
    pre = long.locator("pre").first
    assert pre.evaluate("pre => pre.scrollWidth > pre.clientWidth && pre.tabIndex === 0")
    assert pre.evaluate("pre => pre.querySelectorAll('*').length") == 1  # the text is one piece, as Gradio made it


def check_tables_and_formulas(gallery: dict[str, Any]) -> None:
    cells = gallery["alignment"].locator("tr:last-child td")
    assert cells.evaluate_all("all => all.map(one => getComputedStyle(one).textAlign)") == ["left", "center", "right"]
    scrolls = "one => one.scrollWidth > one.clientWidth && getComputedStyle(one).overflowX === 'auto'"
    assert gallery["wide table"].locator("table").evaluate(scrolls)
    assert gallery["wide formula"].locator(".katex-display").evaluate(scrolls)
    assert gallery["wide formula"].locator("p.is-wide").evaluate(scrolls)


def check_notes(row: Any, page: Any) -> None:
    assert text_of(row.locator("p").first) == "Water boils at 100 °C1, or below2; [^1] is code, [^a-z] a pattern."
    notes = row.locator(".footnotes + ol > li")
    assert notes.locator(".katex").count() == 1
    assert notes.nth(1).locator("strong").text_content() == "mountain"
    row.locator(".fn-ref a").nth(1).press("Enter")
    expect(notes.nth(1)).to_be_focused()
    notes.nth(1).locator(".fn-back").press("Enter")
    expect(row.locator(".fn-ref a").nth(1)).to_be_focused()
    assert notes.nth(1).locator(".fn-back").get_attribute("aria-label") == "Back to the text"
    assert page.evaluate("location.hash") == ""


def check_diagrams(gallery: dict[str, Any]) -> None:
    gallery["diagram"].locator("svg .node").first.wait_for()
    assert gallery["diagram"].locator("svg .node").count() == 4
    broken = gallery["broken diagram"].locator(".mermaid")
    broken.locator(".diagram-note").wait_for()
    assert "    A[Question --> B{{\n      indented" in broken.text_content()
    assert broken.locator("svg").count() == 0
    assert gallery["unfinished diagram"].locator(".code-language").text_content() == "mermaid"
    assert gallery["unfinished diagram"].locator("pre code").text_content() == "graph LR\n    A --> B\n"


def check_directions(row: Any) -> None:
    direction = "all => all.map(one => getComputedStyle(one).direction)"
    assert row.locator("ul, ol").evaluate_all(direction) == ["rtl", "rtl", "ltr"]
    assert row.locator("table, blockquote").evaluate_all(direction) == ["rtl", "rtl"]
    sides = row.locator(".prose > p").evaluate_all(
        """all => all.map(one => {
            const text = document.createRange();
            text.selectNodeContents(one);
            const [inner, outer] = [text.getBoundingClientRect(), one.getBoundingClientRect()];
            const isAt = side => Math.abs(inner[side] - outer[side]) < 2;
            return isAt('right') ? 'right' : isAt('left') ? 'left' : '';
        })"""
    )
    assert sides[:2] == ["right", "left"]


def check_actions(gallery: dict[str, Any], page: Any) -> None:
    """All of them with the keyboard."""
    clipboard = "navigator.clipboard.readText()"
    done = record(page, "[...document.querySelectorAll('.is-done')].at(-1)?.className")
    row = gallery["long code"]
    row.get_by_role("button", name="Copy code").first.press("Enter")
    eventually(lambda: "code-copy is-done" in done())
    assert page.evaluate(clipboard) == PYTHON.removesuffix("\n")
    wrap = row.get_by_role("button", name="Wrap long lines").first
    wrap.press("Enter")
    assert row.locator("pre").first.evaluate("pre => pre.scrollWidth === pre.clientWidth")
    assert page.locator('.code-wrap[aria-pressed="false"]').count() == 0
    wrap.press("Enter")
    source = row.get_by_role("button", name="Show source")
    source.press("Enter")
    row.locator("pre.source").wait_for()
    assert row.locator("pre.source").text_content() == GALLERY["long code"]
    expect(row.locator(".act-source[aria-pressed=true]")).to_be_focused()
    page.keyboard.press("Enter")
    row.locator(".code-head").first.wait_for()
    assert row.locator("pre.source").count() == 0
    for name in ("math", "footnotes"):
        gallery[name].get_by_role("button", name="Copy", exact=True).press("Enter")
        eventually(lambda name=name: page.evaluate(clipboard) == GALLERY[name])
    eventually(lambda: any("act-copy" in names for names in done()))


def check_pictures(page: Any) -> None:
    page.click("#history .toggle-button")
    for width in (1280, 375):
        page.set_viewport_size({"width": width, "height": 7000})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_selector("body.dark" if scheme == "dark" else "body:not(.dark)")
            page.screenshot(path=output_folder() / f"gallery-{scheme}-{width}.png")
        wide = """selector => {
            const box = document.querySelector(selector);
            return box.scrollWidth - box.clientWidth;
        }"""
        assert [page.evaluate(wide, one) for one in ("html", "#chatbot .bubble-wrap")] == [0, 0]


def test_code_has_its_colours_while_it_is_being_written(page: Any) -> None:
    answer = f"```python\n{PYTHON * 4}```\n\n```mermaid\ngraph LR\nA-->B\n```"
    served = Served(Script(answer=answer, tokens_per_s=400, hang_at=120))
    served.open(page)
    ask(page, "Write")
    page.wait_for_function(
        f"() => {{ const code = document.querySelector('#chatbot .bot-row:has(.live) pre code');"
        f" return code && code.textContent.length > 300 && ({COLOURED})(code).length > 20; }}"
    )
    served.model.released.set()
    wait_until_answered(page)
    page.wait_for_selector("#chatbot .mermaid svg .node")
    coloured = page.locator("#chatbot pre code").evaluate(COLOURED)
    assert coloured.count(["keyword", "class"]) == 4
    left_over = "[...CSS.highlights].flatMap(([_, all]) => [...all].filter(one => !one.startContainer.isConnected))"
    assert page.evaluate(left_over) == []
    assert page.page_errors == []
    assert page.foreign_requests == []
    served.close()
