"""Markdown with formulas as HTML that needs no JavaScript and can do no harm: what the exported page is made of.

What comes in is a message as it was written; what goes out is HTML of allowed tags. The page's own reading decides
what is code and what a formula (`blocks`, `markdown`); mdtex2html 1.3 turns the rest into HTML, block by block, since
it sanitises nothing, loses code and nested lists, and fails on some texts. A block it fails on, or that is too long
for it, or that comes after the deadline, is shown as its source.
"""

import html
import re
import time

import nh3

from ui.web.blocks import MARK, split_blocks
from ui.web.markdown import normalise, strip_marks
from ui.web.mathml import convert, to_mathml

MAX_BLOCK_CHARS = 12_000
"""mdtex2html takes about 8 ms for a thousand characters, more where they are contrived."""
_EXTENSIONS = ["tables", "nl2br", "sane_lists"]
_TAGS = {
    *(
        "p",
        "br",
        "hr",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "em",
        "strong",
        "del",
        "sup",
        "a",
        "ul",
        "ol",
        "li",
        "blockquote",
    ),
    *("table", "thead", "tbody", "tr", "th", "td"),
}
_ALIGNED = re.compile(r"text-align: (?:left|right|center);")

# Code and formulas stand aside while the rest is made into HTML; a number between two private signs is in their place.
_OPEN, _CLOSE = "\ue000", "\ue001"
_KEPT = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
_KEPT_ALONE = re.compile(f"<p>({_OPEN}\\d+{_CLOSE})</p>")
_FORMULA = re.compile(
    rf"(?P<opener>\$\$|\$|\\\[|\\\(){MARK}(?P<source>[\s\S]*?){MARK}(?P<closer>\$\$|\$|\\\]|\\\))"
)  # fmt: skip
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)((?:[^`]|(?!\1(?!`))`)+?)(?<!`)\1(?!`)")
_FENCE_LINE = re.compile(
    r"(?P<before>[ \t>]*+(?:(?:[-+*]|\d{1,9}[.)])[ \t]+[ \t>]*+)*+)(?P<run>`{3,}|~{3,})(?P<info>.*)"
)
_LANGUAGE = re.compile(r"[\w+#.-]{1,30}")
# The page's footnotes are joined by links, which would need ids that are unique in the whole file.
_NOTE_LINK = re.compile(r'<a href="#fn-\d+">(\d+)</a>| <a class="fn-back" href="#fn-\d+">↩</a>')
_STRUCK = re.compile(r"~~(?=\S)([^~\n]{1,2000}?)(?<=\S)~~")
_BARE_URL = re.compile(r"(?<![\w(<\[\"=/])https?://[^\s<>()\[\]*`|\\\"，。；：！？、（）【】《》「」]+(?<![.,;:!?'_~])")
_TASK = re.compile(r"^([ \t>]*(?:[-+*]|\d{1,9}[.)])[ \t]+)\[([ xX])\](?=[ \t])", re.MULTILINE)
_SIGNS = str.maketrans({"$": "&#36;", "`": "&#96;"})
_MATH_SIGN = re.compile(r"\\([(\[])")
_ITEM = re.compile(r"([ \t]*)([-+*]|\d{1,9}[.)])([ \t]+)")


def to_html(text: str, deadline: float) -> str:
    """The text as safe HTML. After `deadline`, by `time.monotonic`, source is shown for what is left."""
    kept: list[str] = []
    made = [_block(source, deadline, kept) for source in _blocks(_set_aside(text, deadline, kept))]
    return strip_marks("\n".join(made))


def as_source(text: str) -> str:
    """The text as it was written."""
    return f'<pre class="source">{html.escape(text)}</pre>'


def _set_aside(text: str, deadline: float, kept: list[str]) -> str:
    """Markdown for the whole message with code and formulas replaced by their numbers."""
    text = text.replace(_OPEN, "").replace(_CLOSE, "")
    pieces = [
        _code(piece, kept) if is_code else _prose(piece, deadline, kept)
        for is_code, piece in split_blocks(normalise(text))
    ]
    return "".join(pieces)


def _keep(made: str, kept: list[str]) -> str:
    kept.append(made)
    return f"{_OPEN}{len(kept) - 1}{_CLOSE}"


def _code(piece: str, kept: list[str]) -> str:
    lines = piece.rstrip("\n").split("\n")
    opening = _FENCE_LINE.match(lines[0])
    if opening is None:  # indented
        text = "\n".join(line.removeprefix("    ") for line in lines)
        return f"\n{_keep(_code_block(text, ''), kept)}\n\n"
    is_closed = len(lines) > 1 and lines[-1].strip(" \t>").startswith(opening["run"])
    inside = lines[1 : -1 if is_closed else None]
    before = opening["before"]
    quote = re.match(r"[ \t]*>[ \t]?(?:>[ \t]?)*", before)
    if quote:
        inside = [re.sub(r"^[ \t]*(?:>[ \t]?)+", "", line, count=1) for line in inside]
    else:
        width = len(before.expandtabs(4))
        inside = [_unindented(line, width) for line in inside]
    info = strip_marks(opening["info"]).split()
    language = info[0] if info and _LANGUAGE.fullmatch(info[0]) else ""
    blank = quote[0].rstrip() if quote else ""
    is_item = bool(before.strip(" \t>"))
    made = f"{before}{_keep(_code_block(chr(10).join(inside), language), kept)}\n"
    return f"{made}{blank}\n" if is_item else f"{blank}\n{made}{blank}\n"


