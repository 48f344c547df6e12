"""A pseudo-terminal with a program on it, and a terminal emulator that shows what it draws."""

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyte
import pytest

fcntl, pty, termios = map(pytest.importorskip, ("fcntl", "pty", "termios"))  # not on Windows
ROOT = Path(__file__).parents[3]


class PseudoTerminal:
    """A program whose standard streams are a terminal.

    Attributes:
        written: every byte that the program has written to it.
    """

    def __init__(
        self, command: list[str], columns: int, lines: int, environment: Mapping[str, str], **streams: Any
    ) -> None:
        self.written = b""
        self._screen = pyte.HistoryScreen(columns, lines, history=10_000, ratio=0.5)
        self._screen.write_process_input = self._answer  # type: ignore[method-assign]
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self._ours, theirs = pty.openpty()
        self.resize(columns, lines)
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=dict(environment), start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0),
            **{"stdin": theirs, "stdout": theirs, "stderr": theirs, **streams},
        )  # fmt: skip
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, keys: str | bytes) -> None:
        """Presses keys."""
        os.write(self._ours, keys.encode() if isinstance(keys, str) else keys)

    def resize(self, columns: int, lines: int) -> None:
        """Gives the window another size."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        with self._lock:
            self._screen.resize(lines, columns)

    def lines(self) -> list[str]:
        """All lines, those that have left the screen at its top included, without spaces at their ends."""
        with self._lock:
            columns = self._screen.columns
            gone = ["".join(line[at].data for at in range(columns)).rstrip() for line in self._screen.history.top]
            return gone + [line.rstrip() for line in self._screen.display]

    def text(self) -> str:
        """All lines as one text."""
        return "\n".join(self.lines()).rstrip("\n")

    def wait_for(self, text: str, number: int = 1, timeout_s: float = 60.0) -> None:
        """Waits until a text is there so many times."""
        self.wait_until(lambda: self.text().count(text) >= number, timeout_s, f"{text!r} did not come {number} times")

    def wait_until(
        self, is_so: Callable[[], bool], timeout_s: float = 60.0, otherwise: str = "it did not come"
    ) -> None:
        """Waits until something is so."""
        deadline = time.monotonic() + timeout_s
        while not is_so():
            assert time.monotonic() < deadline, f"{otherwise}; there is:\n{self.text()}"
            time.sleep(0.02)

    def wait(self, timeout_s: float = 30.0) -> int:
        """Waits for the program to end; returns its status."""
        status = self.process.wait(timeout_s)
        self._reader.join(5)
        return status

    def close(self) -> None:
        """Ends the program, if it has not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self._reader.join(5)
        os.close(self._ours)

    def _answer(self, data: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self._ours, data.encode())

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 65_536)
            except OSError:
                return
            if not data:
                return
            with self._lock:
                self.written += data
                self._stream.feed(data)


def chat_environment(**variables: str) -> dict[str, str]:
    """What the chat is started with: a terminal of today, and nothing of the machine's own settings."""
    return {
        "PATH": os.environ["PATH"], "HOME": "/nonexistent", "TERM": "xterm-256color", "LANG": "C.UTF-8",
        "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **variables,
    }  # fmt: skip


def chat_command(script: Mapping[str, Any], folder: Path) -> list[str]:
    """The command that chats with a scripted model."""
    place = folder / "script.json"
    place.write_text(json.dumps(script), encoding="utf-8")
    return [sys.executable, "-m", "tests.ui.terminal.chat_target", str(place)]


@contextlib.contextmanager
def chat_terminal(
    script: Mapping[str, Any], folder: Path, *, columns: int = 80, lines: int = 24, is_ready: bool = True,
    environment: Mapping[str, str] | None = None, **streams: Any,
) -> Iterator[PseudoTerminal]:  # fmt: skip
    """The chat on a terminal, after its first prompt."""
    given = chat_environment() if environment is None else environment
    terminal = PseudoTerminal(chat_command(script, folder), columns, lines, given, **streams)
    try:
        if is_ready:
            terminal.wait_for("Text>" if script.get("is_base") else "User>")
        yield terminal
    finally:
        terminal.close()
