"""The footnotes of one message: `[^1]` in its text, `[^1]: what it says` in a line of its own.

In: stretches of Markdown without code. Out: the same without the definitions, a number for each reference, and the
notes as a list for the end of the message. Gradio's parser knows nothing of footnotes. A number without a definition
is shown as one too, since the definition comes last in a message that is still being written; any other word in such
brackets is more likely a pattern (`[^a-z]`) and stays as it is.
"""

import re
from collections.abc import Iterator

MAX_FOOTNOTES = 200

REFERENCE = re.compile(r"\[\^([^\[\]\s]{1,40})\]")
_DEFINITION = re.compile(r" {0,3}\[\^([^\[\]\s]{1,40})\]:(?:[ \t]+|$)")
_STARTS_BLOCK = re.compile(r"[ \t]*(?:$|#{1,6}[ \t]|>|\||[-+*][ \t]|\d{1,9}[.)][ \t])")


class Footnotes:
    """Definitions by label, and the numbers that their references were given, in the order of their first ones."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._numbers: dict[str, int] = {}
        self._order: list[str] = []

    def take_from(self, prose: str) -> str:
        """`prose` without its definitions, which are kept; a definition ends with its paragraph."""
        if "[^" not in prose:
            return prose
        kept: list[str] = []
        noted: list[str] | None = None
        for line in prose.split("\n"):
            definition = _DEFINITION.match(line)
            if definition and definition[1] not in self._texts and len(self._texts) < MAX_FOOTNOTES:
                self._end(noted)
                noted = [definition[1], line[definition.end() :]]
                self._texts[definition[1]] = ""
            elif noted is not None and not definition and not _STARTS_BLOCK.match(line):
                noted.append(line.strip())
            else:
                self._end(noted)
                noted = None
                kept.append(line)
        self._end(noted)
        return "\n".join(kept)

    def _end(self, noted: list[str] | None) -> None:
        if noted is not None:
            self._texts[noted[0]] = "\n".join(noted[1:]).strip()

    def reference(self, label: str) -> str | None:
        """What stands for a reference, as HTML for the parser; None if it is none."""
        if label not in self._texts:
            is_number = label.isascii() and label.isdecimal() and len(label) <= 3
            return f'<sup class="fn-ref">{label}</sup>' if is_number else None
        number = self._number(label)
        return f'<sup class="fn-ref"><a href="#fn-{number}">{number}</a></sup>'

    def listed(self) -> Iterator[tuple[int, str]]:
        """The notes by number, those without a reference last; what is read may refer to further ones meanwhile."""
        labels = iter(self._texts)
        for at in range(len(self._texts)):
            if at == len(self._order):
                self._number(next(label for label in labels if label not in self._numbers))
            yield at + 1, self._texts[self._order[at]]

    def _number(self, label: str) -> int:
        if label not in self._numbers:
            self._order.append(label)
            self._numbers[label] = len(self._order)
        return self._numbers[label]


def as_item(number: int, text: str) -> str:
    """A note as an item of a numbered Markdown list, with the way back to its first reference."""
    marker = f"{number}. "
    lines = text.replace("\n", "\n" + " " * len(marker))
    return f'{marker}{lines} <a class="fn-back" href="#fn-{number}">↩</a>\n'


LIST_BEGINS = '\n\n<hr class="footnotes">\n\n'
