"""Why something a user asked for is not done. A front end turns the reason into its words and keeps the user's text."""

from typing import Literal

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
