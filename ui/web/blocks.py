"""Splits Markdown into prose and code blocks, at the same lines as the Markdown parser in Gradio's page (marked 12).

In: a whole message with plain line ends. Out: consecutive pieces that join to the message again, each marked as code
or prose. Code leaves as it came, but for marks: one behind the name of its language, which Gradio's own highlighter
then does not know (it would colour the whole block anew at each streamed update; `static/rendering.js` does better),
one that keeps a leading tab a tab, and those that keep tags and settings out of diagrams. A diagram is one for the page
only when it is complete. Prose is relieved of nesting so deep that the parser would overflow its stack.
Knows nothing of formulas, tags or emphasis.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

# U+2060 WORD JOINER: takes no room, breaks no word, and is neither space nor punctuation to a Markdown parser.
MARK = "\u2060"

MAX_NESTING = 16
# A larger diagram would be laid out for seconds, in which the page does nothing else.
MAX_DIAGRAM_CHARS = 6_000

_CONTAINERS = re.compile(rf"[ \t]*+(?:(?:>|[-+*](?=[ \t])|\d{{1,9}}[.)](?=[ \t]))[ \t]*+){{0,{MAX_NESTING}}}+")
_ONE_MORE = re.compile(r">|[-+*][ \t]|\d{1,9}[.)][ \t]")
_ITEM = re.compile(r"([ \t]*+)(?:>[ \t]?)*+(?:[-+*]|\d{1,9}[.)])[ \t]+")
_FENCE = re.compile(r"(?P<run>`{3,}+(?=[^`\n]*$)|~{3,})[ \t]*(?P<language>[^\s`]*)", re.MULTILINE)
_CLOSING = re.compile(r"(?P<prefix>[ \t>]*)(?P<run>`{3,}|~{3,})[~`]*[ \t]*$")
_LEADING_TAB = re.compile(r"^( *)\t", re.MULTILINE)
# A diagram's text is put into the page as HTML; of tags only the line break belongs there.
_TAG_IN_DIAGRAM = re.compile(r"<(?=[A-Za-z/!?])(?!br ?/?>)")
# How a diagram would change the settings of its renderer, styles among them.
_SETTING_IN_DIAGRAM = re.compile(r"%%(?=\s*\{)|^([ \t>]*['\"]?config)(?=['\"]?[ \t]*:)")
_DIAGRAM = "```mermaid"


@dataclass(frozen=True)
class _Fence:
    run: str
    indent: int
    is_quoted: bool
    diagram_at: int | None  # which line opened it, if what it holds is a diagram for the page


class _BlockSplitter:
    """Reads one message line by line."""

    def __init__(self) -> None:
        self.fence: _Fence | None = None
        self.fence_is_new = False
        self.items: list[int] = []  # columns at which the text of the open list items begins
        self.after_blank = True
        self.in_indented_code = False
        self.done: list[tuple[bool, str]] = []
        self.diagram_chars = 0

    def lines(self, text: str) -> list[tuple[bool, str]]:
        """Each line with its line end, and whether it is code."""
        for line in _split_at_newlines(text):
            self.done.append(self._line(line))
            self.after_blank = not line.strip()
        return self.done

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
        around = [column for column in self.items if column <= indent]
        container = len(prefix.expandtabs(4)) if prefix.strip() else max(around, default=0)
        line, named = match.string, match.end("language")
        is_diagram = line[match.start() :].rstrip() == _DIAGRAM
        self.fence = _Fence(match["run"], container, ">" in prefix, len(self.done) if is_diagram else None)
        self.fence_is_new = True
        self.diagram_chars = 0
        language = match["language"]
        # Behind a sign that opens formulas a mark would make an opening of it.
        return line[:named] + MARK + line[named:] if language and language[-1] not in "$([" else line

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
                if fence.diagram_at is not None and self.diagram_chars <= MAX_DIAGRAM_CHARS:
                    self.done[fence.diagram_at] = True, self.done[fence.diagram_at][1].replace(MARK, "")
                return line
        if fence.diagram_at is not None:
            self.diagram_chars += len(line)
            return _SETTING_IN_DIAGRAM.sub(rf"\g<0>{MARK}", _TAG_IN_DIAGRAM.sub("<" + MARK, line))
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
            yield pending_is_code, "".join(pending)
            pending = []
        pending_is_code = is_code
        pending.append(line)
    if pending:
        yield pending_is_code, "".join(pending)


def is_inside_code(text: str) -> bool:
    """Whether the message breaks off inside a code block."""
    splitter = _BlockSplitter()
    splitter.lines(text)
    return splitter.fence is not None
