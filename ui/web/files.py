"""Files that are attached on the page: the one route that takes them in, and what the composer shows of them.

A file comes as the body of a request of its own, past the guard's limits, from a page that is open; its text goes into
the composer's draft and its bytes are gone. Everything else goes through hidden boxes like the rest of the page:
chips, why a file was refused, and the text of one for who wants to see it. `static/files.js` is the other half.
"""

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from model_loader.chat_format.messages import Message
from model_loader.chat_source import ChatSource
from model_loader.errors import ContextLengthExceeded, ModelLoaderError
from ui.chat.answer import ModelSource
from ui.chat.attachment import MAX_FILE_BYTES, Attachment, clean_name
from ui.chat.conversations import Conversations
from ui.chat.drafts import DraftFile, Drafts
from ui.chat.extraction import read_attachment
from ui.chat.message import StoredMessage
from ui.chat.refusal import FileRefused
from ui.guard import POST, AllowedRoute
from ui.web.access import View, file_text, is_id, owner_in_scope, shown_conversation
from ui.web.fragments import Fragment, fill, join
from ui.web.strings import Language, say
from ui.web.tabs import Tabs
from ui.web.wiring import I18N, LIGHT, request_language

FILE_ROUTE = AllowedRoute("/attach", POST, max_body_bytes=lambda: MAX_FILE_BYTES, is_upload=True)
_READ_AT_ONCE = 4
_MAX_COUNTS = 512
_SHOWN_CHARS = 60_000
"""Of a file's text in its window; more would only make the browser slow."""


class FileHandlers:
    """What the route and the composer's chips do. All methods may be called from any thread.

    Attributes:
        drafts: the files that have not been sent.
    """

    def __init__(self, load: ModelSource, conversations: Conversations, tabs: Tabs, drafts: Drafts) -> None:
        self.drafts = drafts
        self._load = load
        self._conversations = conversations
        self._tabs = tabs
        self._readers = ThreadPoolExecutor(_READ_AT_ONCE, "files")
        self._counts: OrderedDict[tuple[str, str], tuple[int, bool]] = OrderedDict()

    @property
    def route(self) -> Route:
        """The route as the application takes it."""
        return Route(FILE_ROUTE.path, self.receive, methods=["POST"])

    async def receive(self, request: Request) -> Response:
        """Takes in one file. Headers of our own say whose it is, so no form of another site can send one."""
        headers = request.headers
        owner = owner_in_scope(request.scope, headers.get("x-chat-owner"))
        draft_id, name = headers.get("x-chat-draft", ""), clean_name(unquote(headers.get("x-file-name", "")))
        if not is_id(draft_id) or not self._tabs.is_here(owner):
            return PlainTextResponse("No page of yours is open.", 403)
        data, size = await request.body(), headers.get("x-file-bytes", "")
        num_bytes = int(size) if size.isdecimal() and len(size) < 16 else len(data)
        work = asyncio.get_running_loop().run_in_executor(
            self._readers, self._take_in, owner, draft_id, name, data, num_bytes
        )
        refused = await work
        said = {"refused": refused and refused.reason, "files": len(self.drafts.files(owner, draft_id))}
        return JSONResponse(said)

    def _take_in(self, owner: str, draft_id: str, name: str, data: bytes, num_bytes: int) -> FileRefused | None:
        try:
            self.drafts.check_room(owner, draft_id, name)
            if num_bytes > MAX_FILE_BYTES:  # its bytes were not sent
                raise FileRefused("too_large", name, size=f"{num_bytes:,}", limit=f"{MAX_FILE_BYTES:,}")
            if num_bytes != len(data):
                raise FileRefused("lost", name)
            self.drafts.add(owner, draft_id, read_attachment(name, data))
        except FileRefused as refused:
            self.drafts.refuse(owner, draft_id, refused)
            return refused
        return None

    def close(self) -> None:
        """Reads no more files; one that is being read is waited for nowhere."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    def change(
        self, request: gr.Request, action: Any, target: Any, draft: Any, view: View | None
    ) -> tuple[Fragment | str, Any]:
        """Does something with the draft's files; returns the chips, and a notice if files were refused.

        Args:
            action: "remove" a file, "edit" or "cancel" what a question has, tell that some were "lost", or nothing.
            target: the file's id, the question's, or the names of those that were lost.
        """
        language, draft_id = request_language(request), read_draft(draft)[0]
        if not isinstance(view, View) or not draft_id:
            return "", gr.skip()
        if action == "remove":
            self.drafts.remove(view.owner, draft_id, str(target))
        elif action in ("edit", "cancel"):
            self._edit(view, draft_id, target, is_over=action == "cancel")
        elif action == "lost":
            for name in str(target).split("\n")[:10]:
                self.drafts.refuse(view.owner, draft_id, FileRefused("lost", clean_name(name)))
        return self.chips(language, view.owner, draft_id), self.told(language, view.owner, draft_id) or gr.skip()

    def told(self, language: Language, owner: str, draft_id: str) -> Fragment | str:
        """Why files are not in the draft, once, as a notice; "" if all are."""
        refusals = self.drafts.take_refusals(owner, draft_id)
        text = "\n".join(file_text(language, one) for one in refusals)
        return fill("notice", reason="file", text=text) if text else ""

    def open(self, request: gr.Request, target: Any, draft: Any, view: View | None) -> Fragment | str:
        """A window with a file's text: one of the draft by its id, or one of a message by the message's and its place.

        "" if there is none.
        """
        one = self._find(str(target), draft, view)
        if one is None:
            return ""
        language = request_language(request)
        about = [one.size, say(language, "file_characters", characters=f"{len(one.text):,}")]
        if len(one.text) > _SHOWN_CHARS:
            about.append(say(language, "file_cut", shown=f"{_SHOWN_CHARS:,}"))
        return fill(
            "file_sheet",
            name=one.name,
            about=" · ".join(about),
            close=say(language, "close"),
            text=one.text[:_SHOWN_CHARS],
        )

    def chips(self, language: Language, owner: str, draft_id: str) -> Fragment | str:
        """The draft's files for the composer; "" if there are none."""
        files = self.drafts.files(owner, draft_id)
        if not files:
            return ""
        chips = [self._chip(language, one) for one in files]
        return fill("files", label=say(language, "attached_files"), chips=join(chips))

    def _chip(self, language: Language, one: DraftFile) -> Fragment:
        attachment, chat_model = one.attachment, self._load.chat_model
        facts, state, opened = attachment.size, "well", say(language, "file_open", name=attachment.name)
        if chat_model is not None:
            tokens, is_estimate = self._count(chat_model, one)
            counted = say(language, "tokens", tokens=f"{'≈' * is_estimate}{tokens:,}")
            facts = f"{facts} · {counted}"
            if tokens > chat_model.context_length:
                state = "over"
        return fill(
            "file_chip",
            id=one.id,
            state=state,
            name=attachment.name,
            facts=facts,
            open=opened,
            remove=say(language, "file_remove", name=attachment.name),
        )

    def _count(self, chat_model: ChatSource, one: DraftFile) -> tuple[int, bool]:
        """How many tokens a file takes, and whether that is an estimate. Kept, because it takes a while."""
        key = (one.id, chat_model.name)
        if key not in self._counts:
            self._counts[key] = _count_tokens(chat_model, one.attachment.text)
            while len(self._counts) > _MAX_COUNTS:
                self._counts.popitem(last=False)
        return self._counts[key]

    def _edit(self, view: View, draft_id: str, message_id: Any, *, is_over: bool) -> None:
        """The files of a question while it is edited; an answer has none, and leaves those of the composer alone."""
        conversation = shown_conversation(self._conversations, view)
        message = conversation.find(message_id) if conversation is not None and is_id(message_id) else None
        if is_over or message is None or message.role != "user":
            self.drafts.bring_back(view.owner, draft_id)
        else:
            self.drafts.set_aside(view.owner, draft_id, message.attachments)

    def _find(self, target: str, draft: Any, view: View | None) -> Attachment | None:
        conversation = shown_conversation(self._conversations, view)
        if conversation is None or view is None:
            return None
        first, _space, place = target.partition(" ")
        if not place:
            files = self.drafts.files(view.owner, read_draft(draft)[0])
            return next((one.attachment for one in files if one.id == first), None)
        message = conversation.find(first)
        is_place = message is not None and place.isdecimal() and len(place) < 3
        return next(iter(message.attachments[int(place) :]), None) if message is not None and is_place else None


