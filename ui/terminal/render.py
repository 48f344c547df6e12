"""An answer on standard output: as plain text, or as Markdown that is laid out while it is being written.

What comes in is the model's text, piece by piece; what goes out is safe for a terminal. Blocks that have ended are
printed for good, the one that is being written is drawn anew below them, never more of it than the screen holds. It
knows no conversations.
"""

import itertools
import math
import os
import time
from collections.abc import Iterable
from typing import Protocol, TextIO

from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.control import Control
from rich.markdown import CodeBlock, Heading, Markdown, TableElement
from rich.segment import ControlType, Segment, SegmentLines
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from ui.terminal.markdown_blocks import Block, BlockCutter, markdown_parser
from ui.terminal.safe_text import SafeText, printable

_CODE_THEME = "ansi_dark"  # the terminal's own colours, on its own background
_DRAW_EVERY_S = 0.08
_SHARE_OF_TIME = 4
"""A drawing that takes long is followed by a pause so many times as long: the model needs the processor."""
_INDENT, _MIN_TEXT, _MIN_COLUMN = 4, 10, 4
"""Characters that a quote or a list takes at the left, that are left for text, and of a table's column with its border:
what has no room for them is shown as it was written."""

_CONTAINERS = ("blockquote_", "bullet_list_", "ordered_list_")

Line = list[Segment]


class AnswerOutput(Protocol):
    """Where an answer is written."""

    def add(self, piece: str) -> None:
        """The next piece of the answer."""

    def draw(self) -> None:
        """Shows what is new, if it is time to; called many times a second."""

    def end(self) -> None:
        """Shows everything; nothing more will come."""


class PlainAnswer:
    """Writes an answer as it is, for files, pipes and terminals that can only print."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._safe = SafeText()
        self._last = ""

    def add(self, piece: str) -> None:
        """Writes the next piece at once."""
        shown = self._safe.feed(piece)
        if shown:
            self._stream.write(shown)
            self._stream.flush()
            self._last = shown[-1]

    def draw(self) -> None:
        """Nothing is left to show."""

    def end(self) -> None:
        """Ends the last line."""
        if self._last not in ("", "\n"):
            self._stream.write("\n")
            self._stream.flush()


class MarkdownAnswer:
    """Lays an answer out on a terminal.

    Args:
        console: of a terminal that can move its cursor.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._safe = SafeText()
        self._cutter = BlockCutter()
        self._drawn: list[Line] = []  # the cursor stands below the last of them
        self._drawn_width = 0
        self._is_first = True
        self._is_changed = False
        self._draws_at = 0.0

    def add(self, piece: str) -> None:
        """Takes the next piece; `draw` shows it."""
        self._cutter.feed(self._safe.feed(piece))
        self._is_changed = True

    def draw(self) -> None:
        """Shows what is new unless that was done a moment ago."""
        began = time.monotonic()
        if began < self._draws_at or not (self._is_changed or self._console.width != self._drawn_width):
            return
        self._is_changed = False
        finished = self._lines_of(self._cutter.take_finished())
        max_lines = max(1, self._console.height - 2)
        rest = self._rest_lines()
        while len(rest) > max_lines and (part := self._cutter.take_part()) is not None:
            finished += self._lines_of([part])
            rest = self._rest_lines()
        self._put(finished, rest[-max_lines:])
        took_s = time.monotonic() - began
        self._draws_at = time.monotonic() + max(_DRAW_EVERY_S, took_s * _SHARE_OF_TIME)

    def end(self) -> None:
        """Prints what is left for good."""
        self._put(self._lines_of([*self._cutter.take_finished(), *self._cutter.rest()]), [])

    def _rest_lines(self) -> list[Line]:
        is_first, rest = self._is_first, self._lines_of(self._cutter.rest())
        self._is_first = is_first
        return rest

    def _lines_of(self, blocks: Iterable[Block]) -> list[Line]:
        """The lines of the next blocks, with an empty one between two of them."""
        lines: list[Line] = []
        for block in blocks:
            if new := markdown_lines(self._console, block):
                lines += new if self._is_first or block.is_continued else [[], *new]
                self._is_first = False
        return lines

    def _put(self, finished: list[Line], rest: list[Line]) -> None:
        """Writes lines for good where the last drawing begins, and draws others below, in one go."""
        lines = finished + rest
        num_same = 0
        if self._console.width == self._drawn_width:
            while num_same < min(len(lines), len(self._drawn)) and lines[num_same] == self._drawn[num_same]:
                num_same += 1
        with self._console:
            for _ in range(self._rows(self._drawn[num_same:])):
                self._console.control(Control((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)))
            if lines[num_same:]:
                self._console.print(SegmentLines(lines[num_same:], new_lines=True), end="")
        self._drawn, self._drawn_width = rest, self._console.width

    def _rows(self, drawn: list[Line]) -> int:
        """The rows that drawn lines take now: a window that has become narrower has broken them."""
        width = max(1, self._console.width)
        if width >= self._drawn_width:
            return len(drawn)
        return sum(max(1, math.ceil(Segment.get_line_length(line) / width)) for line in drawn)


