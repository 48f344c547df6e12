"""What one tab may see, and the one way from it to a conversation.

A `View` is kept on the server and written by `attach` alone; a handler that is given anything else finds nothing.
"""

import re
from dataclasses import dataclass
from typing import Any

from model_loader.errors import InvalidSetting
from ui.chat.conversation import Conversation
from ui.chat.conversations import Conversations
from ui.chat.refusal import Refused
from ui.web.fragments import Fragment, fill
from ui.web.strings import Language, say

_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class View:
    """Who looks through a tab, and at which conversation."""

    owner: str
    conversation_id: str


def is_id(value: Any) -> bool:
    """Whether a value from the browser has the shape of an id."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def shown_conversation(conversations: Conversations, view: Any) -> Conversation | None:
    """The conversation that a tab shows; None without one."""
    return conversations.find(view.owner, view.conversation_id) if isinstance(view, View) else None


def checked_conversation(conversations: Conversations, view: Any) -> Conversation:
    """The conversation that a tab shows.

    Raises:
        Refused: there is none.
    """
    conversation = shown_conversation(conversations, view)
    if conversation is None:
        raise Refused("no_conversation")
    return conversation


def notice(language: Language, error: Refused | InvalidSetting) -> Fragment:
    """Why something was not done, for the line above the composer."""
    if isinstance(error, InvalidSetting):
        return fill("notice", reason="invalid", text=str(error))
    limit = "" if error.limit is None else f"{error.limit:,}"
    return fill("notice", reason=error.reason, text=say(language, f"refused_{error.reason}", limit=limit))


def clean(text: Any) -> str:
    """Text that can be stored and sent: no lone surrogates, which JSON may carry and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "") if isinstance(text, str) else ""
