"""Conversations as files: what the menu below the list exports, and what it imports.

Both ways go through hidden boxes, as everything on the page does, so no route is opened for them. A file to keep goes
to the browser as its name, its type and base64, and `static/transfer.js` hands it to the user; a file to import comes
in pieces. Handlers are plain functions, which Gradio runs in threads of their own.
"""

import base64
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import gradio as gr

from ui.chat.conversation import Conversation
from ui.chat.conversations import Conversations
from ui.chat.export import as_json, as_markdown, as_zip, branch, file_name
from ui.chat.reading import ImportRefused, read_file
from ui.chat.refusal import Refused
from ui.web.access import View, checked_conversation, notice
from ui.web.fragments import Fragment, fill
from ui.web.html_export import as_html
from ui.web.strings import Language, say
from ui.web.uploads import UploadLost, Uploads
from ui.web.wiring import I18N, LIGHT, request_language, tab_of

_MEDIA_TYPES = {"html": "text/html", "md": "text/markdown", "json": "application/json", "zip": "application/zip"}
_MAX_AT_ONCE = 2
_PATIENCE_S = 30.0
_NOTHING = "-"
"""Tells the browser that no file comes."""
_NEXT = "next"
_Made = TypeVar("_Made")


class TransferHandlers:
    """What the menu does."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations
        self._uploads = Uploads()
        self._turn = threading.BoundedSemaphore(_MAX_AT_ONCE)  # making a file takes a processor for seconds

    def export(self, request: gr.Request, kind: Any, view: View | None) -> tuple[str, Fragment | str]:
        """The file for the browser, and a notice if there is none."""
        language = request_language(request)
        try:
            if not isinstance(kind, str) or kind not in _MEDIA_TYPES or not isinstance(view, View):
                raise Refused("no_conversation")
            name, data = self._alone(lambda: self._made(language, kind, view))
        except Refused as refused:
            return _NOTHING, notice(language, refused)
        except sqlite3.Error as error:
            return _NOTHING, fill("notice", reason="invalid", text=str(error))
        return f"{name}\n{_MEDIA_TYPES[kind]}\n{base64.b64encode(data).decode()}", ""

    def take_in(
        self, request: gr.Request, place: Any, piece: Any, view: View | None
    ) -> tuple[str, Fragment | str, Fragment | str]:
        """Takes a piece of a file; with the last one, imports it.

        Returns what the browser does next (send the next piece, show a conversation by its id, or nothing), why the
        file was refused, and what was imported.
        """
        language = request_language(request)
        if not isinstance(view, View) or not view.owner:
            return _NOTHING, notice(language, Refused("no_conversation")), ""
        try:
            data = self._uploads.add(f"{view.owner} {tab_of(request)}", str(place), str(piece))
            if data is None:
                return _NEXT, "", ""
            file = data
            kept = self._alone(lambda: self._conversations.take_in(view.owner, lambda: read_file(file)))
        except UploadLost:
            return _NOTHING, fill("notice", reason="invalid", text=say(language, "import_lost")), ""
        except ImportRefused as refused:
            return _NOTHING, fill("notice", reason="invalid", text=_why(language, refused)), ""
        except Refused as refused:
            return _NOTHING, notice(language, refused), ""
        except sqlite3.Error as error:
            return _NOTHING, fill("notice", reason="invalid", text=str(error)), ""
        return self._told(language, view.owner, kept)

    def _told(self, language: Language, owner: str, kept: list[str]) -> tuple[str, str, Fragment]:
        only = self._conversations.find(owner, kept[0]) if len(kept) == 1 else None
        if only is None:
            return _NOTHING, "", fill("told", text=say(language, "imported", number=f"{len(kept):,}"))
        title = only.record.title or say(language, "untitled")
        return only.id, "", fill("told", text=say(language, "imported_one", title=title))

    def _alone(self, make: Callable[[], _Made]) -> _Made:
        if not self._turn.acquire(timeout=_PATIENCE_S):
            raise Refused("busy")
        try:
            return make()
        finally:
            self._turn.release()

    def _made(self, language: Language, kind: str, view: View) -> tuple[str, bytes]:
        names = {
            "user": say(language, "you"),
            "assistant": say(language, "model_menu"),
            "reasoning": say(language, "thinking"),
        }
        if kind == "zip":
            trees = self._conversations.trees(view.owner)
            return file_name(say(language, "history"), kind), as_zip(trees, names, say(language, "untitled"))
        conversation: Conversation = checked_conversation(self._conversations, view)
        record, messages = conversation.tree()
        if not messages:
            raise Refused("nothing_to_export")
        if kind == "html":
            text = as_html(record, messages, language)
        elif kind == "json":
            text = as_json(record, messages)
        else:
            text = as_markdown(record.title, branch(record, messages), names)
        return file_name(record.title or say(language, "untitled"), kind), text.encode("utf-8", "replace")


def _why(language: Language, refused: ImportRefused) -> str:
    text = say(language, f"import_{refused.reason}", **refused.figures)
    return say(language, "import_file_of", file=refused.file, text=text) if refused.file else text


def lay_out_transfer() -> dict[str, Any]:
    """The menu, which opens above the foot of the list."""
    with gr.Column(elem_id="transfer"):
        gr.Markdown(I18N("export_shown"), elem_classes="transfer-title")
        gr.Button(I18N("export_html"), elem_id="export-html", elem_classes="takes-out", size="sm")
        gr.Button(I18N("export_md"), elem_id="export-md", elem_classes="takes-out", size="sm")
        gr.Button(I18N("export_json"), elem_id="export-json", elem_classes="takes-out", size="sm")
        gr.Markdown(I18N("export_all"), elem_classes="transfer-title")
        gr.Button(I18N("export_zip"), elem_id="export-zip", elem_classes="takes-out", size="sm")
        gr.Button(I18N("import_file"), elem_id="import-file", size="sm")
    hidden = {
        name: gr.Textbox(visible="hidden", elem_id=f"box-{name}", label=name)
        for name in ("export_kind", "export_made", "import_place", "import_piece", "import_done")
    }
    triggers = {name: gr.Button(name, visible="hidden", elem_id=f"do-{name}") for name in ("export", "import")}
    return {**hidden, **triggers}


def wire_transfer(
    parts: dict[str, Any], view: gr.State, said: gr.Markdown, told: gr.Markdown, handlers: TransferHandlers
) -> None:
    """Which click calls which handler; `parts` are those of `lay_out_transfer`."""
    parts["export"].click(handlers.export, [parts["export_kind"], view], [parts["export_made"], said], **LIGHT)
    piece = [parts["import_place"], parts["import_piece"], view]
    parts["import"].click(handlers.take_in, piece, [parts["import_done"], said, told], **LIGHT)
