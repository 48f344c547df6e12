"""Cuts Markdown that is still being written into blocks that no longer change and the rest that may.

What comes in is text, piece by piece; what goes out are paragraphs, lists, tables and code blocks as soon as the next
one has begun. A block that grows beyond a screen is cut further, at its lines of code or its list's items. It knows no
terminal.
"""

from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

_MATH = (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"))
_MAX_NESTING = 60


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of Markdown to be shown below the one before it.

    Attributes:
        is_continued: whether it goes on with the block before, so that no empty line belongs between them.
        goes_on: whether the next block goes on with it.
        first_number: of a numbered list that goes on; 0 leaves it as it is written.
    """

    source: str
    is_continued: bool = False
    goes_on: bool = False
    first_number: int = 0


class BlockCutter:
    """Takes one text, from its first piece to its last."""

    def __init__(self) -> None:
        self._parser = markdown_parser()
        self._rest = ""
        self._is_continued = False
        self._first_number = 0
        self._has_new_line = False

    def feed(self, piece: str) -> None:
        """The next piece of the text."""
        self._rest += piece
        self._has_new_line = self._has_new_line or "\n" in piece

    def rest(self) -> list[Block]:
        """What may still change."""
        lines = self._rest.split("\n")
        starts = [start for start, _end in map(_lines_of, self._tops(lines))]
        if not starts:
            return []
        parts = [lines[start:end] for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)]
        blocks = ["\n".join(part).rstrip("\n") for part in parts]
        first = Block(blocks[0], self._is_continued, first_number=self._first_number)
        return [first, *map(Block, blocks[1:])]

    def take_finished(self) -> list[Block]:
        """The blocks that have ended since the last call."""
        if not self._has_new_line:
            return []
        self._has_new_line = False
        lines, tops = self._whole_lines()
        if not tops:
            return []
        starts = [_lines_of(token)[0] for token in tops]
        ends = starts[1:]
        if _is_closed_fence(tops[-1], lines):
            ends.append(_lines_of(tops[-1])[1])
        blocks = [self._block(lines[start:end]) for start, end in zip(starts, ends, strict=False)]
        self._drop(ends[-1] if ends else 0)
        return blocks

    def take_part(self) -> Block | None:
        """What of an unfinished block will not change, because only lines or items after it are written; or nothing."""
        lines, tops = self._whole_lines()
        if not tops:
            return None
        if tops[-1].type == "fence":
            return self._take_code(tops[-1], lines)
        first = _lines_of(tops[-1])[0]
        items = [_lines_of(one)[0] for one in self._parsed(lines) if one.type == "list_item_open" and one.level == 1]
        items = [start for start in items if start >= first]
        if len(items) < 2:
            return None
        number = 0
        if tops[-1].type == "ordered_list_open":
            number = (self._first_number or int(tops[-1].attrs.get("start", 1))) + len(items) - 1
        block = self._block(lines[first : items[-1]], goes_on=True)
        self._drop(items[-1])
        self._is_continued, self._first_number = True, number
        return block

    def _take_code(self, fence: Token, lines: list[str]) -> Block | None:
        first = _lines_of(fence)[0]
        opening, last = lines[first], len(lines) - 1  # the line after the last line break is empty here
        if last - first < 3:
            return None
        block = self._block([*lines[first : last - 1], fence.markup], goes_on=True)
        self._drop(last - 1)
        self._rest = f"{opening}\n{self._rest}"
        self._is_continued = True
        return block

    def _whole_lines(self) -> tuple[list[str], list[Token]]:
        """The lines that have ended, and the blocks they make. Half a line says nothing: `1` may become `1.`."""
        whole, line_break, _half = self._rest.rpartition("\n")
        lines = (whole + line_break).split("\n")
        return lines, self._tops(lines)

    def _tops(self, lines: list[str]) -> list[Token]:
        return [token for token in self._parsed(lines) if token.level == 0 and token.map and token.nesting >= 0]

    def _parsed(self, lines: list[str]) -> list[Token]:
        return self._parser.parse("\n".join(lines))

    def _block(self, lines: list[str], *, goes_on: bool = False) -> Block:
        source = "\n".join(lines)
        block = Block(source if goes_on else source.rstrip("\n"), self._is_continued, goes_on, self._first_number)
        self._is_continued, self._first_number = False, 0
        return block

    def _drop(self, num_lines: int) -> None:
        self._rest = self._rest.split("\n", num_lines)[num_lines] if num_lines else self._rest


def markdown_parser() -> MarkdownIt:
    """The Markdown of the terminal: CommonMark with tables and strikethrough.

    HTML and formulas are plain text, and so are link definitions: they would change what has been printed already.
    """
    options = {"html": False, "maxNesting": _MAX_NESTING}
    parser = MarkdownIt("commonmark", options).enable(["table", "strikethrough"]).disable("reference")
    parser.inline.ruler.before("escape", "formula", _formula)
    return parser


def _formula(state: StateInline, silent: bool) -> bool:
    """A formula stays as it was written: its backslashes, stars and underscores are no Markdown."""
    for opening, closing in _MATH:
        if state.src.startswith(opening, state.pos):
            end = state.src.find(closing, state.pos + len(opening), state.posMax)
            if end < 0:
                continue
            if not silent:
                token = state.push("text", "", 0)
                token.content = state.src[state.pos : end + len(closing)]
            state.pos = end + len(closing)
            return True
    return False


def _lines_of(token: Token) -> tuple[int, int]:
    assert token.map is not None
    return token.map[0], token.map[1]


def _is_closed_fence(token: Token, lines: list[str]) -> bool:
    if token.type != "fence":
        return False
    first, end = _lines_of(token)
    last = lines[end - 1].strip()
    return end - 1 > first and len(last) >= len(token.markup) and set(last) == {token.markup[0]}
