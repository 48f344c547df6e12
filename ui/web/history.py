"""The list of conversations at the page's left: what is in it and what its buttons do.

The browser says what it wants by an action, a conversation's id and a text, all in hidden boxes; the server checks
each against the owner of the tab's view. The list itself is one piece of HTML, made anew after every change.
"""

import sqlite3
import time
from typing import Any

import gradio as gr

from ui.chat.answers import Answers
from ui.chat.conversation import Conversation
from ui.chat.conversations import Conversations
from ui.chat.database import Found
from ui.chat.drafts import Drafts
from ui.chat.refusal import Refused
from ui.web.access import View, clean, is_id, notice
from ui.web.fragments import Fragment, fill, join
from ui.web.strings import Language, say
from ui.web.transfer import lay_out_transfer
from ui.web.wiring import I18N, LIGHT, request_language

_PAGE = 60
_MAX_SHOWN = 2_000
_DAY_S = 86_400.0
_TRASH = "trash"


class HistoryHandlers:
    """What the list shows and what a click in it does."""

    def __init__(self, conversations: Conversations, answers: Answers, drafts: Drafts | None = None) -> None:
        self._conversations = conversations
        self._answers = answers
        self._drafts = drafts or Drafts()

    def show(
        self, request: gr.Request, view: View | None, search: Any, place: Any, pages: Any
    ) -> tuple[Fragment, Fragment | str]:
        """The list, and a banner if something is wrong with the disk."""
        language = request_language(request)
        if not isinstance(view, View):
            return Fragment(""), ""
        try:
            entries = self._list(language, view, clean(search), place == _TRASH, _num_shown(pages))
        except sqlite3.Error as error:
            return Fragment(""), _storage_banner(language, str(error))
        problem = self._conversations.problem
        if problem:
            return entries, _storage_banner(language, problem)
        if self._conversations.database.set_aside is not None:
            return entries, fill("notice", reason="set-aside", text=say(language, "set_aside"))
        return entries, ""

    def change(self, request: gr.Request, action: Any, target_id: Any, text: Any, view: View | None) -> Fragment | str:
        """Carries out an action on one conversation or on all; returns what can be undone, or why it was refused."""
        if not isinstance(view, View):
            return ""
        language = request_language(request)
        try:
            if action == "empty":
                self._conversations.empty_trash(view.owner)
            elif action == "erase":
                self._erase(view.owner)
            elif is_id(target_id) and (target := self._conversations.find(view.owner, target_id)) is not None:
                return self._change_one(language, str(action), target, clean(text))
        except Refused as refused:
            return notice(language, refused)
        except sqlite3.Error as error:
            return _storage_banner(language, str(error))
        return ""

    def _change_one(self, language: Language, action: str, target: Conversation, text: str) -> Fragment | str:
        if action == "rename":
            self._conversations.rename(target, text)
        elif action in ("pin", "unpin"):
            self._conversations.pin(target, is_pinned=action == "pin")
        elif action == "restore":
            self._conversations.restore(target)
        elif action == "trash":
            self._answers.stop(target.id)
            self._conversations.put_into_trash(target)
            said = say(language, "trashed", title=_title(language, target.record.title))
            return fill("trashed", text=said, id=target.id, undo=say(language, "undo"))
        return ""

    def _erase(self, owner: str) -> None:
        for found in self._conversations.listing(owner, limit=_MAX_SHOWN):
            self._answers.stop(found.record.id)
        self._conversations.delete_everything(owner)
        self._drafts.forget(owner)

    def _list(self, language: Language, view: View, search: str, is_trash: bool, num_shown: int) -> Fragment:
        found = self._conversations.listing(view.owner, search, is_trash=is_trash, limit=num_shown + 1)
        pieces: list[Fragment] = []
        if is_trash and found:
            days = f"{self._conversations.limits.trash_days:g}"
            pieces.append(fill("history_note", text=say(language, "trash_note", days=days)))
        group = ""
        for one in found[:num_shown]:
            belongs_to = _TRASH if is_trash else _group(one)
            if belongs_to != group and not is_trash:
                pieces.append(fill("history_group", text=say(language, f"group_{belongs_to}")))
            group = belongs_to
            pieces.append(self._entry(language, view, one, is_trash))
        if not found:
            empty = "nothing_found" if search.strip() else "trash_empty" if is_trash else "no_conversations"
            pieces.append(fill("history_note", text=say(language, empty)))
        if len(found) > num_shown:
            pieces.append(fill("history_more", text=say(language, "more_conversations")))
        return join(pieces)

    def _entry(self, language: Language, view: View, found: Found, is_trash: bool) -> Fragment:
        record = found.record
        states = ["is-shown"] * (record.id == view.conversation_id) + ["is-pinned"] * record.is_pinned
        if self._answers.running(record.id) is not None:
            states.append("is-answering")
        pin = "unpin" if record.is_pinned else "pin"
        tools = [("restore", "restore")] if is_trash else [(pin, pin), ("rename", "rename"), ("trash", "to_trash")]
        made = [fill("history_tool", action=action, id=record.id, label=say(language, key)) for action, key in tools]
        return fill(
            "history_entry",
            id=record.id,
            state=" ".join(states),
            title=_title(language, record.title),
            snippet=found.snippet,
            tools=join(made),
        )


