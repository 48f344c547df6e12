"""Splits Markdown into prose and code blocks, at the same lines as the Markdown parser in Gradio's page (marked 12).

In: a whole message with plain line ends. Out: consecutive pieces that join to the message again, each marked as code
or prose. Code leaves as it came, but for the name of its language and a mark that keeps a leading tab a tab. Prose is
relieved of nesting so deep that the parser would overflow its stack and show nothing at all.
Knows nothing of formulas, tags or emphasis.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

# U+2060 WORD JOINER: takes no room, breaks no word, and is neither space nor punctuation to a Markdown parser.
MARK = "\u2060"

MAX_NESTING = 16
# The highlighter's patterns are quadratic in places: on longer code it can freeze the page.
MAX_HIGHLIGHTED_CHARS = 20_000

# Names models give to code blocks -> names Gradio 6.31's highlighter has.
LANGUAGES = {
    alias: language
    for language, aliases in {
        "bash": "sh shell zsh ksh console shell-session shellscript",
        "clike": "c# cs csharp dart groovy kotlin kt kts m objc objective-c objectivec scala swift proto protobuf",
        "cpp": "c++ cc cxx hpp hxx h++ cuda cu arduino ino",
        "c": "h",
        "css": "less sass scss stylus",
        "go": "golang",
        "java": "gradle jsp",
        "javascript": "cjs ecmascript es6 javascriptreact js jsx mjs node nodejs ts tsx typescript typescriptreact",
        "json": "geojson ipynb json5 jsonc jsonl jsonlines ndjson",
        "latex": "tex katex",
        "markup": "htm html html5 mathml rss svg vue svelte xhtml xml",
        "python": "py py3 pyi python2 python3 ipython jupyter sage",
        "rust": "rs",
        "sql": "hive mysql pgsql plsql postgres postgresql psql sqlite sqlite3 tsql",
        "yaml": "yml",
    }.items()
    for alias in [language, *aliases.split()]
}

_CONTAINERS = re.compile(rf"[ \t]*+(?:(?:>|[-+*](?=[ \t])|\d{{1,9}}[.)](?=[ \t]))[ \t]*+){{0,{MAX_NESTING}}}+")
_ONE_MORE = re.compile(r">|[-+*][ \t]|\d{1,9}[.)][ \t]")
_ITEM = re.compile(r"([ \t]*+)(?:>[ \t]?)*+(?:[-+*]|\d{1,9}[.)])[ \t]+")
_FENCE = re.compile(r"(?P<run>`{3,}+(?=[^`\n]*$)|~{3,})[ \t]*(?P<language>[^\s`]*)", re.MULTILINE)
_NAMED_FENCE = re.compile(r"\A([ \t>*+.)\d-]*(?:`{3,}|~{3,}))[^\n]*")
_CLOSING = re.compile(r"(?P<prefix>[ \t>]*)(?P<run>`{3,}|~{3,})[~`]*[ \t]*$")
_LEADING_TAB = re.compile(r"^( *)\t", re.MULTILINE)
# A diagram's text is put into the page as HTML; of tags only the line break belongs there.
_TAG_IN_DIAGRAM = re.compile(r"<(?=[A-Za-z/!?])(?!br ?/?>)")


@dataclass(frozen=True)
class _Fence:
    run: str
    indent: int
    is_quoted: bool
    is_diagram: bool


class _BlockSplitter:
    """Reads one message line by line."""

    def __init__(self) -> None:
        self.fence: _Fence | None = None
        self.fence_is_new = False
        self.items: list[int] = []  # columns at which the text of the open list items begins
        self.after_blank = True
        self.in_indented_code = False

    def lines(self, text: str) -> Iterator[tuple[bool, str]]:
        """Each line with its line end, and whether it is code."""
        for line in _split_at_newlines(text):
            yield self._line(line)
            self.after_blank = not line.strip()

    def _line(self, line: str) -> tuple[bool, str]:
        stripped = line.lstrip(" \t")
        indent = len(line[: len(line) - len(stripped)].expandtabs(4))
        if self.fence and not self._leaves_container(self.fence, stripped, indent):
            return True, self._inside_fence(self.fence, line, indent)
        self.fence = None
        if not stripped.strip():
            return self.in_indented_code, line
        if indent >= 4 and not self.items and (self.after_blank or self.in_indented_code):
            self.in_indented_code = True
            return True, line
        self.in_indented_code = False
        self._track_items(line, stripped, indent)
        prefix = _CONTAINERS.match(line)
        end = prefix.end() if prefix else 0
        if (fence := _FENCE.match(line, end)) and (indent <= 3 or self.items):
            return True, self._open_fence(fence, line[:end], indent)
        if _ONE_MORE.match(line, end):
            line = line[:end] + MARK + line[end:]
        return False, line

    def _track_items(self, line: str, stripped: str, indent: int) -> None:
        if item := _ITEM.match(line):
            while self.items and self.items[-1] > indent:
                self.items.pop()
            self.items.append(len(item[0].expandtabs(4)))
        elif self.after_blank or stripped.startswith("#"):
            while self.items and self.items[-1] > indent:
                self.items.pop()

    def _open_fence(self, match: re.Match[str], prefix: str, indent: int) -> str:
        language = match["language"]
        known = LANGUAGES.get(language.lower(), language)
        around = [column for column in self.items if column <= indent]
        container = len(prefix.expandtabs(4)) if prefix.strip() else max(around, default=0)
        self.fence = _Fence(match["run"], container, ">" in prefix, language == "mermaid")
        self.fence_is_new = True
        line = match.string
        return line[: match.start("language")] + known + line[match.end("language") :]

    def _leaves_container(self, fence: _Fence, stripped: str, indent: int) -> bool:
        is_new, self.fence_is_new = self.fence_is_new, False
        if fence.is_quoted:
            return not stripped.startswith(">")
        return bool(stripped.strip()) and indent < fence.indent and (self.after_blank or is_new)

    def _inside_fence(self, fence: _Fence, line: str, indent: int) -> str:
        closing = _CLOSING.match(line)
        if closing and closing["run"].startswith(fence.run):
            is_beside = fence.is_quoted or (">" not in closing["prefix"] and (fence.indent or indent <= 3))
            if is_beside:
                self.fence = None
                return line
        if fence.is_diagram:
            return _TAG_IN_DIAGRAM.sub("<" + MARK, line)
        # The parser turns tabs at the start of a line into spaces, also in code, where a Makefile dies of it.
        return line if fence.indent else _LEADING_TAB.sub(rf"\1{MARK}\t", line)


def _split_at_newlines(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def split_blocks(text: str) -> Iterator[tuple[bool, str]]:
    """The message in pieces `(is_code, piece)`; neighbouring pieces differ in kind."""
    pending: list[str] = []
    pending_is_code = False
    for is_code, line in _BlockSplitter().lines(text):
        if is_code != pending_is_code and pending:
            yield pending_is_code, _bounded(pending_is_code, "".join(pending))
            pending = []
        pending_is_code = is_code
        pending.append(line)
    if pending:
        yield pending_is_code, _bounded(pending_is_code, "".join(pending))


def _bounded(is_code: bool, piece: str) -> str:
    if not is_code or len(piece) <= MAX_HIGHLIGHTED_CHARS:
        return piece
    return _NAMED_FENCE.sub(r"\1", piece, count=1)
