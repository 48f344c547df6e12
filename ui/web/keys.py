"""The sheet with the keyboard's shortcuts, and the foot of the settings from which it opens.

`static/page.js` carries the shortcuts out; the language buttons beside it are its business as well.
"""

from typing import Any

import gradio as gr

from ui.web.fragments import Fragment, fill, join
from ui.web.strings import say
from ui.web.wiring import I18N, LIGHT, request_language

SHORTCUTS = (
    ("Enter", "key_send"),
    ("Shift + Enter", "key_line"),
    ("Esc", "key_stop"),
    ("↑", "key_edit"),
    ("Ctrl + Shift + O", "key_new"),
    ("/", "key_search"),
    ("?", "key_keys"),
)
_LANGUAGE_NAMES = {"en": "English", "zh": "中文", "ja": "日本語"}


def keys_sheet(request: gr.Request) -> Fragment:
    """The sheet in the page's language."""
    language = request_language(request)
    rows = [fill("keys_row", keys=keys, meaning=say(language, meaning)) for keys, meaning in SHORTCUTS]
    return fill("keys", title=say(language, "keys"), close=say(language, "close"), rows=join(rows))


def close_keys() -> str:
    """No sheet."""
    return ""


def lay_out_panel_foot() -> gr.Button:
    """The last row of the settings; returns the button that opens the sheet."""
    with gr.Row(elem_id="panel-foot"):
        for language, name in _LANGUAGE_NAMES.items():
            gr.Button(name, size="sm", elem_id=f"speak-{language}")
        return gr.Button(I18N("keys"), size="sm", elem_id="show-keys")


def wire_keys(show: gr.Button, sheet: gr.Markdown, close: gr.Button) -> None:
    """Which click calls which handler."""
    events: dict[str, Any] = LIGHT
    show.click(keys_sheet, None, sheet, **events)
    close.click(close_keys, None, sheet, **events)
