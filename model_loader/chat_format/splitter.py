"""Finds stop strings and markers in a text that arrives in pieces, holding back only what may still become one."""

import re
from collections.abc import Sequence


class StopStrings:
    """Cuts a stream of text before the first stop string."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.has_matched = False

    def feed(self, text: str) -> str:
        """What may be shown now. After a match everything else is dropped and `has_matched` is true."""
        if self.has_matched:
            return ""
        text = self._held + text
        positions = [at for at in (text.find(each) for each in self._stop) if at >= 0]
        if positions:
            self.has_matched = True
            self._held = ""
            return text[: min(positions)]
        held = num_held(text, self._stop)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """What was held back and turned out to be no stop string."""
        held, self._held = self._held, ""
        return held


class MarkerSplitter:
    """Cuts a stream of text at markers that are plain text, where the tokenizer has no ids for them.

    Args:
        markers: none of them empty, none inside another.
    """

    def __init__(self, markers: Sequence[str]) -> None:
        self._markers = tuple(markers)
        self._cut = re.compile("(" + "|".join(map(re.escape, markers)) + ")")
        self._held = ""

    def feed(self, text: str) -> list[str]:
        """What is certain by now: pieces of text, and each marker as a piece of its own."""
        *pieces, rest = self._cut.split(self._held + text)
        held = num_held(rest, self._markers)
        self._held = rest[len(rest) - held :]
        return [piece for piece in (*pieces, rest[: len(rest) - held]) if piece]

    def flush(self) -> str:
        """What was held back and turned out to be no marker."""
        held, self._held = self._held, ""
        return held


def num_held(text: str, markers: Sequence[str]) -> int:
    """Length of the longest end of a text with which one of the markers may begin."""
    longest = max(map(len, markers), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        end = text[-length:]
        if any(each.startswith(end) for each in markers):
            return length
    return 0
