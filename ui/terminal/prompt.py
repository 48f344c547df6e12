"""Where the user writes: a line editor on a terminal, and plain lines on one that can only print.

What goes out is the text of one entry; Ctrl-C raises KeyboardInterrupt, the end of the input, and of the program,
EOFError. It knows neither commands nor conversations.
"""

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Protocol, TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout.processors import Processor, Transformation, TransformationInput
from prompt_toolkit.output import create_output

from ui.terminal.safe_text import marked, safe, storable
from ui.terminal.signals import Signals

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]


class Prompt(Protocol):
    """Asks the user."""

    def ask(self, label: str, default: str = "") -> str:
        """One entry; `default` is what it begins with.

        Raises:
            KeyboardInterrupt: Ctrl-C.
            EOFError: there will be no more, or the program is to end.
        """


class EditingPrompt:
    """A line editor: several lines with Alt+Enter or Esc Enter, pasting, and earlier entries with the arrow keys.

    Args:
        stream: the terminal to draw on.
        earlier: what was entered before, oldest first.
    """

    def __init__(self, stream: TextIO, signals: Signals, earlier: Sequence[str] = ()) -> None:
        self._signals = signals
        self._session: PromptSession[str] = PromptSession(
            history=InMemoryHistory([safe(text) for text in earlier]),
            multiline=True,
            key_bindings=_keys(),
            prompt_continuation=lambda width, _line, _is_wrapped: " " * width,
            input_processors=[_Marking()],
            enable_suspend=True,
            output=create_output(stream),
        )

    def ask(self, label: str, default: str = "") -> str:
        """As `Prompt` says."""
        with self._signals.waking(self._leave):
            text = self._session.prompt(FormattedText([("bold", label)]), default=safe(default), pre_run=self._obey)
        return storable(text)

    def _leave(self, _number: int) -> None:
        if self._session.app.loop is not None:
            self._session.app.loop.call_soon_threadsafe(self._obey)

    def _obey(self) -> None:
        """Acts on signals, also on those from before the editor runs; then Ctrl-C is a key like others."""
        app = self._session.app
        if app.future is None or app.future.done():
            return
        if self._signals.must_end:
            app.exit(exception=EOFError())
        elif self._signals.is_interrupted:
            self._signals.forget_interrupt()
            app.exit(exception=KeyboardInterrupt())


class LinePrompt:
    """One line at a time, as the terminal's driver or a file gives it."""

    def __init__(self, stream: TextIO, signals: Signals, source: BinaryIO | None = None) -> None:
        self._stream = stream
        self._signals = signals
        self._source = source or sys.stdin.buffer

    def ask(self, label: str, default: str = "") -> str:
        """As `Prompt` says; a default is shown, to be written anew."""
        with self._signals.waking(raise_signal):
            if default:
                self._stream.write(f"{safe(default)}\n")
            self._stream.write(label)
            self._stream.flush()
            line = self._source.readline()
        if not line:
            self._stream.write("\n")
            raise EOFError
        return storable(line.decode("utf-8", "replace").rstrip("\r\n"))


@contextlib.contextmanager
def keyboard_at_rest(*, as_editor: bool = False) -> Iterator[None]:
    """Keys are not echoed meanwhile, where they would end up inside an answer; the next prompt gets them.

    Args:
        as_editor: whether that prompt is an `EditingPrompt`, which wants the keys as they are.
    """
    if termios is None or not sys.stdin.isatty():
        yield
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    silent = [*before]
    silent[3] &= ~(termios.ECHO | termios.ICANON)
    if as_editor:
        silent[0] &= ~termios.ICRNL
    termios.tcsetattr(number, termios.TCSANOW, silent)
    try:
        yield
    finally:
        termios.tcsetattr(number, termios.TCSANOW, before)


def raise_signal(number: int) -> None:
    """What waits for input ends: with KeyboardInterrupt for Ctrl-C, with EOFError if the program is to end."""
    raise KeyboardInterrupt if number == signal.SIGINT else EOFError


class _Marking(Processor):
    """Shows what was pasted in the order in which it will be sent; the editor itself marks control characters."""

    def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
        """As the editor calls it for each line."""
        return Transformation([(part[0], marked(part[1])) for part in transformation_input.fragments])


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys
