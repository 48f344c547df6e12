"""Messages that attack the page or hang it, in Chromium, behind the real guard: none runs, none takes long."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ui.guard import PAGE_ROUTES, GuardPolicy, guard_whole_app
from ui.web.highlighter import HIGHLIGHTER_ROUTES, highlighter_routes, rendering_script
from ui.web.markdown import LATEX_DELIMITERS, normalise

# Gradio leaves event loops and their sockets to the garbage collector when it starts and when a page is closed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

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
    'a[^1][^"><script>window.__hit=1</script>]\n\n[^1]: <img src=x onerror=window.__hit=1> [c](javascript:__hit=1)',
    '```"><img/src=x/onerror=window.__hit=1>\nx\n```',
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