def _unindented(line: str, width: int) -> str:
    indent = len(line) - len(line.lstrip(" "))
    return line[min(indent, width) :]


def _code_block(text: str, language: str) -> str:
    label = f'<span class="language">{html.escape(language)}</span>' if language else ""
    return f'<div class="code">{label}<pre><code>{html.escape(strip_marks(text))}</code></pre></div>'


def _prose(piece: str, deadline: float, kept: list[str]) -> str:
    piece = _FORMULA.sub(lambda found: _keep(_formula(found, deadline), kept), piece)
    if "`" in piece:
        piece = _CODE_SPAN.sub(lambda found: _keep(_span(found[2]), kept), piece)
    piece = _NOTE_LINK.sub(r"\1", piece)
    piece = _STRUCK.sub(r"<del>\1</del>", piece)
    piece = _BARE_URL.sub(r"<\g<0>>", piece)
    piece = _TASK.sub(lambda found: found[1] + ("☐" if found[2] == " " else "☑"), piece)
    return _MATH_SIGN.sub(lambda found: f"&#{ord(found[1])};", piece).translate(_SIGNS)


def _formula(found: re.Match[str], deadline: float) -> str:
    is_display = found["opener"] in ("$$", "\\[")
    source = found["source"]
    made = to_mathml(source, display=is_display) if time.monotonic() < deadline else None
    if made is not None:
        return f'<span class="display">{made}</span>' if is_display else made
    return f'<code class="formula">{html.escape(found["opener"] + source + found["closer"])}</code>'


def _span(code: str) -> str:
    inner = code[1:-1] if len(code) > 2 and code[0] == code[-1] == " " and code.strip() else code
    return f"<code>{html.escape(strip_marks(inner))}</code>"


def _blocks(text: str) -> list[str]:
    """What can be converted on its own: cut at blank lines that stand in no list and no quotation."""
    blocks: list[list[str]] = [[]]
    is_blank, in_list = False, False
    for line in text.split("\n"):
        starts_item = bool(_ITEM.match(line)) and not line[:1].isspace()
        is_inside = line[:1] in (" ", "\t") or line.lstrip().startswith(">") or (starts_item and in_list)
        if is_blank and line.strip() and not is_inside and blocks[-1]:
            blocks.append([])
            in_list = False
        in_list = in_list or starts_item
        blocks[-1].append(line)
        is_blank = not line.strip()
    return [block for block in ("\n".join(lines).strip("\n") for lines in blocks) if block.strip()]


def _block(source: str, deadline: float, kept: list[str]) -> str:
    if len(source) > MAX_BLOCK_CHARS or time.monotonic() > deadline:
        return _restored(f'<pre class="source">{html.escape(html.unescape(source))}</pre>', kept)
    try:
        made = convert(_nested(source), _EXTENSIONS)
        safe = nh3.clean(
            made,
            tags=_TAGS,
            attributes={"a": {"href"}, "th": {"style"}, "td": {"style"}, "ol": {"start"}},
            attribute_filter=_filtered,
            url_schemes={"http", "https", "mailto"},
            link_rel="noopener noreferrer",
        )
    except Exception:  # the parser fails on some texts in ways of its own, RecursionError among them
        return _restored(f'<pre class="source">{html.escape(html.unescape(source))}</pre>', kept)
    return _restored(_KEPT_ALONE.sub(r"\1", safe), kept)


def _filtered(tag: str, name: str, value: str) -> str | None:
    if name == "style":
        return value if _ALIGNED.fullmatch(value) else None
    if name == "start":
        return value if value.isdecimal() and len(value) < 10 else None
    return value if name in ("href", "rel") and _OPEN not in value else None


def _restored(made: str, kept: list[str]) -> str:
    """Everything that stood aside in its place, each once: a text may spell our signs as entities."""

    def take(found: re.Match[str]) -> str:
        number = int(found[1][:9])
        once, kept[number : number + 1] = kept[number : number + 1], [""]
        return "".join(once)

    return _KEPT.sub(take, made)


def _nested(source: str) -> str:
    """Lists indented by four columns a level, as Python's Markdown wants them, whatever the writer took."""
    open_items: list[int] = []  # columns at which the texts of the open items begin
    lines: list[str] = []
    for line in source.split("\n"):
        indent = len(line) - len(line.lstrip(" "))
        item = _ITEM.match(line.expandtabs(4))
        if line.strip():
            while open_items and open_items[-1] > indent and (item or lines[-1:] == [""]):
                open_items.pop()
        if item and (open_items or indent < 4):
            lines.append("    " * len(open_items) + f"{item[2].replace(')', '.')} {line.expandtabs(4)[item.end() :]}")
            open_items.append(item.end())
        elif open_items and line.strip():
            lines.append("    " * len(open_items) + line.lstrip(" "))
        else:
            lines.append(line if line.strip() else "")
    return "\n".join(lines)
