"""Messages of every kind in a real chat page in Chromium, behind the real guard: what is seen, and what stays out.

The pictures `gallery-*.png` in the output folder are for people to look at.
"""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.browser import output_folder
from ui.guard import GuardPolicy, guard_whole_app
from ui.web.blocks import MARK
from ui.web.markdown import LATEX_DELIMITERS, normalise

# Gradio leaves event loops and their sockets to the garbage collector when it starts and when a page is closed.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CODE = 'all: <b>\n\tcc $(CFLAGS) -o "$@" \\(x\\) **“x”**y\n    ~a~ &amp;'

GALLERY = {
    "math": r"""Inline $E = mc^2$, \(\alpha_1 < \beta\) and 中$x$文; display:

$$
\int_0^1 x^2 \, dx = \frac{1}{3}
$$

\[ \begin{pmatrix} a & b \\ c & d \end{pmatrix} \]

\begin{align}
a &= b + c \\
d &= e
\end{align}

- in a list $\sum_{i=1}^n i$
- **bold $k$ bold**, 20% is $20%$

| formula | meaning |
|:--|--:|
| $a|b$ | divides |
| \(\sqrt{2}\) | root |
""",
    "chemistry": r"\ce{2H2 + O2 -> 2H2O}, $\ce{SO4^2-}$ and \ce{CaCO3 v}",
    "money": "It costs $5 and $10, between $5-$10 or US$7/$8; set $HOME/$USER.",
    "code": f"Run `$a$ <div> \\(x\\)` and\n\n```make\n{CODE}\n```\n\n```tsx\nconst a: number = 1; // $x$\n```\n",
    "html": "Use the <div> tag, <b>not bold</b>, #include <stdio.h>, <https://qwen.ai>, <!-- shown -->, a < b.",
    "bold": "使用**“引号”**后面，**注意：**后面，**$x$：**后面，3~5天，7~9天；见https://qwen.ai，了解。",
    "lists": "1. one\n   - two\n   ```sh\n   echo $A $B\n   ```\n2. three\n\n> quoted **text**\n> $$\n> q > 0\n> $$",
    "picture": "![a cat](https://example.com/cat.png) here",
    "streaming": "An answer that is not finished: $$ \\frac{a}{",
    "streaming code": "```python\nprint('$x$ <b>')\n",
}

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
    "wide table": "|" + "a|" * 1000 + "\n|" + "-|" * 1000 + "\n|" + "b|" * 1000,
    "long link": "http://" + "a" * SIZE,
}

Show = Callable[..., Any]


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
        app_kwargs={"lifespan": guard_whole_app(GuardPolicy()), "openapi_url": None},
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


@pytest.fixture
def gallery(show: Show) -> dict[str, Any]:
    bubbles = show(*GALLERY.values())
    bubbles.locator(".katex").first.wait_for()
    return {name: bubbles.nth(index) for index, name in enumerate(GALLERY)}


def text_of(element: Any) -> str:
    return str(element.inner_text()).replace(MARK, "")


def test_the_gallery_reads_as_it_was_meant(gallery: dict[str, Any], page: Any) -> None:
    math = gallery["math"]
    assert math.locator(".katex").count() == 11
    assert math.locator(".katex-display").count() == 3
    assert math.locator("td .katex").count() == 2
    assert math.locator("li .katex").count() == 2 + 1
    assert gallery["chemistry"].locator(".katex").count() == 3
    assert page.locator(".katex-error").count() == 0

    assert text_of(gallery["money"]) == GALLERY["money"]
    assert gallery["money"].locator(".katex").count() == 0

    assert text_of(gallery["code"].locator("p code")) == "$a$ <div> \\(x\\)"
    assert gallery["code"].locator("pre code").first.text_content().replace(MARK, "") == CODE + "\n"
    assert gallery["code"].locator("pre code").nth(1).locator(".token.keyword").count() > 0

    assert text_of(gallery["html"]).startswith(
        "Use the <div> tag, <b>not bold</b>, #include <stdio.h>, https://qwen.ai"
    )
    assert "<!-- shown -->" in text_of(gallery["html"])
    assert gallery["html"].locator("a").get_attribute("href") == "https://qwen.ai"

    assert [text_of(one) for one in gallery["bold"].locator("strong").all()][:2] == ["“引号”", "注意："]
    assert gallery["bold"].locator("strong").count() == 3
    assert gallery["bold"].locator("del").count() == 0
    assert gallery["bold"].locator("a").get_attribute("href") == "https://qwen.ai"

    assert gallery["lists"].locator("li pre code").text_content() == "echo $A $B\n"
    assert gallery["lists"].locator("blockquote .katex-display").count() == 1
    assert gallery["picture"].locator("img").count() == 0
    assert gallery["picture"].locator("a").get_attribute("href") == "https://example.com/cat.png"
    assert "\\frac" in text_of(gallery["streaming"])
    assert gallery["streaming code"].locator("pre code").text_content() == "print('$x$ <b>')\n"

    assert page.page_errors == []
    assert page.foreign_requests == []


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(f"{scheme}-{width}", marks=pytest.mark.browser_page(width=width, color_scheme=scheme))
        for width in (1280, 375)
        for scheme in ("light", "dark")
    ],
)
def test_the_gallery_fits_the_page(gallery: dict[str, Any], page: Any, name: str) -> None:
    page.screenshot(path=output_folder() / f"gallery-{name}.png", full_page=True)
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0


def test_attacks_execute_nothing_and_reach_nobody(show: Show, page: Any) -> None:
    bubbles = show(*ATTACKS)
    bubbles.locator(".katex, .katex-error").first.wait_for()
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
