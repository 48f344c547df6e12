"""Why something was not done, in words for the terminal."""

import sqlite3

from ui.chat.refusal import Reason, Refused

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


def words_of(error: Exception) -> str:
    """An error as a sentence for the user."""
    if isinstance(error, Refused):
        return _REFUSALS[error.reason].format(limit="" if error.limit is None else f"{error.limit:,}")
    if isinstance(error, sqlite3.Error):
        return f"The file of the conversations cannot be used: {error}."
    return str(error)
