r"""A formula as MathML, for pages that must work without JavaScript.

What comes in is LaTeX that `latex.prepare_formula` has let pass; what goes out is one `<math>` element of known tags
and attributes, or None where mdtex2html 1.3 cannot do it: the caller then shows the source. mdtex2html checks nothing,
so `\text{</mtext><script>...}` leaves it as it is; here everything is parsed as XML and written anew.
"""

import re
import warnings
from collections.abc import Sequence
from xml.etree import ElementTree

with warnings.catch_warnings():
    warnings.simplefilter("ignore", SyntaxWarning)  # an escape in one of its patterns
    import mdtex2html

_NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"
_TAGS = frozenset(
    {
        *("math", "mrow", "mi", "mn", "mo", "ms", "mtext", "mspace", "msup", "msub", "msubsup", "mfrac", "msqrt"),
        *("mroot", "mover", "munder", "munderover", "mtable", "mtr", "mtd", "mstyle", "mpadded", "mphantom"),
        *("menclose", "mmultiscripts", "mprescripts", "none"),
    }
)
_ATTRIBUTES = frozenset(
    {
        *("display", "displaystyle", "scriptlevel", "stretchy", "fence", "form", "separator", "accent", "accentunder"),
        *("movablelimits", "largeop", "symmetric", "minsize", "maxsize", "lspace", "rspace", "width", "height"),
        *("depth", "voffset", "linethickness", "mathvariant", "columnalign", "rowspacing", "columnspacing"),
        *("columnlines", "rowlines", "notation", "linebreak"),
    }
)
_VALUE = re.compile(r"[A-Za-z0-9.+%# -]{1,40}")
# What latex2mathml lays out as rows; it loses the rows of the forms on the left.
_KNOWN_FORM = {
    "aligned": "align*",
    "alignedat": "align*",
    "alignat*": "align*",
    "alignat": "align*",
    "gathered": "matrix",
    "gather*": "matrix",
    "equation*": "matrix",
    "split": "align*",
    "dcases": "cases",
}
_ENVIRONMENT = re.compile(r"\\(begin|end)\{([a-zA-Z]+\*?)\}(\{\d+\}(?=[\s\S]))?")
_UNKNOWN_COMMAND = re.compile(r"\\[A-Za-z]")


def convert(text: str, extensions: Sequence[str] = ()) -> str:
    """What mdtex2html makes of a text, unchecked. It may raise anything."""
    return str(mdtex2html.convert(text, list(extensions), splitParagraphs=False))


def to_mathml(latex: str, *, display: bool) -> str | None:
    """The formula; None if it cannot be shown faithfully."""
    try:
        page = convert(f"$${_known_forms(latex)}$$")
    except Exception:  # it fails in ways of its own, RecursionError among them
        return None
    start, end = page.find("<math"), page.rfind("</math>")
    if start < 0 or end < start:
        return None
    try:
        root = ElementTree.fromstring(page[start : end + len("</math>")])  # noqa: S314 - no DOCTYPE, no entities
        _check(root)
    except (ElementTree.ParseError, ValueError, RecursionError):
        return None
    root.attrib = {"display": "block" if display else "inline", "alttext": latex.strip()}
    for element in root.iter():
        element.tag = element.tag.removeprefix(_NAMESPACE)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _known_forms(latex: str) -> str:
    def rename(match: re.Match[str]) -> str:
        name = _KNOWN_FORM.get(match[2], match[2])
        columns = "" if match[2].startswith("aligned") or "at" in match[2] else match[3] or ""
        return f"\\{match[1]}{{{name}}}{columns}"

    return _ENVIRONMENT.sub(rename, latex)


def _check(root: ElementTree.Element) -> None:
    """Raises ValueError for an element that may not stand there, and takes away attributes that may not."""
    for element in root.iter():
        tag = element.tag.removeprefix(_NAMESPACE)
        if tag == element.tag or tag not in _TAGS:
            raise ValueError(element.tag)
        text = element.text or ""
        if _UNKNOWN_COMMAND.search(text) or (tag == "mi" and text.strip() in ("{", "}", "&")):
            raise ValueError(text)  # it did not know a command, or lost count of braces and columns
        element.attrib = {
            name: value for name, value in element.attrib.items() if name in _ATTRIBUTES and _VALUE.fullmatch(value)
        }
