"""Why something was not done, in words for the terminal."""

import sqlite3

from ui.chat.refusal import FileReason, FileRefused, Reason, Refused
from ui.terminal.safe_text import safe_line

_REFUSALS: dict[Reason, str] = {
    "still_answering": "The last answer is still being written.",
    "too_long": "This question is too long: {limit} bytes at most.",
    "empty": "Write something first; :help lists the commands.",
    "conversation_full": "This conversation is full ({limit} bytes). Begin a new one with :clear-his.",
    "history_full": "There is no room for more ({limit} bytes). Use another file with --history.",
    "too_many": "There are too many conversations already ({limit}). Use another file with --history.",
    "nothing_to_continue": "This answer cannot go on.",
    "nothing_to_repeat": "Nothing has been asked yet.",
    "no_conversation": "That conversation is no longer there; :open lists those that are.",
    "closing": "The program is ending.",
}

_FILES: dict[FileReason, str] = {
    "empty": "{name} is empty.",
    "too_long": "With {name} there would be {found} characters of files; {limit} go with a question.",
    "too_many": "{name} was not attached: a question takes {limit} files; :attach none takes them out.",
    "other_kind": "{name} is no text; its content is {found}. Save it as text, CSV or PDF.",
    "binary": "{name} is no text; it holds binary data. Text, Markdown, code, CSV and PDF are read.",
    "encoding": "{name} is no UTF-8 (byte {byte} in line {line}). Save it as UTF-8.",
    "encrypted": "{name} is locked with a password. Save it without one.",
    "no_text": "{name} holds no text, only pictures perhaps. Run text recognition (OCR) over it.",
    "too_many_pages": "{name} has {found} pages; {limit} are read at most. Print those you need into a PDF.",
    "too_slow": "Reading {name} took longer than {limit} seconds. Attach fewer pages, or its text.",
    "too_heavy": "{name} needs more memory than a file may have. Attach fewer pages, or its text.",
    "damaged": "{name} is a damaged PDF. Print it into a new one.",
}


def words_of(error: Exception) -> str:
    """An error as a sentence for the user."""
    if isinstance(error, FileRefused):
        sentence = _FILES.get(error.reason, "{name} cannot be attached.")
        return sentence.format(name=safe_line(error.name), **error.figures)
    if isinstance(error, Refused):
        return _REFUSALS[error.reason].format(limit="" if error.limit is None else f"{error.limit:,}")
    if isinstance(error, sqlite3.Error):
        return f"The file of the conversations cannot be used: {error}."
    return str(error)
