"""What one tab may see, and the one way from it to a conversation.

A `View` is kept on the server and written by `attach` alone; a handler that is given anything else finds nothing.
"""

import re
from dataclasses import dataclass
from typing import Any

import gradio as gr

from model_loader.errors import InvalidSetting
from ui.chat.conversation import Conversation
from ui.chat.conversations import Conversations
from ui.chat.message import new_id
from ui.chat.refusal import FileRefused, Refused
from ui.web.error_strings import error_text
from ui.web.fragments import Fragment, fill
from ui.web.login.gate import login_in
from ui.web.strings import Language, say

_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class View:
    """Who looks through a tab, and at which conversation."""

    owner: str
    conversation_id: str


def owner_in(request: gr.Request, kept: Any) -> str:
    """Whose conversations a request is about: those of the account, or else of the id that its browser keeps."""
    return owner_in_scope(_scope(request), kept)


def owner_in_scope(scope: Any, kept: Any) -> str:
    """The same for a request that did not come through Gradio."""
    login = login_in(scope)
    if login is not None and login.owner is not None:
        return login.owner
    return kept if is_id(kept) else new_id()


def guest_in(request: gr.Request) -> str | None:
    """As which guest a request is counted; None for the host, and where the page is for this machine alone."""
    scope = _scope(request)
    if "login" not in scope:
        return None
    login = login_in(scope)
    if login is not None:
        return login.guest
    return str(scope["client"][0]) if scope.get("client") else "?"


def _scope(request: gr.Request) -> dict[str, Any]:
    scope = getattr(getattr(request, "request", None), "scope", None)
    return scope if isinstance(scope, dict) else {}


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


def notice(language: Language, error: Refused | FileRefused | InvalidSetting) -> Fragment:
    """Why something was not done, for the line above the composer."""
    if isinstance(error, InvalidSetting):
        return fill("notice", reason="invalid", text=error_text(language, "InvalidSetting", str(error)))
    if isinstance(error, FileRefused):
        return fill("notice", reason="file", text=file_text(language, error))
    return fill("notice", reason=error.reason, text=refused_text(language, error))


def refused_text(language: Language, error: Refused) -> str:
    """Why something was not done, as a sentence."""
    return say(language, f"refused_{error.reason}", limit="" if error.limit is None else f"{error.limit:,}")


def file_text(language: Language, error: FileRefused) -> str:
    """Why a file is not attached, as a sentence."""
    return say(language, f"file_{error.reason}", name=error.name, **error.figures)


def clean(text: Any) -> str:
    """Text that can be stored and sent: no lone surrogates, which JSON may carry and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "") if isinstance(text, str) else ""
