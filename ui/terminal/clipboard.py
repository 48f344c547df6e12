"""Puts text into the clipboard through the terminal itself, which also works over a connection to another machine.

The one place where this program sends a terminal a command of its own making: OSC 52 (xterm, "Manipulate Selection
Data"), always with text in base64, never asking for what the clipboard holds.
"""

import base64

from ui.terminal.safe_text import safe

_MAX_CHARS = 74_994
"""What terminals take at least: xterm's limit of 100,000 bytes less its frame, as tmux and vim assume it."""


def copy_sequence(text: str) -> str | None:
    """What the terminal has to be sent; None if the text is too long for it."""
    encoded = base64.b64encode(safe(text).encode()).decode("ascii")
    return f"\x1b]52;c;{encoded}\x07" if len(encoded) <= _MAX_CHARS else None
