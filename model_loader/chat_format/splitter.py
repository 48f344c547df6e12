"""Finds stop strings in a text that arrives in pieces, holding back only what may still become one."""

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
        held = self._longest_beginning(text)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """What was held back and turned out to be no stop string."""
        held, self._held = self._held, ""
        return held

    def _longest_beginning(self, text: str) -> int:
        """Length of the longest end of the text with which a stop string begins."""
        longest = max((len(each) for each in self._stop), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            end = text[-length:]
            if any(each.startswith(end) for each in self._stop):
                return length
        return 0
