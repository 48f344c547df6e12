"""Messages of every kind in Chromium, behind the real guard: what is seen, and what stays out.

The pictures `gallery-*.png` in the output folder are for people to look at.
"""

import json
import secrets
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.browser import output_folder
from tests.scripted_model import Script
from tests.ui.web.gallery import CODE, GALLERY, PYTHON
from tests.ui.web.served_page import Served, ask, wait_until_answered
from ui.guard import PAGE_ROUTES, GuardPolicy, guard_whole_app
from ui.web.blocks import MARK
from ui.web.highlighter import HIGHLIGHTER_ROUTES, highlighter_routes, rendering_script
from ui.web.markdown import LATEX_DELIMITERS, normalise

# Gradio leaves event loops and their sockets to the garbage collector when it starts and when a page is closed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
expect = pytest.importorskip("playwright.sync_api").expect

ATTACKS = [
    "<script>window.__hit=1</script>",
    "<img src=x onerror=window.__hit=1>",
    "<svg onload=window.__hit=1>",
    '<iframe srcdoc="<script>parent.__hit=1</script>"></iframe>',
    "<details open ontoggle=window.__hit=1>x</details>",
    '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=window.__hit=1&gt;">',
    "[c](javascript:window.__hit=1)",
    "<a href=' java\tscript:window.__hit=1'>x</a>",
    "[d](data:text/html,<script>window.__hit=1</script>)",
    "![x](http://example.com/?q=S)",
    "![x][r]\n\n[r]: http://example.com/ref",
    "<video src=http://example.com/v></video><link rel=stylesheet href=http://example.com/s>",
    "<meta http-equiv=refresh content='0;url=http://example.com/'><base href=http://example.com/>",
    "<style>@import 'http://example.com/s'; body{display:none}</style>",
    "<x-tag style=position:fixed;inset:0>overlay</x-tag>",
    "<form action=http://example.com><input type=password></form>",
    r"$\href{javascript:window.__hit=1}{x}$ $\includegraphics{http://example.com/i}$ $\htmlData{a=b}{x}$",
    r"$\rule{9999em}{9999em}$ $\def\a{\a\a}\a$",
    '```mermaid\ngraph TD\nA-->B\nclick A "javascript:window.__hit=1"\n```',
    "```mermaid\n<img src=x onerror=window.__hit=1>\n```",
    "```mermaid\n%%{init: {'themeCSS': '} body{display:none} {'}}%%\ngraph TD\nA-->B\n```",
    "```mermaid\n---\nconfig:\n  themeCSS: '} body{display:none} {'\n---\ngraph TD\nA-->B\n```",
    "a[^1][^\"><script>window.__hit=1</script>]\n\n[^1]: <img src=x onerror=window.__hit=1> [c](javascript:window.__hit=1)",
    "```\"><img/src=x/onerror=window.__hit=1>\nx\n```",
    "```html\n<img src=x onerror=window.__hit=1></code></pre><script>window.__hit=1</script>\n```",
    "%%%LATEX_BLOCK_0%%% %%%LATEX_BLOCK_99%%%",
    "```\r<img src=x onerror=window.__hit=1>",
]

