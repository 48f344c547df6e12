"""Everything that is not an answer, on standard error: progress, notices, what the model thinks, what it cost.

Every text is made safe here. It knows no conversations.
"""

from typing import TextIO

from rich.text import Text

from ui.terminal.render import answer_console, is_dumb
from ui.terminal.safe_text import SafeText, safe, safe_line


class Notices:
    """Writes to one stream, in quiet colours where it is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self.is_terminal = stream.isatty()
        self._stream = stream
        self._console = answer_console(stream)
        self._can_redraw = self.is_terminal and not is_dumb()
        self._status = ""
        self._thought: SafeText | None = None
        self._last_thought = ""

    def say(self, text: str, style: str = "dim") -> None:
        """One notice."""
        self.clear_status()
        self._console.print(Text(safe(text), style), soft_wrap=not self.is_terminal)

    def warn(self, text: str) -> None:
        """Something was not done, or went wrong."""
        self.say(text, "yellow")

    def show(self, text: str) -> None:
        """Something that the user asked to see."""
        self.say(text, "none")

    def rule(self, title: str) -> None:
        """A line over the whole width with a title."""
        self.clear_status()
        self._console.rule(Text(safe_line(title)), style="dim", align="left")

    def status(self, text: str) -> None:
        """What is being done, in a line that the next one replaces; nothing where that cannot be."""
        if self._can_redraw and text != self._status:
            self._status = text
            line = Text(safe_line(text), "dim", no_wrap=True, overflow="ellipsis")
            self._stream.write("\r\x1b[K")
            self._console.print(line, end="", width=max(1, self._console.width - 1))

    def clear_status(self) -> None:
        """Takes the status away."""
        if self._status:
            self._status = ""
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def think(self, piece: str) -> None:
        """The next piece of what the model thinks before it answers."""
        if self._thought is None:
            self._thought = SafeText()
            self.say("Thinking:")
        if shown := self._thought.feed(piece):
            self._last_thought = shown[-1]
            self._console.print(Text(shown, "dim italic"), end="", soft_wrap=True)

    def end_thinking(self) -> None:
        """The answer itself begins, or nothing more comes."""
        if self._thought is not None:
            self._thought = None
            self._console.print("\n" if self._last_thought == "\n" else "\n\n", end="")

    def send(self, sequence: str) -> bool:
        """A command of ours to the terminal, as it is; False if there is none that would obey."""
        if not self._can_redraw:
            return False
        self._stream.write(sequence)
        self._stream.flush()
        return True

    def clear_screen(self) -> bool:
        """Empties the terminal's window; False if it cannot."""
        if self._can_redraw:
            self._console.clear()
        return self._can_redraw
