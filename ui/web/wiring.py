"""What every part of the page shares: translated labels, how events are sent, and who sent one."""

from typing import Any

import gradio as gr

from ui.web.strings import Language, language_of, static_strings

I18N = gr.I18n(**static_strings())

LIGHT: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""For events that answer at once."""
STREAM: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
"""For events that go on; only the engine queues."""


def tab_of(request: gr.Request) -> str:
    """The name of the browser tab that sent an event."""
    return request.session_hash or ""


def request_language(request: gr.Request) -> Language:
    """The language of the page that sent an event."""
    return language_of(request.headers.get("accept-language"))