SIZE = 20_000
HOSTILE = {
    "nested quotes": "> " * (SIZE // 2),
    "nested lists": "- " * (SIZE // 2),
    "deep list": "\n".join(" " * (2 * depth) + "- a" for depth in range(140)),
    "open emphasis": "*a " * (SIZE // 3),
    "open brackets": "![a](" * (SIZE // 5),
    "backticks": "`" * SIZE,
    "open formulas": "\\(" * (SIZE // 2),
    "braces": "$" + "{" * (SIZE // 2) + "}" * (SIZE // 2) + "$",
    "open code": "```\n" + "x" * SIZE,
    "open strings": "```python\n" + "\"'" * (SIZE // 2),
    "notes": "[^1]" * (SIZE // 16) + "\n\n" + "".join(f"[^{n}]: a[^{n}]\n" for n in range(SIZE // 16)),
    "wide table": "|" + "a|" * 1000 + "\n|" + "-|" * 1000 + "\n|" + "b|" * 1000,
    "long link": "http://" + "a" * SIZE,
}

Show = Callable[..., Any]
WATCH = """(function begin() {
    const root = document.querySelector('#conversation');
    const wordOf = (element, beginning) =>
        ([...element.classList].find(name => name.startsWith(beginning)) || beginning).slice(beginning.length);
    root ? qwenRendering({ wordOf }).watch(root) : setTimeout(begin, 20);
})();"""
COLOURED = """code => [...CSS.highlights].flatMap(([name, layer]) =>
    [...layer].filter(range => code.contains(range.startContainer)).map(range => [
        name.slice(5), range.startContainer.data.slice(range.startOffset, range.endOffset)
    ]))"""


@pytest.fixture(scope="module")
def chat_url() -> Iterator[str]:
    """A page that shows the texts it is sent as answers, one message each."""
    gr = pytest.importorskip("gradio")

    def answer(texts: list[str]) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        for text in texts:
            messages.append({"role": "user", "content": [{"type": "text", "text": "?"}]})
            messages.append({"role": "assistant", "content": [{"type": "text", "text": normalise(text)}]})
        return messages

    with gr.Blocks(analytics_enabled=False) as demo:
        chatbot = gr.Chatbot(
            elem_id="conversation",
            layout="bubble",
            buttons=[],
            height=None,
            latex_delimiters=LATEX_DELIMITERS,
            sanitize_html=True,
            allow_tags=False,
        )
        texts = gr.JSON(visible="hidden")
        box = gr.Textbox(elem_id="texts")
        show = gr.Button("show", elem_id="show")
        show.click(lambda text: text.split("\x1f"), box, texts).then(answer, texts, chatbot)
    demo.queue(api_open=False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    demo.launch(
        prevent_thread_lock=True,
        quiet=True,
        server_name="127.0.0.1",
        server_port=port,
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        footer_links=[],
        css=".message-row { contain: content }",
        head=f"<script>{rendering_script()}\n{WATCH}</script>",
        app_kwargs={
            "lifespan": guard_whole_app(GuardPolicy((*PAGE_ROUTES, *HIGHLIGHTER_ROUTES))),
            "openapi_url": None,
            "routes": highlighter_routes(),
        },
    )
    yield f"http://127.0.0.1:{port}/"
    demo.close(verbose=False)


@pytest.fixture
def show(page: Any, chat_url: str) -> Show:
    """Shows texts as answers on an open page and returns the bubbles when all of them have their content."""

    def show_texts(*texts: str) -> Any:
        if page.url != chat_url:
            page.goto(chat_url)
            page.wait_for_selector("#texts textarea, #texts input")
        page.evaluate(
            """text => {
                const box = document.querySelector('#texts textarea, #texts input');
                box.value = text;
                box.dispatchEvent(new Event('input', {bubbles: true}));
            }""",
            "\x1f".join([*texts, "END"]),
        )
        page.click("#show")
        bubbles = page.locator("#conversation .bot .md")
        page.wait_for_function(
            """count => {
                const found = [...document.querySelectorAll('#conversation .bot .md')];
                return found.length === count && found.every(one => one.childElementCount > 0)
                    && found[count - 1].textContent.trim() === 'END';
            }""",
            arg=len(texts) + 1,
            timeout=20_000,
        )
        return bubbles

    return show_texts


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
    assert {("keyword", "class"), ("name", "Point"), ("number", "0.0")} <= set(colours_of(long.locator("pre code").first))
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
            return Math.abs(inner.right - outer.right) < 2 ? 'right' : Math.abs(inner.left - outer.left) < 2 ? 'left' : '';
        })"""
    )
    assert sides[:2] == ["right", "left"]


def check_actions(gallery: dict[str, Any], page: Any) -> None:
    """All of them with the keyboard."""
    clipboard = "navigator.clipboard.readText()"
    row = gallery["long code"]
    row.get_by_role("button", name="Copy code").first.press("Enter")
    page.wait_for_selector(".code-copy.is-done")
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
        page.evaluate("navigator.clipboard.writeText('')")
        gallery[name].get_by_role("button", name="Copy", exact=True).press("Enter")
        page.wait_for_function(f"async () => (await {clipboard}) !== ''")
        assert page.evaluate(clipboard) == GALLERY[name]


def check_pictures(page: Any) -> None:
    page.click("#history .toggle-button")
    for width in (1280, 375):
        page.set_viewport_size({"width": width, "height": 7000})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function("isDark => document.body.classList.contains('dark') === isDark", arg=scheme == "dark")
            page.screenshot(path=output_folder() / f"gallery-{scheme}-{width}.png")
        wide = """selector => {
            const box = document.querySelector(selector);
            return box.scrollWidth - box.clientWidth;
        }"""
        assert [page.evaluate(wide, one) for one in ("html", "#chatbot .bubble-wrap")] == [0, 0]


def test_code_has_its_colours_while_it_is_being_written(page: Any) -> None:
    served = Served(Script(answer=f"```python\n{PYTHON * 4}```\n\n```mermaid\ngraph LR\nA-->B\n```", tokens_per_s=400, hang_at=120))
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
    assert page.evaluate("[...CSS.highlights].every(([_, all]) => [...all].every(one => one.startContainer.isConnected))")
    assert page.page_errors == []
    assert page.foreign_requests == []
    served.close()


def test_attacks_execute_nothing_and_reach_nobody(show: Show, page: Any) -> None:
    bubbles = show(*ATTACKS)
    bubbles.locator(".katex, .katex-error").first.wait_for()
    bubbles.locator(".mermaid svg .node").first.wait_for()
    assert page.locator("body").is_visible()
    assert page.evaluate("window.__hit") is None
    assert page.foreign_requests == []
    allowed = "script, iframe, video, link, meta, base, style:not(svg style), form, input:not([type=checkbox]), x-tag"
    assert bubbles.locator(allowed).count() == 0
    assert bubbles.locator('a[href^="javascript"], a[href^="data"], img[src^="http"]').count() == 0
    assert bubbles.evaluate_all("all => Math.max(...all.map(one => one.scrollHeight))") < 3000
    assert not [error for error in page.page_errors if "dialog" in error]


def test_hostile_text_takes_no_longer_than_ordinary_text_in_order_of_magnitude(show: Show, page: Any) -> None:
    ordinary = ("一段 **文字：** with `code`, $x^2$ and $5.\n\n- item\n\n```python\nprint(1)\n```\n\n" * 400)[:SIZE]
    usual = seconds_to_show(show, page, ordinary)
    slow = {name: took for name, text in HOSTILE.items() if (took := seconds_to_show(show, page, text)) > 4 * usual + 2}
    assert slow == {}
    assert page.page_errors == []


def seconds_to_show(show: Show, page: Any, text: str) -> float:
    show("-", "-")
    start = page.evaluate("performance.now()")
    show(text)
    return float(page.evaluate("performance.now()") - start) / 1000
