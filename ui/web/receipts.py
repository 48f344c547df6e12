"""The dialog that says how an answer was made, gives programs that ask for the same, and runs it again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import gradio as gr

from ui.chat.allowance import Allowance
from ui.chat.answer import ModelSource, as_prompt
from ui.chat.audience import Audience
from ui.chat.conversations import Conversations
from ui.chat.message import StoredMessage
from ui.chat.receipt import as_curl, as_python, request_body
from ui.chat.refusal import Refused
from ui.chat.reproduction import Reproduction
from ui.web.access import View, guest_in, is_id, refused_text, shown_conversation
from ui.web.error_strings import failure_text
from ui.web.fragments import Fragment, fill, join
from ui.web.strings import Language, say
from ui.web.wiring import request_language, tab_of

_LOOK_S = 0.2
_EXCERPT_CHARS = 24


class ReceiptHandlers:
    """Shows receipts, and runs an answer again for as long as its tab listens, and `linger_s` longer."""

    def __init__(
        self,
        load: ModelSource,
        conversations: Conversations,
        allowance: Allowance | None = None,
        is_listening: Callable[[str], bool] = lambda tab: True,
        linger_s: float = 0.0,
    ) -> None:
        self._load = load
        self._is_listening = is_listening
        self._linger_s = linger_s
        self._allowance = allowance or Allowance()
        self._conversations = conversations
        self._running: dict[str, tuple[str, Reproduction]] = {}  # by tab, with the answer's owner
        self._instead: dict[str, Fragment | str] = {}

    def show(self, request: gr.Request, message_id: Any, view: View | None) -> Fragment | str:
        """The dialog; "" if there is no such answer or no receipt of it. What runs for the tab's last one ends."""
        path, tab = self._path(message_id, view), tab_of(request)
        dialog = _dialog(request_language(request), path, _page_address(request)) if path else ""
        if self._running.pop(tab, None) is not None:
            self._instead[tab] = dialog
        return dialog

    async def reproduce(self, request: gr.Request, message_id: Any, view: View | None) -> AsyncIterator[Fragment | str]:
        """The dialog while the answer is made again, then with what came out."""
        language, path, url = request_language(request), self._path(message_id, view), _page_address(request)
        chat_model = self._load.chat_model
        if not path or chat_model is None:
            return
        answer, receipt = path[-1], path[-1].receipt
        assert receipt is not None
        if chat_model.name != receipt.checkpoint:
            yield _dialog(language, path, url, say(language, "other_model", name=chat_model.name), "other")
            return
        guest = guest_in(request)
        try:
            self._allowance.check(guest, [owner for owner, _run in self._running.values()])
        except Refused as refused:
            yield _dialog(language, path, url, refused_text(language, refused), "other")
            return
        tab = tab_of(request)
        audience = Audience(lambda: self._is_listening(tab), self._linger_s)
        run = Reproduction(chat_model, answer, as_prompt(receipt.system, path[:-1]), receipt, audience)
        run.start()
        assert view is not None
        running = self._running[tab] = (view.owner, run)
        try:
            while not run.has_ended and self._running.get(tab) is running:
                yield _dialog(language, path, url, say(language, "reproducing"), "running")
                await asyncio.sleep(_LOOK_S)
            if self._running.get(tab) is not running:
                yield self._instead.pop(tab, "")  # the page shows the last thing that it was given
                return
        finally:
            run.stop()
            self._instead.pop(tab, None)
            if self._running.get(tab) is running:
                del self._running[tab]
            self._allowance.spend(guest, run.num_tokens)
        yield _dialog(language, path, url, *_outcome(language, answer, run))

    def _path(self, message_id: Any, view: View | None) -> tuple[StoredMessage, ...]:
        conversation = shown_conversation(self._conversations, view)
        path = conversation.path_to(message_id) if conversation is not None and is_id(message_id) else ()
        return path if path and path[-1].receipt is not None else ()


def _outcome(language: Language, answer: StoredMessage, run: Reproduction) -> tuple[str, str]:
    if run.error or run.fault_id:
        return failure_text(language, run), "other"
    at = run.difference
    if at is None:
        return say(language, "identical", characters=f"{len(answer.text):,}"), "same"
    ours, theirs = (text[at : at + _EXCERPT_CHARS] or "∅" for text in (run.text, answer.text))
    return say(language, "differs", at=f"{at + 1:,}", ours=ours, theirs=theirs), "other"


def _dialog(
    language: Language, path: tuple[StoredMessage, ...], url: str, outcome: str = "", kind: str = "none"
) -> Fragment:
    answer, receipt = path[-1], path[-1].receipt
    assert receipt is not None
    body = request_body(receipt, as_prompt(receipt.system, path[:-1]))
    programs = [
        fill("receipt_program", label=say(language, "copy_curl"), copy=say(language, "copy"), code=as_curl(body, url)),
        fill(
            "receipt_program", label=say(language, "copy_python"), copy=say(language, "copy"), code=as_python(body, url)
        ),
    ]
    again = fill("receipt_again", id=answer.id, label=say(language, "reproduce"), kind=kind, outcome=outcome)
    return fill(
        "receipt",
        title=say(language, "receipt"),
        close=say(language, "close"),
        rows=join([fill("receipt_row", name=name, value=value) for name, value in _rows(language, path) if value]),
        again=again,
        programs=join(programs),
    )


def _rows(language: Language, path: tuple[StoredMessage, ...]) -> list[tuple[str, str]]:
    receipt = path[-1].receipt
    assert receipt is not None
    files = [f"{one.name} ({one.size})" for message in path for one in message.attachments]
    sampling = ", ".join(f"{name} {value:g}" for name, value in receipt.sampling.items() if name != "seed")
    return [
        (say(language, "checkpoint"), receipt.checkpoint),
        (say(language, "revision"), receipt.revision),
        (say(language, "format"), receipt.precision),
        (say(language, "template"), receipt.template_hash),
        (say(language, "seed"), str(receipt.sampling.get("seed", ""))),
        (say(language, "sampling"), sampling),
        (say(language, "stop_strings"), ", ".join(map(repr, receipt.stop))),
        (say(language, "prefill"), receipt.prefill),
        (say(language, "system"), receipt.system),
        (say(language, "attached_files"), ", ".join(files)),
    ]


def _page_address(request: gr.Request) -> str:
    """Where the browser has reached this page; the guard has checked the name."""
    scheme = request.request.url.scheme if request.request is not None else "http"
    return f"{scheme}://{request.headers.get('host', '127.0.0.1:8000')}"
