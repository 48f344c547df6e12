"""Messages as HTML that needs no JavaScript: what mdtex2html does badly, done well, and nothing that could do harm."""

import json
import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ui.chat.trees import grown_conversation
from ui.chat.reading import read_file
from ui.web.html_export import as_html
from ui.web.mathml import to_mathml
from ui.web.static_markdown import MAX_BLOCK_CHARS, to_html

ALLOWED = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "em", "strong", "del", "a", "ul", "ol", "li", "blockquote"),
    *("table", "thead", "tbody", "tr", "th", "td", "code", "pre", "div", "span", "sup"),
}


def html_of(text: str) -> str:
    return to_html(text, time.monotonic() + 60)


class Tags(HTMLParser):
    """All tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str, str]] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {(tag, name, value or "") for name, value in attrs}


@pytest.mark.parametrize(
    ("latex", "expected"),
    [
        (r"\frac{a}{b}", "<mfrac>"),
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "<mtr>"),
        (r"\begin{split}a&=b\\&=c\end{split}", "<mtr>"),
        (r"\begin{gathered}a\\b\end{gathered}", "<mtr>"),
        (r"\begin{alignedat}{2}a&=b\\c&=d\end{alignedat}", "<mtr>"),
        (r"\begin{cases}1 & x>0\\3 & y\end{cases}", "<mtr>"),
        (r"\left\{ a \right\}", ">{</mo>"),
        (r"\text{面积} = 5", "<mtext>面积</mtext>"),
    ],
)
def test_formulas_become_mathml(latex: str, expected: str) -> None:
    made = to_mathml(latex, display=True)
    assert made is not None
    assert expected in made
    assert 'display="block"' in made


@pytest.mark.parametrize(
    "latex",
    [
        r"\text{</mtext><script>alert(1)</script>}",
        r"\text{<img src=x onerror=alert(1)>}",
        r"\unknowncommand{x}",
        "x_" * 2000,
        r"\left(" * 900,
        "{" * 3000 + "}" * 3000,
    ],
)
def test_what_cannot_be_shown_faithfully_or_safely_stays_source(latex: str) -> None:
    assert to_mathml(latex, display=False) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("costs $5 and $10", "<p>costs $5 and $10</p>"),
        ("`$x$` and ``a ` b``", "<p><code>$x$</code> and <code>a ` b</code></p>"),
        ("~~gone~~", "<p><del>gone</del></p>"),
        ("**注意：**后面", "<p><strong>注意：</strong>后面</p>"),
        ("a\nb", "<p>a<br>\nb</p>"),
        ("- [x] done", "☑ done"),
        ("a ``` b", "<p>a ``` b</p>"),
        ("```py\nx = '$1'\n\ty\n```", "<pre><code>x = &#x27;$1&#x27;\n\ty</code></pre>"),
        ("```\nnever closed <b>", "<pre><code>never closed &lt;b&gt;</code></pre>"),
        ("3. c\n4. d", '<ol start="3">'),
        ("- a\n   - b\n     - c", "<li>a<ul>\n<li>b<ul>\n<li>c</li>"),
        ("1. a\n\n2. b", "<p>b</p>"),
        ("see https://a.example/b_c_d.", '<a href="https://a.example/b_c_d" rel="noopener noreferrer">'),
        ("|a|b|\n|-|-:|\n|1|$x$|", '<td style="text-align: right;"><math display="inline" alttext="x">'),
        (r"\$5 \(a\) and \[1\]", "[1"),
    ],
)
def test_markdown_is_read_as_the_page_reads_it(text: str, expected: str) -> None:
    assert expected in html_of(text)


def test_code_in_a_list_stays_in_its_item_and_keeps_its_indentation() -> None:
    made = html_of("- one\n\n  ```python\n  def f():\n      return 1\n  ```\n- two")
    assert made.count("<ul>") == 1
    assert "<pre><code>def f():\n    return 1</code></pre>" in made
    quoted = html_of("> say\n> ```\n> $HOME\n> ```\n> after")
    assert "<pre><code>$HOME</code></pre>" in quoted
    assert quoted.count("<blockquote>") == 1


@pytest.mark.parametrize(
    "text",
    [
        '<script>alert(1)</script> <img src=x onerror=alert(1)> <svg onload="x">',
        '<iframe srcdoc="<script>"> <form action=http://evil> <x-tag style=position:fixed;inset:0>',
        "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
        "[a](javascript:alert(1)) [b](data:text/html,x) [c](  JaVaScRiPt:x) <javascript:alert(1)>",
        '![x](http://127.0.0.1/?q) ![y][z]\n\n[z]: http://evil/x.png "t"',
        "[a](`b`) [c]($x$) [`d`](https://e.example 'onload=x')",
        "&lt;script&gt; &#x3c;script&#x3e; <base href=//evil> <meta http-equiv=refresh content=0>",
        "| a | <b onclick=x> |\n|-|-|\n| <style>*{}</style> | b |",
        "`x` &#xE000;0&#xE001; [a](&#xE000;0&#xE001;) \ue0000\ue001",
        "<!-- --> <![CDATA[x]]> <?php x ?> <!DOCTYPE html>",
        "*[a]: b\n\n[^1]: c\n\n[TOC]\n\n{: onclick=x }\n\n# h {onclick=x}",
    ],
)
def test_nothing_in_a_text_can_do_harm(text: str) -> None:
    found = Tags(html_of(text))
    assert found.tags <= ALLOWED | {tag for tag in found.tags if tag.startswith("m") and tag != "meta"}
    for tag, name, value in found.attributes:
        assert name in ("href", "rel", "class", "style", "start", "display", "alttext") or tag.startswith("m"), name
        if name == "href":
            assert re.match(r"https?:|mailto:|[^:]*$", value), value
        if name == "style":
            assert re.fullmatch(r"text-align: \w+;", value)


@given(st.text(alphabet="ab <>&\"'`$\\()[]{}*_~#|-+>!.:/=\n\ue000\ue0010123", max_size=120))
def test_no_text_breaks_out_of_its_message(text: str) -> None:
    found = Tags(html_of(text))
    assert {tag for tag in found.tags if not tag.startswith("m")} <= ALLOWED


@pytest.mark.parametrize(
    "text",
    [
        "$" * 30_000,
        "$x$ " * 15_000,
        "\\(" * 15_000,
        "[" * 11_000,
        ">" * 11_000,
        "*a " * 10_000,
        "`` ` " * 6_000,
        "| a " * 8_000 + "\n" + "|-" * 8_000,
        "\n".join(" " * depth + "- x" for depth in range(300)),
        "&#xE000;0&#xE001;" * 2_000 + "`" + "x" * 9_000 + "`",
        "word " * 10_000,
    ],
)  # fmt: skip
def test_contrived_texts_take_their_time_and_no_more(text: str) -> None:
    began = time.thread_time()
    made = html_of(text)
    assert time.thread_time() - began < 5
    assert len(made) < 40 * len(text)


def test_long_blocks_and_whatever_comes_too_late_are_shown_as_source() -> None:
    assert html_of("a **b** <c> " * (MAX_BLOCK_CHARS // 10)).startswith('<pre class="source">a **b** &lt;c&gt; ')
    late = to_html("a **b** `c` $5\n\n```\nx\n```", time.monotonic() - 1)
    assert '<pre class="source">a **b** <code>c</code> $5</pre>' in late
    assert "<pre><code>x</code></pre>" in late


def test_a_page_shows_the_branch_and_holds_the_tree() -> None:
    conversation = grown_conversation()
    record, messages = conversation.tree()
    page = as_html(record, messages, "ja")
    assert "<title>=cmd|&quot;/c calc&quot;!A1 &lt;script&gt;</title>" in page
    assert page.count('<section class="message') == 4
    assert "default-src 'none'" in page
    assert "Out of memory" not in page.partition('id="qwen-chat">')[0]
    tags = Tags(page)
    assert {("script", "type", "application/json"), ("script", "id", "qwen-chat")} == {
        one for one in tags.attributes if one[0] == "script"
    }
    ((_record, read),) = read_file(page.encode())
    assert [one.text for one in read] == [one.text for one in messages]
    assert json.dumps("<") not in page.partition('id="qwen-chat">')[2].partition("</script>")[0]


def test_footnotes_are_numbers_and_a_list_without_links() -> None:
    made = html_of("a[^x] b\n\n[^x]: what $p$ is")
    assert made.startswith("<p>a<sup>1</sup> b</p>")
    assert "<li>what <math" in made
    assert "<a" not in made
    assert "↩" not in made


@pytest.mark.timed
@pytest.mark.parametrize("items", ["-   " * 5000, "1.  > " * 3000, "- " * 9000])
def test_lists_in_lists_in_code_take_no_time(items: str) -> None:
    began = time.monotonic()
    html_of(f"a\n\n    {items}x\n\nb")
    assert time.monotonic() - began < 2
