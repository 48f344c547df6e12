r"""Decides what is a formula, and rewrites the few LaTeX forms KaTeX does not know.

In: the text between two delimiters. Out: the text to hand to KaTeX, or None where it is not a formula, or where
rendering it would hang or cover the page (macro definitions, enormous boxes, bottomless nesting).
Knows nothing of Markdown, of delimiters or of where the formula stands.
"""

import re

# Longer or deeper than this is not a formula anybody reads, and KaTeX takes seconds over it or overflows its stack.
MAX_FORMULA_CHARS = 6_000
MAX_BRACE_DEPTH = 60

# Environments that may stand in the text without any delimiter around them.
BARE_ENVIRONMENTS = frozenset(
    {
        *("align", "alignat", "aligned", "alignedat", "gather", "gathered", "equation", "multline", "eqnarray"),
        *("split", "cases", "dcases", "rcases", "array", "CD", "matrix", "smallmatrix"),
        *("pmatrix", "bmatrix", "Bmatrix", "vmatrix", "Vmatrix"),
    }
)

# KaTeX numbers the unstarred forms from (1) in every message, and does not know multline and eqnarray.
_DISPLAY_FORM = {
    "align": "align*",
    "alignat": "alignat*",
    "gather": "gather*",
    "equation": "equation*",
    "multline": "gather*",
    "multline*": "gather*",
    "eqnarray": "align*",
    "eqnarray*": "align*",
}
# Inside a line KaTeX refuses the display environments; these are the forms it takes there.
_INLINE_FORM = {
    "align*": "aligned",
    "alignat*": "alignedat",
    "gather*": "gathered",
    "equation*": "gathered",
    "split": "aligned",
}

_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_ENVIRONMENT = re.compile(r"\\(begin|end)\{([a-zA-Z]+\*?)\}")
_EQNARRAY_COLUMN = re.compile(r"&\s*(=|<|>|\\[a-zA-Z]+)\s*&")
_LABEL = re.compile(r"\\label\{[^{}]*\}")
_COMMENT_SIGN = re.compile(r"(?<!\\)((?:\\\\)*)%")
# A definition is expanded up to a thousand times, each time as long as the writer likes.
_DEFINITION = re.compile(r"\\(?:[gex]?def|(?:future)?let|(?:re)?newcommand|providecommand|newenvironment)(?![a-zA-Z])")
_SIZED = re.compile(r"\\(?:rule|[hm]?skip|m?kern|hspace|raisebox|genfrac|above|\\\*?\s*\[)")
_ENORMOUS = re.compile(r"\d{3,}(?:\.\d*)?\s*(?:em|ex|mu|cm|mm|in|pc)|\d{4,}(?:\.\d*)?\s*(?:pt|px|bp|sp|dd|cc|nd|nc)")

# Two words side by side, or an amount followed by a word: a sentence between two dollar signs, not a formula.
_PROSE = re.compile(r"[A-Za-z]{2,},?\s+[A-Za-z]{2,}|^-?\d[\d.,]*\s+[A-Za-z]{2,}")
_WIDE = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uff00-\uffef]")

CHEMISTRY = re.compile(r"\\(?:ce|cf)\{((?:[^{}\n]|\{[^{}\n]*+\}){1,300}+)\}")
_CHEMISTRY_TOKEN = re.compile(
    r"(?P<arrow><=+>|<-+>|-+>|<-+)(?:\[(?P<over>[^\]]*)\])?"
    r"|(?P<script>[_^])(?:\{(?P<braced>[^{}]*)\}|(?P<plain>\d*[+-]|\d+|[a-z](?![a-z])))"
    r"|(?P<element>[A-Z][a-z]?|[)\]])(?P<count>\d+(?:\.\d+)?|[nxm](?![a-z]))?(?P<charge>[+-](?=\s|$|[)\]]))?"
    r"|(?P<dot>\s*[*.]\s*(?=[0-9A-Z(]))"
    r"|(?P<sign>\s[+]\s)"
    r"|(?P<gas>\s\^(?=\s|$))|(?P<solid>\sv(?=\s|$))"
    r"|(?P<triple>#)|(?P<special>[%$&])"
)
_ARROWS = {"->": r"\rightarrow", "<-": r"\leftarrow", "<->": r"\leftrightarrow", "<=>": r"\rightleftharpoons"}


def prepare_formula(source: str, *, display: bool) -> str | None:
    """The LaTeX to hand to KaTeX for `source`, or None if it is to stay text."""
    if len(source) > MAX_FORMULA_CHARS or "`" in source or not source.strip() or not _is_balanced(source):
        return None
    if source.startswith(("\\)", "\\]", "$")) or source.endswith(("\\(", "\\[", "$")):
        return None  # would run together with its delimiters
    if "\\" in source and (_DEFINITION.search(source) or (_SIZED.search(source) and _ENORMOUS.search(source))):
        return None
    if "\\begin{" in source:
        source = _rename_environments(source, display=display)
    if "\\c" in source:
        source = CHEMISTRY.sub(lambda match: render_chemistry(match[1]), source)
    if "\\label{" in source:
        source = _LABEL.sub("", source)
    if "%" in source:
        source = _COMMENT_SIGN.sub(r"\1\\%", source)
    return source


def reads_as_prose(source: str) -> bool:
    """Whether the text between two single dollar signs is an amount of money or a sentence rather than a formula."""
    if "\\" in source or "^" in source or "_" in source:
        return False
    return bool(_PROSE.search(source)) or (source[:1].isdigit() and bool(_WIDE.search(source)))


def render_chemistry(source: str) -> str:
    r"""The argument of `\ce{...}` in upright letters with subscripts, charges and arrows.

    Covers formulas and reactions as chat models write them, a small part of the mhchem package
    (https://mhchem.github.io/MathJax-mhchem/); what it does not know stays as typed, in upright letters.
    """
    return "\\mathrm{" + _CHEMISTRY_TOKEN.sub(_chemistry_token, source).replace(" ", "\\ ") + "}"


def _chemistry_token(match: re.Match[str]) -> str:
    kind = match.lastgroup
    if match["arrow"]:
        arrow = re.sub("([-=])+", r"\1", match["arrow"])
        over = match["over"]
        return f"\\xrightarrow{{{over}}}" if over and arrow == "->" else _ARROWS[arrow] + "{}"
    if match["script"]:
        return f"{match['script']}{{{match['braced'] if match['braced'] is not None else match['plain']}}}"
    if match["element"]:
        count, charge = match["count"], match["charge"]
        return match["element"] + (f"_{{{count}}}" if count else "") + (f"^{{{charge}}}" if charge else "")
    fixed = {"dot": "\\cdot{}", "sign": " {+} ", "gas": "\\uparrow{}", "solid": "\\downarrow{}", "triple": "\\equiv{}"}
    return fixed.get(kind or "", "\\" + match[0])


def _is_balanced(source: str) -> bool:
    depth = 0
    for token in _BRACE.findall(source):
        if token == "{":
            depth += 1
            if depth > MAX_BRACE_DEPTH:
                return False
        elif token == "}":
            depth -= 1
            if depth < 0:
                return False
    return depth == 0


def _rename_environments(source: str, *, display: bool) -> str:
    def rename(match: re.Match[str]) -> str:
        name = _DISPLAY_FORM.get(match[2], match[2])
        return f"\\{match[1]}{{{name if display else _INLINE_FORM.get(name, name)}}}"

    if "{eqnarray" in source:
        source = _EQNARRAY_COLUMN.sub(r"&\1 ", source)
    return _ENVIRONMENT.sub(rename, source)
