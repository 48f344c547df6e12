"""What a click does. Every handler takes values from the page and returns values for it; none holds a conversation.

Light handlers change the conversation on the server and answer at once; one handler, `follow`, streams whatever the
conversation shows into the Chatbot until nothing is being written. Whose conversation it is comes from the tab's
`View`, which only the server writes.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from model_loader.errors import InvalidSetting
from ui.chat.answer import Answers, ModelSource
from ui.chat.conversation import Conversation, Settings
from ui.chat.conversations import Conversations
from ui.chat.message import new_id
from ui.chat.refusal import Refused
from ui.web.fragments import Fragment, fill
from ui.web.panel import NUM_SETTINGS, load_view, model_view, read_settings, settings_view
from ui.web.render import Shown, Transcript
from ui.web.strings import Language, say
from ui.web.tabs import Tabs
from ui.web.wiring import request_language, tab_of

_LOOK_S = 0.03
_YIELD_S = 0.1
_LOAD_LOOK_S = 0.25
_ID = re.compile(r"[0-9a-f]{32}")
_NO_NOTICE = ""


@dataclass(frozen=True, slots=True)
class View:
    """What one tab may see; kept on the server."""

    owner: str
    conversation_id: str


class Handlers:
    """The page's handlers over one store of conversations and one model on its way."""

    def __init__(self, load: ModelSource, conversations: Conversations, answers: Answers, tabs: Tabs) -> None:
        self._load = load
        self._conversations = conversations
        self._answers = answers
        self._tabs = tabs

    # Coming and going

    def attach(self, owner: Any, conversation_id: Any, request: gr.Request) -> tuple[View, str, Any, str]:
        """Finds the tab's conversation, or the browser's last one if no tab shows it, or begins one.

        Returns the view, the conversation's id for the browser to keep, the bar that offers undo, and a notice.
        """
        owner = owner if isinstance(owner, str) and _ID.fullmatch(owner) else new_id()
        try:
            conversation = self._find_or_create(owner, conversation_id, tab_of(request))
        except Refused as refused:
            return View(owner, ""), "", gr.update(visible=False), _notice(request_language(request), refused)
        self._tabs.enter(tab_of(request), conversation.id)
        undo = gr.update(visible=conversation.can_undo_clear)
        return View(owner, conversation.id), conversation.id, undo, _NO_NOTICE

    def detach(self, request: gr.Request) -> None:
        """The tab was closed or reloaded; its answer goes on for a while."""
        self._tabs.leave(tab_of(request))

    async def watch_load(self, view: View | None, request: gr.Request) -> AsyncIterator[tuple[Any, ...]]:
        """Shows how far the load is until it has ended, then what the model is and its settings."""
        language = request_language(request)
        progress = None
        while self._load.chat_model is None and self._load.error is None:
            if self._load.progress != progress:
                progress = self._load.progress
                yield load_view(language, progress)
            await asyncio.sleep(_LOAD_LOOK_S)
        conversation = self._conversation(view)
        yield model_view(language, self._load, conversation.settings if conversation else Settings())

    async def follow(self, view: View | None, request: gr.Request) -> AsyncIterator[list[Shown]]:
        """Shows the tab's conversation, again and again while an answer is being written. One at a time in a tab."""
        conversation, tab = self._conversation(view), tab_of(request)
        if conversation is None:
            yield []
            return
        self._tabs.enter(tab, conversation.id)
        if not self._tabs.begin_following(tab):
            return
        try:
            transcript = Transcript(request_language(request))
            seen: tuple[Any, ...] = ()
            yielded_at = 0.0
            while True:
                answer = self._answers.running(conversation.id)  # before looking, so that the last state is shown
                is_over = answer is None and self._tabs.may_stop_following(tab)
                max_shown = self._tabs.max_shown(tab)
                state = (conversation.version, max_shown, answer and answer.status)
                if state != seen and (is_over or time.monotonic() - yielded_at >= _YIELD_S):
                    seen, yielded_at = state, time.monotonic()
                    yield transcript.render(conversation, answer, max_shown)
                if is_over:
                    return
                await asyncio.sleep(_LOOK_S)
        finally:
            self._tabs.abandon_following(tab)

    # Asking

    def ask(self, request: gr.Request, text: Any, view: View | None, *settings: Any) -> tuple[Any, str, Any]:
        """Takes a question; returns the emptied box, no notice, and no undo. A refused text stays in the box."""
        try:
            conversation = self._checked(view)
            text = _clean(text)
            self._conversations.check_question(conversation, text)
            self._keep(conversation, settings)
            self._tabs.enter(tab_of(request), conversation.id)
            self._answers.ask(conversation, text)
        except (Refused, InvalidSetting) as error:
            return gr.skip(), _notice(request_language(request), error), gr.skip()
        return "", _NO_NOTICE, gr.update(visible=False)

    def asking(self, key: str) -> Callable[..., tuple[str, Any]]:
        """A handler that asks the question with this key, in the page's language."""

        def ask_starter(request: gr.Request, view: View | None, *settings: Any) -> tuple[str, Any]:
            _box, notice, undo = self.ask(request, say(request_language(request), key), view, *settings)
            return notice, undo

        return ask_starter

    def stop(self, view: View | None) -> None:
        """Ends the answer with what it has. Pressing it twice, too late or too early does nothing."""
        conversation = self._conversation(view)
        if conversation is not None:
            self._answers.stop(conversation.id)

    def regenerate(self, request: gr.Request, message_id: Any, view: View | None, *settings: Any) -> str:
        """Answers the same question again, beside the old answer; returns the notice."""
        try:
            conversation = self._checked(view)
            self._keep(conversation, settings)
            self._answers.regenerate(conversation, str(message_id))
        except (Refused, InvalidSetting) as error:
            return _notice(request_language(request), error)
        return _NO_NOTICE

    def choose(self, message_id: Any, view: View | None, request: gr.Request) -> str:
        """Shows another answer to the same question; returns the notice."""
        try:
            conversation = self._checked(view)
            if self._answers.running(conversation.id) is not None:
                raise Refused("still_answering")
            conversation.choose(str(message_id))
        except Refused as refused:
            return _notice(request_language(request), refused)
        return _NO_NOTICE

    # Looking

    def clear(self, view: View | None) -> tuple[Any, str]:
        """Puts the conversation away; returns the bar that offers undo, and no notice."""
        conversation = self._conversation(view)
        if conversation is None:
            return gr.skip(), _NO_NOTICE
        self._answers.stop(conversation.id)
        conversation.clear()
        return gr.update(visible=conversation.can_undo_clear), _NO_NOTICE

    def undo_clear(self, view: View | None) -> Any:
        """Brings back what `clear` put away; returns the bar, hidden."""
        conversation = self._conversation(view)
        if conversation is not None:
            conversation.undo_clear()
        return gr.update(visible=False)

    def show_earlier(self, request: gr.Request) -> None:
        """Shows one page of older messages more."""
        self._tabs.show_more(tab_of(request))

    def copy(self, message_id: Any, view: View | None) -> str:
        """The answer as the model wrote it; empty if there is none."""
        conversation = self._conversation(view)
        message = conversation.find(str(message_id)) if conversation is not None else None
        return message.text if message is not None else ""

    def keep_settings(self, request: gr.Request, view: View | None, *settings: Any) -> str:
        """Remembers the side panel for the conversation's next answers; returns the notice."""
        try:
            self._keep(self._checked(view), settings)
        except (Refused, InvalidSetting) as error:
            return _notice(request_language(request), error)
        return _NO_NOTICE

    def reset_settings(self, view: View | None) -> tuple[Any, ...]:
        """Takes the model's defaults again; returns the settings of the side panel."""
        conversation, chat_model = self._conversation(view), self._load.chat_model
        if conversation is None or chat_model is None:
            return tuple(gr.skip() for _ in range(NUM_SETTINGS + 1))
        conversation.settings = Settings()
        return settings_view(chat_model, Settings())

    def _find_or_create(self, owner: str, conversation_id: Any, tab: str) -> Conversation:
        if isinstance(conversation_id, str) and _ID.fullmatch(conversation_id):
            known = self._conversations.find(owner, conversation_id)
            if known is not None:
                return known
        latest = self._conversations.latest(owner)
        if latest is None or self._tabs.is_shown_elsewhere(tab, latest.id):
            return self._conversations.create(owner)
        return latest

    def _conversation(self, view: View | None) -> Conversation | None:
        if not isinstance(view, View):
            return None
        return self._conversations.find(view.owner, view.conversation_id)

    def _checked(self, view: View | None) -> Conversation:
        conversation = self._conversation(view)
        if conversation is None:
            raise Refused("no_conversation")
        return conversation

    def _keep(self, conversation: Conversation, settings: tuple[Any, ...]) -> None:
        chat_model = self._load.chat_model
        if chat_model is not None:
            kept = read_settings(settings, chat_model)
            if kept is not None:
                conversation.settings = kept


def _notice(language: Language, error: Refused | InvalidSetting) -> Fragment:
    if isinstance(error, InvalidSetting):
        return fill("notice", reason="invalid", text=str(error))
    limit = "" if error.limit is None else f"{error.limit:,}"
    return fill("notice", reason=error.reason, text=say(language, f"refused_{error.reason}", limit=limit))


def _clean(text: Any) -> str:
    """Text that can be stored and sent: no lone surrogates, which JSON may carry and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "") if isinstance(text, str) else ""
