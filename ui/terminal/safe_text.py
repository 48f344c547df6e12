"""Text as a terminal may be given it: a terminal obeys some characters, and no model, file or title may command one.

What comes in is any text, in pieces cut anywhere; what goes out holds line breaks, tabs and characters that are only
shown. Control characters, escape sequences and bidirectional overrides are gone, the same for every way of cutting.
The states are those of ECMA-48, section 5, as Paul Williams' parser of DEC terminals (vt100.net/emu) draws them.
"""

import re
from enum import Enum, auto

_ESC, _BEL, _CAN, _SUB = "\x1b", "\x07", "\x18", "\x1a"
_CSI, _STRING_END = "\x9b", "\x9c"
_STRINGS = frozenset("\x90\x98\x9d\x9e\x9f")  # DCS, SOS, OSC, PM, APC in eight bits
_STRINGS_AFTER_ESC = frozenset("PX]^_")
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


class _State(Enum):
    TEXT = auto()
    ESCAPE = auto()
    """After ESC: the next character says what kind of sequence this is."""
    INTERMEDIATE = auto()
    """After ESC and a character from space to slash: one more ends it."""
    CONTROL = auto()
    """In a control sequence: parameters until a character from @ to ~."""
    STRING = auto()
    """In a command with a text, such as a window title. It ends with its line, so that one never hides an answer."""


class SafeText:
    """Makes one stream of pieces safe; a sequence may begin in one piece and end in another."""

    def __init__(self) -> None:
        self._state = _State.TEXT

    def feed(self, piece: str) -> str:
        """What of the next piece may be shown."""
        if self._state is _State.TEXT and _UNSAFE.search(piece) is None:
            return piece
        return "".join(map(self._take, piece))

    def _take(self, char: str) -> str:
        match self._state:
            case _State.STRING:
                return self._in_string(char)
            case _State.ESCAPE:
                is_known = self._after_escape(char)
            case _State.INTERMEDIATE:
                is_known = "\x20" <= char <= "\x7e"
                if is_known and char >= "\x30":
                    self._state = _State.TEXT
            case _State.CONTROL:
                is_known = "\x20" <= char <= "\x7e"
                if is_known and char >= "\x40":
                    self._state = _State.TEXT
            case _:
                is_known = False
        return "" if is_known else self._in_text(char)

    def _after_escape(self, char: str) -> bool:
        if char in _STRINGS_AFTER_ESC:
            self._state = _State.STRING
        elif char == "[":
            self._state = _State.CONTROL
        elif "\x20" <= char <= "\x2f":
            self._state = _State.INTERMEDIATE
        elif "\x30" <= char <= "\x7e":
            self._state = _State.TEXT
        else:
            return False
        return True

    def _in_string(self, char: str) -> str:
        if char == _ESC:
            self._state = _State.ESCAPE  # with a backslash it ends the string, with anything else it begins anew
        elif char in (_BEL, _CAN, _SUB, _STRING_END, "\n"):
            self._state = _State.TEXT
        return "\n" if char == "\n" else ""

    def _in_text(self, char: str) -> str:
        """Also for what cannot belong to the sequence before it: the sequence ends there."""
        self._state = _State.TEXT
        if char == _ESC:
            self._state = _State.ESCAPE
        elif char == _CSI:
            self._state = _State.CONTROL
        elif char in _STRINGS:
            self._state = _State.STRING
        elif _SURROGATE.match(char):
            return _REPLACEMENT
        return "" if _UNSAFE.match(char) else char


def safe(text: str) -> str:
    """What of a whole text may be shown."""
    return SafeText().feed(text)


def printable(text: str) -> str:
    """A text without its unsafe characters; what they would have commanded stays, as text that commands nothing."""
    return _UNSAFE.sub("", text)


def marked(text: str) -> str:
    """A text of the same length in which bidirectional overrides are seen, where it is the user's own."""
    return _BIDI.sub(_REPLACEMENT, text)


def safe_line(text: str, max_chars: int = 200) -> str:
    """A title or a file's name, which may hold anything, as part of one line."""
    line = " ".join(safe(text).split())
    return line if len(line) <= max_chars else line[: max_chars - 1] + "…"


def escaped(json_text: str) -> str:
    """JSON that says the same and is safe to look at: inside its strings unsafe characters become their numbers."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)


def storable(text: str) -> str:
    """Text that can be kept and sent: half characters, which some keyboards and files hold, are marked."""
    return _SURROGATE.sub(_REPLACEMENT, text).replace("\0", "")
