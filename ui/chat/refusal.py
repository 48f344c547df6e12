"""Why something a user asked for is not done. A front end turns the reason into its words and keeps the user's text."""

from typing import Any, Literal

Reason = Literal[
    "still_answering",
    "too_long",
    "empty",
    "conversation_full",
    "history_full",
    "nothing_to_continue",
    "too_many",
    "nothing_to_repeat",
    "no_conversation",
    "closing",
    "nothing_to_export",
    "export_too_large",
    "busy",
    "tokens_spent",
    "enough_at_once",
]


class Refused(Exception):
    """The request was understood and is not carried out; nothing has changed.

    Attributes:
        reason: which rule it met.
        limit: the rule's figure where it has one, in bytes or pieces.
    """

    def __init__(self, reason: Reason, limit: int | None = None) -> None:
        self.reason: Reason = reason
        self.limit = limit
        super().__init__(reason if limit is None else f"{reason} ({limit:,})")


FileReason = Literal[
    "empty",
    "too_large",
    "too_long",
    "too_many",
    "other_kind",
    "binary",
    "encoding",
    "encrypted",
    "no_text",
    "too_many_pages",
    "too_slow",
    "too_heavy",
    "damaged",
    "busy",
    "lost",
    "window",
]


class FileRefused(Exception):
    """A file is not attached; nothing has changed.

    Attributes:
        reason: which rule it broke.
        name: the file's name for people to read.
        figures: what was found and what is allowed, for the sentence that a front end makes of it.
    """

    def __init__(self, reason: FileReason, name: str, **figures: Any) -> None:
        self.reason: FileReason = reason
        self.name = name
        self.figures = figures
        super().__init__(" ".join([reason, repr(name), *(f"{key}={value}" for key, value in figures.items())]))
