"""Pieces of HTML from `static/fragments`, with texts filled in.

Every text is escaped on its way in; only a piece made here may stand inside another. The page's own words go through
here, what a model or a user wrote does not.
"""

import functools
import html
from pathlib import Path
from string import Template

STATIC = Path(__file__).resolve().parents[2] / "static"


class Fragment(str):
    """HTML that was made by `fill`."""

    __slots__ = ()


def fill(name: str, /, **texts: str) -> Fragment:
    """The piece `static/fragments/<name>.html` with `$key` replaced by each text, escaped unless it is a Fragment."""
    return Fragment(_template(name).substitute({key: _escape(text) for key, text in texts.items()}))


def join(pieces: list[Fragment]) -> Fragment:
    """Several pieces as one."""
    return Fragment("".join(pieces))


def _escape(text: str) -> str:
    """Line ends as references: an empty line would end the HTML for Markdown. And so dollar signs: what stands between
    two of them, wherever they are, the page takes for a formula."""
    return text if isinstance(text, Fragment) else html.escape(text).replace("\n", "&#10;").replace("$", "&#36;")


@functools.cache
def _template(name: str) -> Template:
    return Template((STATIC / "fragments" / f"{name}.html").read_text(encoding="utf-8").strip())
