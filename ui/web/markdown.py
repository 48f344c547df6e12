r"""Makes a message show rightly in Gradio 6.31's chat bubble (marked 12, KaTeX 0.16, DOMPurify).

In: Markdown as a model or a person wrote it, whole or cut off anywhere. Out: Markdown for the page, in which

- formulas carry a mark inside their delimiters, and the page is told to look for marked delimiters only
  (`LATEX_DELIMITERS`), so that money, shell variables and code are never mistaken for formulas;
- raw HTML shows as typed; bold beside Chinese punctuation is bold; a single `~` strikes nothing out;
- footnotes are numbers with a list at the end;
- pictures from elsewhere are links, since the page loads nothing from elsewhere;
- text that would hang the parser or overflow its stack is defused.

Code stays as it is. All marks are U+2060, which nobody sees; `strip_marks` takes them away again.
One pass from left to right: the time is proportional to the length, whatever the text.
Knows nothing of widgets, roles or streams. Same text, same answer: calling it on every streamed state is safe.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable

from ui.web.blocks import MARK, is_inside_code, split_blocks
from ui.web.footnotes import LIST_BEGINS, REFERENCE, Footnotes, as_item
from ui.web.latex import BARE_ENVIRONMENTS, CHEMISTRY, prepare_formula, reads_as_prose

# For gr.Chatbot(latex_delimiters=...). The order matters: `$$` is to be tried before `$`.
LATEX_DELIMITERS: list[dict[str, str | bool]] = [
    {"left": "$$" + MARK, "right": MARK + "$$", "display": True},
    {"left": "\\[" + MARK, "right": MARK + "\\]", "display": True},
    {"left": "\\(" + MARK, "right": MARK + "\\)", "display": False},
    {"left": "$" + MARK, "right": MARK + "$", "display": False},
]

# What the page bears: each formula costs it about a millisecond, each unclosed emphasis a scan of its paragraph.
MAX_FORMULAS = 1_000
MAX_UNCLOSED = 32
MAX_DELIMITERS = 1_000

# A sign that is to stand for itself. An entity, since the parser takes long over thousands of backslashes.
_ESCAPES = {sign: f"&#{ord(sign)};" for sign in "*_~["}
_PLAIN_TILDE = MARK + MARK + _ESCAPES["~"]
# The page puts these in the place of formulas while it parses, and would replace the reader's own as well.
_PLACEHOLDER = "%%%LATEX_BLOCK"

_TOKEN = re.compile(
    r"(?P<code>`+)|(?P<escape>\\(?:begin\{|c[ef]\{|[\s\S]?))|(?P<dollar>\$+)|(?P<tag><)"
    r"|(?P<emphasis>\*+|_+)|(?P<tilde>~+)|(?P<bracket>!?\[)|(?P<url>https?://)"
)
_PARAGRAPH_END = re.compile(r"\n(?=[ \t>]*+(?:\n|[-+*][ \t]|\d{1,9}[.)][ \t]|#{1,6}[ \t]|\||\Z))")
_TO_NEXT_DOLLAR = re.compile(r"[^\\$`]*+(?:\\[\s\S][^\\$`]*+)*+\$")
_AFTER_FORMULA = re.compile(r"(?:st|nd|rd|th|s)\b|[^0-9A-Za-z$]|\Z")
_AUTOLINK = re.compile(r"<(?:(?:https?|ftp|mailto):[^\s<>]+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+)>", re.ASCII | re.IGNORECASE)
_TAG = re.compile(r"<(?:[A-Za-z/?]|!(?:[A-Za-z-]|\[CDATA))")
_LINE_BREAK = re.compile(r"<br ?/?>", re.IGNORECASE)
_IN_URL = r"[^\s<>()\[\]*`|\\\"，。；：！？、（）【】《》「」『』“”‘’…]"
_URL = re.compile(rf"https?://(?:{_IN_URL}++|\({_IN_URL}*+\))*+")
_STICKS_TO_URL = frozenset("，。；：！？、（）【】《》「」『』“”‘’…")
_PICTURE = re.compile(
    r"!\[([^\[\]\n<>$`]{0,500}+)\]\(\s*<?((?:https?:)?//[^\s()<>]{1,2000}+)>?(?:\s+\"[^\"\n]{0,500}+\")?\s*\)"
)
_PICTURE_FROM_HERE = re.compile(r"!\[[^\[\]\n<>$`]{0,500}+\]\((?:data:image/|blob:)")
_ENVIRONMENT_NAME = re.compile(r"\\begin\{([a-zA-Z]{1,12}\*?)\}")
_QUOTE_SIGN = re.compile(r"\n[ \t]*>[ \t]?")


def normalise(text: str) -> str:
    """`text` for a Chatbot that has `LATEX_DELIMITERS`, and no raw HTML in it outside code."""
    text = strip_marks(text.replace("\r\n", "\n").replace("\r", "\n"))
    notes = Footnotes()
    pieces = [(is_code, piece if is_code else notes.take_from(piece)) for is_code, piece in split_blocks(text)]
    out: list[str] = []
    num_formulas = 0

    def rewritten(piece: str) -> str:
        nonlocal num_formulas
        prose = _Prose(piece, MAX_FORMULAS - num_formulas, notes)
        text = prose.rewrite()
        num_formulas += prose.num_formulas
        return text

    for is_code, piece in pieces:
        out.append(piece if is_code else rewritten(piece))
    listed = [as_item(number, rewritten(note)) for number, note in notes.listed()]
    if listed and not is_inside_code(text):
        out += [LIST_BEGINS, *listed]
    return "".join(out).replace(_PLACEHOLDER, "%%%" + MARK + "LATEX_BLOCK")


def as_source(text: str) -> str:
    """`text` as it was written, for a Chatbot that is to show it in HTML and not to look for formulas in it."""
    return strip_marks(text).replace(_PLACEHOLDER, "%%%" + MARK + "LATEX_BLOCK")


def strip_marks(text: str) -> str:
    """`text` without the marks and protective escapes that `normalise` put in."""
    return text.replace(_PLAIN_TILDE, "~").replace(MARK, "")


class _Prose:
    """One stretch of text between code blocks, read once from left to right."""

    def __init__(self, text: str, max_formulas: int, notes: Footnotes) -> None:
        self.text = text
        self.notes = notes
        self.max_formulas = max_formulas
        self.num_formulas = 0
        self.out: list[str] = []
        self.paragraph_end = -1
        self.num_delimiters = 0
        self.num_unclosed = {"*": 0, "_": 0, "~": 0}
        self.line_start = 0
        self.bold_since = -1  # where an open `**` stands in the text, or -1
        self.formula_end = -1
        self._found: dict[str, int] = {}
        self._last_opener: dict[tuple[str, int], int] = {}
        self._backticks: dict[int, list[int]] | None = None
        self._handlers: dict[str | None, Callable[[re.Match[str]], int]] = {
            "code": self._code,
            "escape": self._escape,
            "dollar": self._dollar,
            "tag": self._tag,
            "emphasis": self._emphasis,
            "tilde": self._tilde,
            "bracket": self._bracket,
            "url": self._url,
        }

    def rewrite(self) -> str:
        position = seen = 0
        while token := _TOKEN.search(self.text, position):
            start = token.start()
            self.out.append(self.text[position:start])
            if start > self.paragraph_end:
                self._enter_paragraph(start)
            self.line_start = max(self.line_start, self.text.rfind("\n", seen, start) + 1)
            seen = start
            position = self._handlers[token.lastgroup](token)
        self.out.append(self.text[position:])
        return "".join(self.out)

    def _enter_paragraph(self, position: int) -> None:
        end = _PARAGRAPH_END.search(self.text, position)
        self.paragraph_end = end.start() if end else len(self.text)
        self.num_delimiters = 0
        self.num_unclosed = {"*": 0, "_": 0, "~": 0}
        self.bold_since = -1

    # Every handler writes what becomes of its token and returns the position behind what it has dealt with.

    def _keep(self, token: re.Match[str]) -> int:
        self.out.append(token[0])
        return token.end()

    def _code(self, token: re.Match[str]) -> int:
        if self._backticks is None:
            self._backticks = {}
            for run in re.finditer("`+", self.text):
                self._backticks.setdefault(len(run[0]), []).append(run.start())
        same = self._backticks.get(len(token[0]), [])
        index = bisect_left(same, token.end())
        if index == len(same) or same[index] >= self.paragraph_end:
            return self._keep(token)
        self.num_delimiters += 1
        if self.num_delimiters > MAX_DELIMITERS:
            self.out.append("&#96;" * len(token[0]))
            return token.end()
        end = same[index] + len(token[0])
        span = self.text[token.start() : end]
        # A line in it may end the paragraph by being a list or a rule, and then there is no span.
        self.out.append(_TAG.sub(lambda tag: f"<{MARK}{tag[0][1:]}", span) if "\n" in span else span)
        return end

    def _escape(self, token: re.Match[str]) -> int:
        match token[0]:
            case "\\(":
                return self._delimited(token, "\\)", self.paragraph_end, display=False)
            case "\\[":
                return self._delimited(token, "\\]", len(self.text), display=True)
            case "\\begin{":
                return self._environment(token)
            case "\\ce{" | "\\cf{":
                return self._chemistry(token)
        return self._keep(token)

    def _delimited(self, token: re.Match[str], closer: str, limit: int, *, display: bool) -> int:
        end = self._find(closer, token.end())
        if end >= limit or self._opens_again(token[0], token.start(), end):
            return self._keep(token)
        source = self.text[token.end() : end]
        if source.strip().isdigit():  # `\[1\]` is a footnote
            return self._keep(token)
        return self._formula(token, source, closer, end + len(closer), display=display)

    def _dollar(self, token: re.Match[str]) -> int:
        text, start, end = self.text, token.start(), token.end()
        if token[0] == "$$":
            close = self._find("$$", end)
            indent = text[self.line_start : start] if start - self.line_start < 80 else "far"
            starts_line = not indent.strip(" \t>-*+0123456789.)")
            if close < (len(text) if starts_line else self.paragraph_end):
                return self._formula(token, text[end:close], "$$", close + 2, display=True)
        if token[0] != "$" or text[end : end + 1].isspace() or text[start - 1 : start] == "$":
            return self._keep(token)
        match = _TO_NEXT_DOLLAR.match(text, end, self.paragraph_end)
        if not match or match[0][-2:-1].isspace() or not _AFTER_FORMULA.match(text, match.end()):
            return self._keep(token)
        source = match[0][:-1]
        before = text[start - 1 : start] if start else ""
        if (before.isascii() and before.isalpha() and not source.startswith("\\")) or reads_as_prose(source):
            return self._keep(token)
        return self._formula(token, source, "$", match.end(), display=False)

    def _environment(self, token: re.Match[str]) -> int:
        name = _ENVIRONMENT_NAME.match(self.text, token.start())
        if not name or name[1].rstrip("*") not in BARE_ENVIRONMENTS:
            return self._keep(token)
        closer = f"\\end{{{name[1]}}}"
        end = self._find(closer, name.end())
        if end >= len(self.text) or self._opens_again(name[0], token.start(), end):
            return self._keep(token)
        end += len(closer)
        return self._formula(token, self.text[token.start() : end], None, end, display=True)

    def _chemistry(self, token: re.Match[str]) -> int:
        match = CHEMISTRY.match(self.text, token.start())
        if not match:
            return self._keep(token)
        return self._formula(token, match[0], None, match.end(), display=False)

    def _formula(self, token: re.Match[str], source: str, closer: str | None, end: int, *, display: bool) -> int:
        """Writes `source` between marked delimiters, its own or, where `closer` is None, dollar signs."""
        prepared = prepare_formula(source, display=display) if self.num_formulas < self.max_formulas else None
        runs_together = closer is None and "$" in (
            self.text[token.start() - 1 : token.start()],
            self.text[end : end + 1],
        )
        if prepared is None or runs_together:
            return self._keep(token)
        if "\n" in prepared and ">" in prepared:
            is_quoted = self.text[self.line_start : token.start()].lstrip().startswith(">")
            prepared = _QUOTE_SIGN.sub("\n", prepared) if is_quoted else prepared
        opener = token[0]
        if closer is None:
            opener = closer = "$$" if display else "$"
        self.out += [opener, MARK, prepared, MARK, closer]
        self.num_formulas += 1
        self.formula_end = end
        return end

    def _tag(self, token: re.Match[str]) -> int:
        text, start = self.text, token.start()
        if link := _AUTOLINK.match(text, start):
            return self._keep(link)
        if (line_break := _LINE_BREAK.match(text, start)) and self._is_in_table():
            return self._keep(line_break)
        self.out.append("<" + MARK if _TAG.match(text, start) else "<")
        return token.end()

    def _emphasis(self, token: re.Match[str]) -> int:
        run, start, end = token[0], token.start(), token.end()
        before = self.text[start - 1 : start] if start else " "
        after = self.text[end : end + 1] or " "
        if not self._admits(run[0], before, after):
            self.out.append(_ESCAPES[run[0]] * len(run))
        elif run in ("**", "***"):
            self._bold(run, start, before, after)
        else:
            self.out.append(run)
        return end

    def _bold(self, run: str, start: int, before: str, after: str) -> None:
        """Marks a `**` that the rules for western text would not take as the bracket it is meant to be.

        CommonMark 0.31 section 6.2: beside a letter, a run followed by punctuation opens nothing, and one preceded by
        punctuation closes nothing. Chinese puts no spaces there: `**注意：**后面`.
        """
        is_open = self.bold_since >= self.line_start
        if is_open and not before.isspace():
            self.bold_since = -1
            needs_mark = _is_punctuation(before) and not after.isspace() and not _is_punctuation(after)
            self.out.append(MARK + run if needs_mark and self._may_mark(start) else run)
            return
        opens = not after.isspace() and (not _is_punctuation(after) or before.isspace() or _is_punctuation(before))
        needs_mark = not opens and not after.isspace() and not before.isascii()
        if opens or needs_mark:
            self.bold_since = start
        self.out.append(run + MARK if needs_mark else run)

    def _tilde(self, token: re.Match[str]) -> int:
        start, end = token.start(), token.end()
        after = self.text[end : end + 1] or " "
        before = self.text[start - 1 : start] if start else " "
        if token[0] == "~" and not after.isspace() and self._may_mark(start):  # `3~5天，7~9天` is two ranges
            self.out.append(_PLAIN_TILDE)
        elif not self._admits("~", before, after):
            self.out.append(_ESCAPES["~"] * len(token[0]))
        else:
            self.out.append(token[0])
        return end

    def _bracket(self, token: re.Match[str]) -> int:
        self.num_delimiters += 1
        if self.num_delimiters > MAX_DELIMITERS:
            self.out.append(token[0][:-1] + _ESCAPES["["])
            return token.end()
        if (note := REFERENCE.match(self.text, token.start())) and (number := self.notes.reference(note[1])):
            self.out.append(number)
            return note.end()
        if token[0] == "[" or _PICTURE_FROM_HERE.match(self.text, token.start()):
            return self._keep(token)
        picture = _PICTURE.match(self.text, token.start())
        if not picture:  # given by reference, or not finished: at most a link as well
            self.out.append("!" + MARK + "[")
            return token.end()
        alternative, address = picture[1], picture[2]
        before = self.text[token.start() - 1 : token.start()]
        link = f"[{alternative or address}]({address})"
        self.out.append(alternative if before == "[" else MARK + link if before == "!" else link)
        return picture.end()

    def _url(self, token: re.Match[str]) -> int:
        start = token.start()
        match = _URL.match(self.text, start)
        address = match[0].rstrip("_~.,;:!?'") if match else token[0]
        end = start + len(address)
        is_free = self.text[start - 1 : start] not in ("(", "[", "<", '"', "=")
        # The page's parser takes everything up to the next space into the link.
        sticks = self.text[end : end + 1] in _STICKS_TO_URL and is_free and len(address) > len(token[0])
        self.out.append(f"<{address}>" if sticks else address)
        return end

    def _admits(self, sign: str, before: str, after: str) -> bool:
        """Counts one more run of emphasis signs, and says whether the page can bear it."""
        self.num_delimiters += 1
        if not before.isspace() and self.num_unclosed[sign]:
            self.num_unclosed[sign] -= 1
        elif not after.isspace():
            self.num_unclosed[sign] += 1
        return self.num_delimiters <= MAX_DELIMITERS and self.num_unclosed[sign] <= MAX_UNCLOSED

    def _may_mark(self, position: int) -> bool:
        """Whether a mark may stand here: behind a lone `$` or `\\(` it would make the opening of a formula of it."""
        return self.formula_end == position or not self.text.endswith(("$", "\\(", "\\["), 0, position)

    def _find(self, needle: str, start: int) -> int:
        """Where `needle` next stands unescaped, or the length of the text; each stretch is searched once."""
        found = self._found.get(needle, -1)
        while found < start or (needle[0] == "\\" and self.text[found - 1 : found] == "\\"):
            found = self.text.find(needle, max(start, found + 1))
            if found < 0:
                found = len(self.text)
                break
        self._found[needle] = found
        return found

    def _opens_again(self, opener: str, start: int, end: int) -> bool:
        """Whether a later `opener` stands before the closer at `end`: then that one is the formula."""
        key = (opener, end)
        if key not in self._last_opener:
            self._last_opener[key] = self.text.rfind(opener, start, end)
        return self._last_opener[key] > start

    def _is_in_table(self) -> bool:
        return self.text[self.line_start : self.line_start + 4].lstrip().startswith("|")


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"