def lay_out_history() -> dict[str, Any]:
    """The panel at the left."""
    with gr.Sidebar(I18N("history"), position="left", open=True, width=300, elem_id="history"):
        gr.Markdown(I18N("history"), elem_classes="panel-title")
        gr.Button(I18N("new_conversation"), elem_id="new", size="sm")
        search = gr.Textbox(
            label=I18N("search"),
            placeholder=I18N("search"),
            show_label=False,
            container=False,
            max_lines=1,
            elem_id="history-search",
        )
        listed = gr.Markdown("", elem_id="history-list")
        transfer = lay_out_transfer()
        with gr.Column(elem_id="history-foot"):
            gr.Button(I18N("transfer"), elem_id="to-transfer", size="sm")
            gr.Button(I18N("trash"), elem_id="to-trash", size="sm")
            gr.Button(I18N("back_to_list"), elem_id="from-trash", size="sm")
            gr.Button(I18N("empty_trash"), elem_id="empty-trash", size="sm")
            gr.Button(I18N("delete_everything"), elem_id="erase", size="sm")
            gr.Button(I18N("really"), elem_id="really", size="sm", variant="stop")
    hidden = {
        name: gr.Textbox(visible="hidden", elem_id=f"box-{name}", label=name)
        for name in ("history_action", "target_id", "target_text", "place", "pages")
    }
    triggers = {name: gr.Button(name, visible="hidden", elem_id=f"do-{name}") for name in ("list", "history")}
    return {"search": search, "listed": listed, "transfer": transfer, **hidden, **triggers}


def wire_history(
    parts: dict[str, Any], view: gr.State, undo: gr.Markdown, storage: gr.Markdown, handlers: HistoryHandlers
) -> None:
    """Which click calls which handler; `parts` are those of `lay_out_history`."""
    inputs, outputs = [view, parts["search"], parts["place"], parts["pages"]], [parts["listed"], storage]
    parts["list"].click(handlers.show, inputs, outputs, trigger_mode="always_last", **LIGHT)
    changed = parts["history"].click(
        handlers.change, [parts["history_action"], parts["target_id"], parts["target_text"], view], undo, **LIGHT
    )
    changed.then(handlers.show, inputs, outputs, **LIGHT)


def _num_shown(pages: Any) -> int:
    more = int(pages) if isinstance(pages, str) and pages.isdecimal() and len(pages) < 4 else 0
    return min(_PAGE * (more + 1), _MAX_SHOWN)


def _title(language: Language, title: str) -> str:
    return title or say(language, "untitled")


def _group(found: Found) -> str:
    """Under which heading a conversation stands, by the calendar of the machine."""
    if found.record.is_pinned:
        return "pinned"
    now = time.localtime()
    midnight = time.mktime((now.tm_year, now.tm_mon, now.tm_mday, 0, 0, 0, 0, 0, -1))
    if found.record.used >= midnight:
        return "today"
    if found.record.used >= midnight - _DAY_S:
        return "yesterday"
    return "week" if found.record.used >= midnight - 7 * _DAY_S else "earlier"


def _storage_banner(language: Language, problem: str) -> Fragment:
    return fill("notice", reason="not-saved", text=say(language, "not_saved", problem=problem))
