"""The page's second mode, for base checkpoints: a text that the model continues in place.

The text belongs to the browser's box; the server keeps what runs in a tab and nothing else. Whether the mode is
offered is decided by the brand line, which says what kind of model there is (see `panel`).
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import gradio as gr

from model_loader.errors import InvalidSetting
from ui.chat.allowance import Allowance
from ui.chat.answer import ModelSource
from ui.chat.continuation import Continuation
from ui.chat.refusal import Refused
from ui.chat.settings import Settings
from ui.web.access import clean, guest_in, notice
from ui.web.error_strings import failure_text
from ui.web.fragments import Fragment, fill
from ui.web.panel import read_settings
from ui.web.strings import Language, say
from ui.web.wiring import I18N, LIGHT, STREAM, request_language, tab_of

_LOOK_S = 0.1
_MAX_RUNNING = 500
_MAX_UNDO = 50
_MAX_UNDO_CHARS = 1_000_000


class CompletionHandlers:
    """What a click in this mode does. All methods may be called from any thread."""

    def __init__(
        self,
        load: ModelSource,
        allowance: Allowance | None = None,
        is_listening: Callable[[str], bool] = lambda tab: True,
    ) -> None:
        self._load = load
        self._allowance = allowance or Allowance()
        self._is_listening = is_listening
        self._lock = threading.Lock()
        self._running: dict[str, Continuation] = {}

    def begin(self, request: gr.Request, text: Any, earlier: Any, *settings: Any) -> tuple[list[str], str]:
        """Starts to continue the text; returns the texts that undo goes back to, and the line below."""
        language, earlier = request_language(request), earlier if isinstance(earlier, list) else []
        chat_model = self._load.chat_model
        text = clean(text)
        if chat_model is None or not text:
            return earlier, ""
        try:
            self._allowance.know(tab_of(request), guest_in(request))
            with self._lock:
                writing = [tab for tab, one in self._running.items() if not one.has_ended]
            self._allowance.check(guest_in(request), writing)
            kept = read_settings(settings, chat_model) or Settings()
            sampling = chat_model.default_sampling.changed(**kept.sampling)
        except (Refused, InvalidSetting) as error:
            return earlier, notice(language, error)
        tab = tab_of(request)
        continuation = Continuation(chat_model, text, sampling, kept.stop, lambda: self._is_listening(tab))
        with self._lock:
            if not self._may_start(tab):
                return earlier, fill("failure", text=say(language, "refused_still_answering", limit=""))
            self._running[tab] = continuation
        continuation.start()
        return _undoable([*earlier, text]), fill("live", text=say(language, "writing"))

    async def follow(self, request: gr.Request) -> AsyncIterator[str]:
        """The text of this tab, again and again until it has ended."""
        continuation = self._running.get(tab_of(request))
        while continuation is not None:
            has_ended = continuation.has_ended  # before the text, so that the last state is shown
            yield continuation.text
            if has_ended:
                return
            await asyncio.sleep(_LOOK_S)

    def end(self, request: gr.Request) -> str:
        """The line below once it has ended: what it cost, or why it failed."""
        with self._lock:
            continuation = self._running.pop(tab_of(request), None)
        self._settle(tab_of(request), continuation)
        return "" if continuation is None else _facts(request_language(request), continuation)

    def stop(self, request: gr.Request) -> None:
        """Ends what runs in this tab. Pressing it twice, too late or too early does nothing."""
        continuation = self._running.get(tab_of(request))
        if continuation is not None:
            continuation.stop()

    def undo(self, request: gr.Request, earlier: Any) -> tuple[Any, list[str]]:
        """Goes back to the text before the last continuation; returns it and what is left to go back to."""
        self.stop(request)
        if not isinstance(earlier, list) or not earlier:
            return gr.skip(), []
        return earlier[-1], earlier[:-1]

    def leave(self, request: gr.Request) -> None:
        """The tab was closed: nobody can see how its text goes on."""
        self.stop(request)
        with self._lock:
            continuation = self._running.pop(tab_of(request), None)
        self._settle(tab_of(request), continuation)

    def _settle(self, tab: str, continuation: Continuation | None) -> None:
        if continuation is not None:
            self._allowance.spend(self._allowance.guest_of(tab), continuation.num_tokens)

    def _may_start(self, tab: str) -> bool:
        ended = [one for one, continuation in self._running.items() if continuation.has_ended]
        for one in ended:
            self._settle(one, self._running.pop(one))
        return tab not in self._running and len(self._running) < _MAX_RUNNING


def lay_out_completion() -> dict[str, Any]:
    """The box and its buttons; hidden by the style until the mode is chosen."""
    with gr.Column(elem_id="completion"):
        draft = gr.Textbox(
            lines=12,
            max_lines=12,
            label=I18N("draft"),
            placeholder=I18N("draft_placeholder"),
            show_label=False,
            container=False,
            elem_id="draft",
        )
        with gr.Row(elem_id="completion-bar"):
            facts = gr.Markdown("", elem_id="completion-facts")
            undo = gr.Button(I18N("undo"), elem_id="undo-draft", size="sm")
            stop = gr.Button(I18N("stop"), elem_id="stop-draft", size="sm")
            go_on = gr.Button(I18N("continue"), variant="primary", elem_id="continue", size="sm")
    return {"draft": draft, "facts": facts, "undo": undo, "stop": stop, "go_on": go_on}


def wire_completion(page: gr.Blocks, parts: dict[str, Any], settings: list[Any], handlers: CompletionHandlers) -> None:
    """Which click calls which handler; `parts` are those of `lay_out_completion`, `settings` the side panel's."""
    earlier = gr.State([])
    begun = parts["go_on"].click(
        handlers.begin, [parts["draft"], earlier, *settings], [earlier, parts["facts"]], **LIGHT
    )
    begun.then(handlers.follow, None, parts["draft"], **STREAM).then(handlers.end, None, parts["facts"], **LIGHT)
    parts["stop"].click(handlers.stop, None, None, **LIGHT)
    parts["undo"].click(handlers.undo, earlier, [parts["draft"], earlier], **LIGHT)
    page.unload(handlers.leave)


def _undoable(texts: list[str]) -> list[str]:
    """The last of these texts, no more than one may go back to and than a session may hold."""
    kept = texts[-_MAX_UNDO:]
    while len(kept) > 1 and sum(map(len, kept)) > _MAX_UNDO_CHARS:
        del kept[0]
    return kept


def _facts(language: Language, continuation: Continuation) -> Fragment | str:
    if continuation.error or continuation.fault_id:
        return fill("failure", text=failure_text(language, continuation))
    usage = continuation.usage
    if usage is None:
        return fill("fact", text=say(language, "stopped"))
    facts = [say(language, "tokens", tokens=f"{usage.completion_tokens:,}")]
    if usage.tokens_per_s is not None:
        facts.append(say(language, "speed", speed=f"{usage.tokens_per_s:.1f}"))
    if continuation.finish_reason == "length":
        facts.append(say(language, "cut"))
    return fill("fact", text=" · ".join(facts))