def markdown_lines(console: Console, block: Block) -> list[Line]:
    """A block laid out for the console's width: lines of safe text without spaces at their ends."""
    if not block.source.strip():
        return []
    document = _Document(block)
    options = console.options.update(height=None)
    fits = max(document.num_columns * _MIN_COLUMN, document.indent + _MIN_TEXT) <= console.width
    laid_out = console.render_lines(document if fits else Text(block.source), options, pad=False)
    lines = [_trimmed(_safe_segments(line)) for line in laid_out]
    return lines if document.parsed and document.parsed[0].type == "fence" else _without_empty_ends(lines)


def answer_console(stream: TextIO) -> Console:
    """A console for a stream that is a terminal, as the environment says; it obeys nothing but our own styles."""
    return Console(
        file=stream,
        force_terminal=stream.isatty(),
        force_interactive=stream.isatty() and not is_dumb(),
        markup=False,
        emoji=False,
        highlight=False,
    )


def is_dumb() -> bool:
    """Whether the terminal can only print."""
    return os.environ.get("TERM", "").lower() in ("dumb", "unknown")


class _Code(CodeBlock):
    """Code without a frame, so that it can be copied, between the fences that it was written with."""

    def __init__(self, lexer_name: str, theme: str) -> None:
        super().__init__(lexer_name, theme)
        self.info = ""
        self.has_opening = self.has_closing = True

    @classmethod
    def create(cls, markdown: Markdown, token: Token) -> "_Code":
        """As rich calls it, for a fence or for indented code."""
        code = cls(token.info.partition(" ")[0] or "text", markdown.code_theme)
        if isinstance(markdown, _Document) and token.level == 0:
            code.has_opening, code.has_closing = not markdown.block.is_continued, not markdown.block.goes_on
        code.info = f"```{token.info}"
        return code

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.has_opening:
            yield Text(self.info, style="dim")
        code = str(self.text).removesuffix("\n")
        if code:
            yield Syntax(code, self.lexer_name, theme=self.theme, word_wrap=True, background_color="default")
        if self.has_closing:
            yield Text("```", style="dim")


class _Heading(Heading):
    """One that does not move while it is being written."""

    LEVEL_ALIGN = {**Heading.LEVEL_ALIGN, "h1": "left"}  # noqa: RUF012, as in rich


class _Table(TableElement):
    """One that breaks long words instead of leaving their ends out."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for table in super().__rich_console__(console, options):
            assert isinstance(table, Table)
            for column in table.columns:
                column.overflow = "fold"
            yield table


class _Document(Markdown):
    """A block of Markdown in which HTML is text, line breaks are kept and links show their address."""

    elements = {  # noqa: RUF012
        **Markdown.elements,
        "fence": _Code,
        "code_block": _Code,
        "heading_open": _Heading,
        "table_open": _Table,
    }

    def __init__(self, block: Block) -> None:
        super().__init__("", code_theme=_CODE_THEME, hyperlinks=False)
        self.block = block
        self.parsed = markdown_parser().parse(block.source)
        if block.first_number and self.parsed and self.parsed[0].type == "ordered_list_open":
            self.parsed[0].attrs["start"] = block.first_number
        for token in self.parsed:
            for child in token.children or ():
                if child.type == "softbreak":
                    child.type = "hardbreak"

    @property
    def indent(self) -> int:
        """What its quotes and lists, one in another, take of a line."""
        steps = [token.nesting if token.type.startswith(_CONTAINERS) else 0 for token in self.parsed]
        return _INDENT * max(itertools.accumulate(steps), default=0)

    @property
    def num_columns(self) -> int:
        """Of its table."""
        return sum(token.type == "th_open" for token in self.parsed)


def _safe_segments(line: Line) -> Line:
    """Once more: entities and percent codes have become characters after the text was made safe."""
    return [
        Segment(text, segment.style.update_link(None) if segment.style and segment.style.link else segment.style)
        for segment in line
        if not segment.control and (text := printable(segment.text).replace("\n", " "))
    ]


def _without_empty_ends(lines: list[Line]) -> list[Line]:
    filled = [number for number, line in enumerate(lines) if line]
    return lines[filled[0] : filled[-1] + 1] if filled else []


def _trimmed(line: Line) -> Line:
    """Without spaces at its end, which would be copied and would break when the window gets narrower."""
    line = list(line)
    while line:
        text, style, _control = line.pop()
        if style is not None and style.bgcolor is not None:
            return [*line, Segment(text, style)]
        if kept := text.rstrip(" "):
            return [*line, Segment(kept, style)]
    return line