def read_draft(value: Any) -> tuple[str, int]:
    """The draft that a composer names, and how many files it shows; "" for anything else."""
    draft_id, _space, number = value.partition(" ") if isinstance(value, str) else ("", "", "")
    is_draft = is_id(draft_id) and number.isdecimal() and len(number) < 3
    return (draft_id, int(number)) if is_draft else ("", 0)


def drafted(drafts: Drafts, owner: str, draft: Any) -> tuple[Attachment, ...]:
    """The files that a composer shows.

    Raises:
        FileRefused: they are no longer those; what a user has not seen is not sent.
    """
    draft_id, number = read_draft(draft)
    attachments = drafts.attachments(owner, draft_id)
    if len(attachments) != number:
        raise FileRefused("lost", attachments[-1].name if attachments else "?")
    return attachments


def message_chips(language: Language, message: StoredMessage) -> list[Fragment]:
    """What a sent question shows of its files: a button for each, that opens its text."""
    if not message.attachments:
        return []
    chips = [
        fill(
            "file_sent",
            id=message.id,
            place=str(place),
            name=one.name,
            facts=one.size,
            open=say(language, "file_open", name=one.name),
        )
        for place, one in enumerate(message.attachments)
    ]
    return [fill("files", label=say(language, "attached_files"), chips=join(chips))]


def _count_tokens(chat_model: ChatSource, text: str) -> tuple[int, bool]:
    try:
        return len(chat_model.encode(text)), False
    except ModelLoaderError:  # a server elsewhere that does not tell
        pass
    try:
        cost = chat_model.measure([Message("user", text)], chat_model.default_sampling)
    except ContextLengthExceeded as error:
        return error.prompt_tokens, True
    return cost.tokens, cost.is_estimate


def lay_out_files() -> dict[str, Any]:
    """The hidden boxes and buttons, and the window with a file's text."""
    names = ("draft", "files_action", "files_target", "file_target")
    parts: dict[str, Any] = {name: gr.Textbox(visible="hidden", elem_id=f"box-{name}", label=name) for name in names}
    parts["sheet"] = gr.Markdown("", elem_id="file-sheet", latex_delimiters=[])
    parts |= {name: gr.Button(name, visible="hidden", elem_id=f"do-{name}") for name in ("files", "file")}
    return parts


def lay_out_attach() -> gr.Button:
    """The button in the composer."""
    return gr.Button(I18N("attach"), elem_id="attach")


def wire_files(
    parts: dict[str, Any], view: gr.State, chips: gr.Markdown, said: gr.Markdown, handlers: FileHandlers
) -> None:
    """Which click calls which handler; `parts` are those of `lay_out_files`."""
    parts["files"].click(
        handlers.change, [parts["files_action"], parts["files_target"], parts["draft"], view], [chips, said], **LIGHT
    )
    parts["file"].click(handlers.open, [parts["file_target"], parts["draft"], view], parts["sheet"], **LIGHT)
