"""What a click does. Every handler takes values from the page and returns values for it; none holds a conversation.

Light handlers change the conversation on the server and answer at once; one handler, `follow`, streams whatever the
conversation shows into the Chatbot until nothing is being written. Whose conversation it is comes from the tab's
`View`, which only the server writes.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import gradio as gr

from model_loader.errors import ContextLengthExceeded, InvalidSetting
from ui.chat.allowance import Allowance
from ui.chat.answer import ModelSource
from ui.chat.answers import Answers
from ui.chat.conversation import Conversation, Settings
from ui.chat.conversations import Conversations
from ui.chat.drafts import Drafts
from ui.chat.message import StoredMessage
from ui.chat.refusal import FileRefused, Refused
from ui.web.access import (
    View,
    checked_conversation,
    clean,
    guest_in,
    is_id,
    notice,
    owner_in,
    shown_conversation,
)
from ui.web.files import FileHandlers, drafted, read_draft
from ui.web.meter import question_cost
from ui.web.panel import NUM_SETTINGS, load_view, model_view, read_settings, settings_view
from ui.web.render import Transcript
from ui.web.strings import say
from ui.web.tabs import Tabs
from ui.web.wiring import request_language, tab_of

_LOOK_S = 0.03
_YIELD_S = 0.1
_LOAD_LOOK_S = 0.25
_NO_NOTICE = ""
_REDO = ("redo", "penalty", "warmer")
"""Another answer from the last good character: as it is set, with a penalty on repetition, at a higher temperature."""
NEW_CONVERSATION = "new"
"""What the browser asks for instead of an id to begin a conversation."""


class Handlers:
    """The page's handlers over one store of conversations and one model on its way."""

    def __init__(
        self,
        load: ModelSource,
        conversations: Conversations,
        answers: Answers,
        tabs: Tabs,
        allowance: Allowance | None = None,
        files: FileHandlers | None = None,
    ) -> None:
        self._load = load
        self._conversations = conversations
        self._answers = answers
        self._tabs = tabs
        self._allowance = allowance or Allowance()
        self._files = files or FileHandlers(load, conversations, tabs, Drafts())

    # Coming and going

    def attach(self, owner: Any, conversation_id: Any, request: gr.Request) -> tuple[View, str, Any, str]:
        """Finds the tab's conversation, or the browser's last one if no tab shows it, or begins one.

        Returns the view, the conversation's id for the browser to keep, the bar that offers undo, and a notice. After
        the id comes the tab's name if it has no stream open, so that it opens one.
        """
        owner, tab = owner_in(request, owner), tab_of(request)
        self._allowance.know(owner, guest_in(request))
        try:
            conversation = self._find_or_create(owner, conversation_id, tab)
        except Refused as refused:
            return View(owner, ""), "", gr.update(visible=False), notice(request_language(request), refused)
        view, shown, undo = self._entered(conversation, request)
        return view, shown if self._tabs.listens(tab) else f"{shown} {tab}", undo, _NO_NOTICE

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
        view = self._shown(view, tab_of(request))
        yield model_view(language, self._load, await asyncio.to_thread(self._conversation, view))

    async def follow(self, view: View | None, request: gr.Request) -> AsyncIterator[Any]:
        """Shows the tab's conversation, again and again while an answer is being written. One at a time in a tab: what
        comes when another follows already changes nothing.
        """
        tab = tab_of(request)
        view = self._shown(view, tab)  # or one that waited long would empty the page
        conversation = self._conversation(view)
        if conversation is None or view is None:
            yield []
            return
        self._tabs.enter(tab, view.owner, conversation.id)
        if not self._tabs.begin_following(tab):
            yield gr.skip()  # Gradio takes nothing for an empty conversation
            return
        try:
            transcript = Transcript(request_language(request))
            seen: tuple[Any, ...] = ()
            yielded_at = 0.0
            while True:
                if self._tabs.shown_in(tab) != conversation.id:  # the tab has turned to another one
                    conversation = self._conversations.find(view.owner, self._tabs.shown_in(tab)) or conversation
                answer = self._answers.running(conversation.id)  # before looking, so that the last state is shown
                max_shown, turned = self._tabs.max_shown(tab), self._tabs.turned(tab)
                state = (conversation.id, conversation.version, max_shown, turned, answer and answer.status)
                if state != seen and (answer is None or time.monotonic() - yielded_at >= _YIELD_S):
                    seen, yielded_at = state, time.monotonic()
                    yield transcript.render(conversation, answer, max_shown, turned)
                elif answer is None and self._tabs.may_stop_following(tab):
                    return  # after the last state is on its way, or it could come behind what the next follower shows
                else:
                    await asyncio.sleep(_LOOK_S)
        except BaseException:
            self._tabs.abandon_following(tab)
            raise

    # Asking

    def ask(
        self, request: gr.Request, text: Any, edited_id: Any, draft: Any, view: View | None, *settings: Any
    ) -> tuple[Any, str, Any, Any, Any]:
        """Takes a question, or another wording of a message; returns the emptied box, no notice, no undo, the files
        that wait for the next one, and that no message is edited any more.

        A refused text stays in the box, and its files with it.
        """
        try:
            conversation = self._to_be_asked_in(view, request)
            text = clean(text)
            edited = conversation.find(edited_id) if is_id(edited_id) else None
            is_answer = edited is not None and edited.role == "assistant"
            files = () if is_answer else drafted(self._files.drafts, conversation.owner, draft)
            self._conversations.check_question(conversation, text, files)
            self._keep(conversation, settings)
            self._check_window(conversation, StoredMessage("user", text, attachments=files), edited_id)
            self._tabs.enter(tab_of(request), conversation.owner, conversation.id)
            if is_id(edited_id):
                self._answers.edit(conversation, edited_id, text, None if is_answer else files)
            else:
                self._answers.ask(conversation, text, files)
            self._take_out_of_trash(conversation)
        except FileRefused as refused:
            language, draft_id = request_language(request), read_draft(draft)[0]
            chips = self._files.chips(language, conversation.owner, draft_id)
            return gr.skip(), notice(language, refused), gr.skip(), chips, gr.skip()
        except (Refused, InvalidSetting) as error:
            return gr.skip(), notice(request_language(request), error), gr.skip(), gr.skip(), gr.skip()
        draft_id = read_draft(draft)[0]
        if is_answer or not draft_id:
            return "", _NO_NOTICE, gr.update(visible=False), gr.skip(), ""
        self._files.drafts.bring_back(conversation.owner, draft_id, is_sent=True)
        chips = self._files.chips(request_language(request), conversation.owner, draft_id)
        return "", _NO_NOTICE, gr.update(visible=False), chips, ""

    def asking(self, key: str) -> Callable[..., tuple[str, Any]]:
        """A handler that asks the question with this key, in the page's language."""

        def ask_starter(request: gr.Request, view: View | None, *settings: Any) -> tuple[str, Any]:
            _box, said, undo, *_rest = self.ask(request, say(request_language(request), key), "", "", view, *settings)
            return said, undo

        return ask_starter

    def stop(self, view: View | None) -> None:
        """Ends the answer with what it has. Pressing it twice, too late or too early does nothing."""
        conversation = self._conversation(view)
        if conversation is not None:
            self._answers.stop(conversation.id)

    def act(
        self,
        request: gr.Request,
        action: Any,
        message_id: Any,
        draft: Any,
        text: Any,
        view: View | None,
        *settings: Any,
    ) -> tuple[Any, Any, Any, str, Any, Any, Any]:
        """Does what a button of a message says.

        Returns what `attach` does, the box and its files, and whose settings the panel shows; nothing but a notice if
        it cannot be done.
        """
        nothing = gr.skip()
        try:
            conversation = self._to_be_asked_in(view, request)
            message_id = message_id if is_id(message_id) else ""
            self._keep(conversation, settings)
            if action == "branch":
                copied = self._conversations.branch(conversation, message_id)
                shown = str(next(iter(settings), ""))
                is_shown = conversation.id in shown
                filled_for = shown.replace(conversation.id, copied.id) if is_shown else nothing  # has the same settings
                return *self._entered(copied, request), _NO_NOTICE, nothing, nothing, filled_for
            if action == "take-back":
                question, files = self._take_back(conversation, clean(text), draft, request)
                undo = gr.update(visible=conversation.can_bring_back)
                told = self._files.told(request_language(request), conversation.owner, read_draft(draft)[0])
                return nothing, nothing, undo, told or _NO_NOTICE, question, files, nothing
            if action == "again":
                self._answers.regenerate(conversation, message_id)
            elif action == "continue":
                self._answers.resume(conversation, message_id)
            elif action in _REDO:
                self._answers.redo(conversation, message_id, **self._changes(conversation, action))
            elif action == "keep":
                conversation.accept(message_id)
                self._conversations.save(conversation)
            elif action == "choose":
                self._check_idle(conversation)
                conversation.choose(message_id)
        except (Refused, InvalidSetting) as error:
            return nothing, nothing, nothing, notice(request_language(request), error), nothing, nothing, nothing
        if self._answers.running(conversation.id) is not None:
            self._take_out_of_trash(conversation)
        undo = gr.update(visible=conversation.can_bring_back)
        return nothing, nothing, undo, _NO_NOTICE, nothing, nothing, nothing

    # Looking

    def clear(self, view: View | None) -> tuple[Any, str]:
        """Puts the conversation away; returns the bar that offers undo, and no notice."""
        conversation = self._conversation(view)
        if conversation is None:
            return gr.skip(), _NO_NOTICE
        self._answers.stop(conversation.id)
        conversation.put_away()
        return gr.update(visible=conversation.can_bring_back), _NO_NOTICE

    def undo_clear(self, view: View | None) -> Any:
        """Brings back what `clear` put away; returns the bar, hidden."""
        conversation = self._conversation(view)
        if conversation is not None:
            conversation.bring_back()
        return gr.update(visible=False)

    def show_earlier(self, request: gr.Request) -> None:
        """Shows one page of older messages more."""
        self._tabs.show_more(tab_of(request))

    def copy(self, message_id: Any, view: View | None) -> str:
        """The message as it was written; empty if there is none."""
        conversation = self._conversation(view)
        message = conversation.find(str(message_id)) if conversation is not None else None
        return message.text if message is not None else ""

    def turn(self, message_id: Any, view: View | None, request: gr.Request) -> None:
        """Shows an answer as it was written in this tab, or rendered again."""
        conversation = self._conversation(view)
        if conversation is not None and conversation.find(str(message_id)) is not None:
            self._tabs.turn(tab_of(request), message_id)

    def keep_settings(self, request: gr.Request, view: View | None, *settings: Any) -> str:
        """Remembers the side panel for the conversation's next answers; returns the notice."""
        try:
            self._keep(self._checked(view), settings)
        except (Refused, InvalidSetting) as error:
            return notice(request_language(request), error)
        return _NO_NOTICE

    def reset_settings(self, view: View | None) -> tuple[Any, ...]:
        """Takes the model's defaults again; returns the settings of the side panel."""
        conversation, chat_model = self._conversation(view), self._load.chat_model
        if conversation is None or chat_model is None:
            return tuple(gr.skip() for _ in range(NUM_SETTINGS + 1))
        conversation.settings = Settings()
        return settings_view(chat_model, conversation)

    def _entered(self, conversation: Conversation, request: gr.Request) -> tuple[View, str, Any]:
        """The tab shows this conversation from now on: its view, the id for the browser, and the undo bar."""
        self._tabs.enter(tab_of(request), conversation.owner, conversation.id)
        view = View(conversation.owner, conversation.id)
        return view, conversation.id, gr.update(visible=conversation.can_bring_back)

    def _find_or_create(self, owner: str, conversation_id: Any, tab: str) -> Conversation:
        if is_id(conversation_id):
            # A page that is slow to be answered asks again with the id it has lost; then it shows another one already.
            for each in (conversation_id, self._tabs.shown_in(tab)):
                known = self._conversations.find(owner, each)
                if known is not None and known.record.deleted is None:
                    return known
        latest = self._conversations.latest(owner)
        is_taken = latest is None or self._tabs.is_shown_elsewhere(tab, latest.id)
        if latest is None or is_taken or (conversation_id and not latest.is_empty):
            return self._conversations.create(owner)
        return latest

    def _take_back(self, conversation: Conversation, text: str, draft: Any, request: gr.Request) -> tuple[Any, Any]:
        """Puts the last turn away; returns its question for the box and its files for below it, each before those which
        wait there.
        """
        self._check_idle(conversation)
        question = next((one for one in reversed(conversation.path()) if one.role == "user"), None)
        if question is None:
            return gr.skip(), gr.skip()
        conversation.put_away(question.parent_id)
        draft_id = read_draft(draft)[0]
        is_there = text.startswith(question.text)  # taken back before, and brought back
        asked = text if is_there else "\n\n".join(part for part in (question.text, text) if part.strip())
        if not draft_id:
            return asked, gr.skip()
        self._files.drafts.put_before(conversation.owner, draft_id, question.attachments)
        return asked, self._files.chips(request_language(request), conversation.owner, draft_id)

    def _check_window(self, conversation: Conversation, question: StoredMessage, edited_id: Any) -> None:
        """Refuses a question that its files make too long for the model; without files the answer says so."""
        chat_model = self._load.chat_model
        if chat_model is None or not question.attachments:
            return
        try:
            question_cost(chat_model, conversation, conversation.settings, question, edited_id)
        except ContextLengthExceeded as error:
            largest = max(question.attachments, key=lambda one: len(one.text))
            room = max(0, error.context_length - error.max_new_tokens)
            raise FileRefused("window", largest.name, found=f"{error.prompt_tokens:,}", limit=f"{room:,}") from None

    def _changes(self, conversation: Conversation, action: str) -> dict[str, float]:
        """What is changed of the sampling so that an answer does not loop again."""
        chat_model = self._load.chat_model
        if action == "redo" or chat_model is None:
            return {}
        now = chat_model.default_sampling.changed(**conversation.settings.sampling)
        if action == "penalty":
            return {"repetition_penalty": min(now.repetition_penalty + 0.15, 1.5)}
        return {"temperature": min(max(now.temperature, 0.5) + 0.4, 1.5)}

    def _check_idle(self, conversation: Conversation) -> None:
        if self._answers.running(conversation.id) is not None:
            raise Refused("still_answering")

    def _shown(self, view: View | None, tab: str) -> View | None:
        """The view as it is now: the tab may have turned to another conversation since it was asked for."""
        shown = self._tabs.shown_in(tab)
        return View(view.owner, shown) if view is not None and shown else view

    def _conversation(self, view: View | None) -> Conversation | None:
        return shown_conversation(self._conversations, view)

    def _to_be_asked_in(self, view: View | None, request: gr.Request) -> Conversation:
        """The conversation that the tab shows, whoever the guest is that asks in it."""
        conversation = self._checked(view)
        self._allowance.know(conversation.owner, guest_in(request))
        return conversation

    def _take_out_of_trash(self, conversation: Conversation) -> None:
        """Another tab may have put it there; who goes on in it wants to keep it."""
        if conversation.record.deleted is not None:
            self._conversations.restore(conversation)

    def _checked(self, view: View | None) -> Conversation:
        return checked_conversation(self._conversations, view)

    def _keep(self, conversation: Conversation, settings: tuple[Any, ...]) -> None:
        chat_model = self._load.chat_model
        if chat_model is not None:
            kept = read_settings(settings, chat_model, conversation.id)
            if kept is not None:
                conversation.settings = kept
