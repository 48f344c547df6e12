"""What every part of the page shares: translated labels, how events are sent, and who sent one."""

from typing import Any

import gradio as gr
from starlette.requests import Request, cookie_parser

from ui.web.strings import LANGUAGES, Language, language_of, static_strings

LANGUAGE_COOKIE = "qwen-chat-language"
I18N = gr.I18n(**static_strings())

LIGHT: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""For events that answer at once."""
STREAM: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
"""For events that go on; only the engine queues."""


def tab_of(request: gr.Request) -> str:
    """The name of the browser tab that sent an event."""
    return request.session_hash or ""


def request_language(request: gr.Request | Request) -> Language:
    """The language of the page that sent an event: the one chosen there, or else the browser's."""
    chosen = cookie_parser(request.headers.get("cookie") or "").get(LANGUAGE_COOKIE)
    known = next((language for language in LANGUAGES if chosen == language), None)
    return known or language_of(request.headers.get("accept-language"))
