"""A file that a user has attached to a question: its name and its text, and how a model reads both.

What comes in are names and texts from anywhere; what goes out are values that are kept with a message, and the plain
frame in which they stand before the question. `extraction` makes the texts. It knows neither bytes nor screens.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

FileKind = Literal["text", "pdf"]
MAX_FILES = 8
"""Of one message."""
MAX_FILE_BYTES = 16 * 2**20
MAX_CHARS = 400_000
"""Of all files of a message together: some 100,000 tokens of English, more than most windows hold."""

_MAX_NAME_CHARS = 80
_MAX_ENDING_CHARS = 12
_ENDING = re.compile(r"[a-z0-9+#]{1,12}")
_TICKS = re.compile("`+")


@dataclass(frozen=True, slots=True)
class Attachment:
    """What is kept of an attached file; its bytes are not.

    Attributes:
        name: one line without a folder, as `clean_name` gives it.
        kind: what the file was; it says where the text comes from, never what may be done with it.
        text: all of it, with "\\n" between lines.
        num_bytes: how large the file was.
    """

    name: str
    kind: FileKind
    text: str
    num_bytes: int

    @property
    def size(self) -> str:
        """How large the file was, as people say it."""
        if self.num_bytes < 1000:
            return f"{self.num_bytes} B"
        if self.num_bytes < 999_500:
            return f"{self.num_bytes / 1000:.{0 if self.num_bytes >= 9950 else 1}f} KB"
        return f"{self.num_bytes / 1_000_000:.1f} MB"


def framed(attachments: Sequence[Attachment], text: str) -> str:
    """A question as a model reads it: each file under its name in a fence, then what the user wrote.

        File: prices.csv
        ```csv
        apple,3
        ```

        What is cheapest?

    The fence is longer than any run of backticks in the file, so no file can end its own frame. The whole is plain
    text and is encoded like any other: control tokens in a file are letters.
    """
    pieces = [f"File: {one.name}\n{fenced(one)}" for one in attachments]
    return "\n\n".join([*pieces, text] if text or not pieces else pieces)


def fenced(attachment: Attachment) -> str:
    """The text of a file as a block of code in Markdown."""
    text = attachment.text.strip("\n")
    fence = "`" * max(3, 1 + max(map(len, _TICKS.findall(text)), default=0))
    ending = attachment.name.rpartition(".")[2].lower()
    language = ending if attachment.kind == "text" and _ENDING.fullmatch(ending) else ""
    return f"{fence}{language}\n{text}\n{fence}"


def clean_name(name: str) -> str:
    """A file's name for people to read: no folder, nothing invisible, not too long; "file" if nothing is left.

    It never becomes a path.
    """
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode()))[-1]
    shown = " ".join("".join(each if each.isprintable() else " " for each in last).split())
    if len(shown) > _MAX_NAME_CHARS:
        ending = shown[-_MAX_ENDING_CHARS:]
        shown = f"{shown[: _MAX_NAME_CHARS - len(ending) - 1]}…{ending}"
    return shown or "file"
