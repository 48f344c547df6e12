"""One conversation: a tree of messages, the branch that is shown, and the settings its answers are made with.

Questions and answers are added, answers grow, and the head moves; nothing is ever deleted. Another answer, and a
question or an answer that was edited, is a sibling; `put_away` moves the head up and remembers where it was. It keeps
count of what has not been saved. All methods may be called from any thread. It knows neither models nor screens.
"""

import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ui.chat.attachment import Attachment
from ui.chat.message import StoredMessage, new_id
from ui.chat.settings import Settings as Settings

_MAX_TITLE_CHARS = 80
_MARKS = re.compile(r"\*\*|__|~~|`+")
"""Markdown's marks inside a line; a single star or underscore may be meant as itself."""

_UNMARKED: dict[str, Any] = {"loops_at": 0, "loops_in_reasoning": False, "drifted_from": "", "drifted_at": 0}
"""An answer that neither repeats itself nor has left its language."""


@dataclass(frozen=True, slots=True)
class ConversationRecord:
    """What a conversation is beside its messages.

    Attributes:
        title: "" until there is a question.
        used: when a question or an answer was last added, in Unix seconds; `created` likewise.
        deleted: when it was put into the trash; None while it is not there.
        head: the last message on screen; None on an empty branch.
        put_away_head: the head before `put_away`.
        num_bytes: what its texts take, in bytes of UTF-8.
        revision: how often it has been written to the disk.
    """

    id: str
    owner: str
    title: str = ""
    is_pinned: bool = False
    created: float = field(default_factory=time.time)
    used: float = field(default_factory=time.time)
    deleted: float | None = None
    head: str | None = None
    put_away_head: str | None = None
    settings: Settings = field(default_factory=Settings)
    num_bytes: int = 0
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Changes:
    """What has to be saved: a record, and messages that are new or have changed, parents before children."""

    version: int
    record: ConversationRecord
    messages: tuple[StoredMessage, ...]


class Conversation:
    """A tree of messages with one branch shown: the path from a root to the head.

    Args:
        owner: whose it is; compared by `Conversations`, never shown.
        record, messages: what was saved of it; None for a new one.
        on_change: called with it after every change, with its lock held.
    """

    def __init__(
        self,
        owner: str,
        record: ConversationRecord | None = None,
        messages: Iterable[StoredMessage] = (),
        on_change: Callable[["Conversation"], None] = lambda conversation: None,
    ) -> None:
        self._lock = threading.RLock()
        self._on_change = on_change
        self._is_kept = True
        self._record = record or ConversationRecord(new_id(), owner)
        self._version = self._record_version = self._saved_version = 0
        self._messages: dict[str, StoredMessage] = {}
        self._children: dict[str | None, list[str]] = {}
        self._depth: dict[str | None, int] = {None: 0}
        self._last_shown: dict[str | None, str] = {}  # which child the branch went through
        self._growing: dict[str, tuple[list[str], list[str]]] = {}
        self._unsaved: dict[str, int] = {}
        for message in messages:
            self._link(message)
        self._show(self._record.head)

    @property
    def id(self) -> str:
        """32 hexadecimal digits."""
        return self._record.id

    @property
    def owner(self) -> str:
        """Whose it is."""
        return self._record.owner

    @property
    def record(self) -> ConversationRecord:
        """What it is beside its messages."""
        return self._record

    @property
    def version(self) -> int:
        """A number that grows with every change, so that a viewer knows when to look again."""
        return self._version

    @property
    def num_bytes(self) -> int:
        """What its texts take in memory, in bytes of UTF-8."""
        return self._record.num_bytes

    @property
    def is_empty(self) -> bool:
        """Whether nothing has ever been said."""
        return not self._messages

    @property
    def settings(self) -> Settings:
        """The settings of the next answer; setting them leaves a running answer as it is."""
        return self._record.settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        if settings != self._record.settings:
            self.note(settings=settings)

    def note(self, **facts: Any) -> None:
        """Replaces facts of the record, such as its title."""
        with self._lock:
            self._record = replace(self._record, **facts)
            self._changed()
            self._record_version = self._version

    # Reading

    def path(self) -> tuple[StoredMessage, ...]:
        """The messages on screen, oldest first, each as far as it is written."""
        with self._lock:
            return self._path_to(self._record.head)

    def path_to(self, message_id: str) -> tuple[StoredMessage, ...]:
        """The messages from the root to this one, this one included; empty if it is not here."""
        with self._lock:
            return self._path_to(message_id if message_id in self._messages else None)

    def newest(self, max_messages: int) -> tuple[int, tuple[StoredMessage, ...]]:
        """The last messages on screen, beginning with a question, and how many stand before them.

        Costs the same for a long conversation as for a short one.
        """
        with self._lock:
            head = self._record.head
            shown: list[StoredMessage] = []
            while head is not None and (len(shown) < max_messages or not shown):
                shown.append(self._current(head))
                head = shown[-1].parent_id
            while head is not None and len(shown) > 1 and shown[-1].role != "user":
                shown.pop()
            before = self._depth[shown[-1].parent_id] if shown else 0
            return before, tuple(reversed(shown))

    def find(self, message_id: str) -> StoredMessage | None:
        """The message as far as it is written, on whatever branch it is."""
        with self._lock:
            return self._current(message_id) if message_id in self._messages else None

    def siblings(self, message_id: str) -> tuple[str, ...]:
        """Ids of all messages with the same parent and role, this one included, oldest first."""
        with self._lock:
            chosen = self._messages[message_id]
            together = self._children[chosen.parent_id]
            return tuple(one for one in together if self._messages[one].role == chosen.role)

    def tree(self) -> tuple[ConversationRecord, tuple[StoredMessage, ...]]:
        """The record, and the messages of all branches, parents before children, each as far as it is written."""
        with self._lock:
            return self._record, tuple(map(self._current, self._messages))

    @property
    def can_bring_back(self) -> bool:
        """Whether `bring_back` would show something."""
        return self._record.put_away_head is not None

    # Writing

    def add_user(self, text: str, attachments: Sequence[Attachment] = ()) -> StoredMessage:
        """Puts a question after the head and makes it the head; what was put away can no longer be brought back."""
        with self._lock:
            return self._add(StoredMessage("user", text, parent_id=self._record.head, attachments=tuple(attachments)))

    def edit(self, message_id: str, text: str, attachments: Sequence[Attachment] | None = None) -> StoredMessage:
        """Puts another wording beside a message and makes it the head; what follows the old one stays with it.

        Args:
            attachments: the files that the new one has; None keeps those of the old one.
        """
        with self._lock:
            old = self._current(message_id)
            files = old.attachments if attachments is None else tuple(attachments)
            is_answer = old.role == "assistant"
            return self._add(
                StoredMessage(old.role, text, parent_id=old.parent_id, is_edited=is_answer, attachments=files)
            )

    def start_answer(self, question_id: str, text: str = "", reasoning: str = "") -> StoredMessage:
        """Puts a streaming answer under the question, empty or begun, and makes it the head."""
        with self._lock:
            parent_id = self._messages[question_id].id
            message = self._add(StoredMessage("assistant", text, parent_id, state="streaming", reasoning=reasoning))
            self._growing[message.id] = ([], [])
            return message

    def resume_answer(self, message_id: str) -> StoredMessage:
        """Lets an answer that has ended grow again."""
        with self._lock:
            again: dict[str, Any] = {"error": "", "error_class": "", "fault_id": None, "finish_reason": None}
            message = replace(self._current(message_id), state="streaming", **again, **_UNMARKED)
            self._messages[message_id] = message
            self._growing[message_id] = ([], [])
            self._changed(message_id)
            return message

    def grow(self, message_id: str, text: str = "", reasoning: str = "") -> None:
        """Appends to an answer that is being written; does nothing once it has ended."""
        with self._lock:
            parts = self._growing.get(message_id)
            if parts is None:
                return
            parts[0].append(text)
            parts[1].append(reasoning)
            grown = len(text.encode("utf-8", "surrogatepass")) + len(reasoning.encode("utf-8", "surrogatepass"))
            self._record = replace(self._record, num_bytes=self._record.num_bytes + grown)
            self._changed(message_id)

    def amend(self, message_id: str, **facts: Any) -> None:
        """Replaces facts of an answer that is being written; a new `state` ends it. Does nothing once it has ended."""
        with self._lock:
            if message_id not in self._growing:
                return
            message = replace(self._current(message_id), **facts)
            self._messages[message_id] = message
            if message.state != "streaming":
                del self._growing[message_id]
                self._record = replace(self._record, used=time.time())
            self._changed(message_id)

    def accept(self, message_id: str) -> None:
        """Takes away the marks that an answer repeats itself or has left its language: it is kept as it is."""
        with self._lock:
            if message_id in self._messages and message_id not in self._growing:
                self._messages[message_id] = replace(self._messages[message_id], **_UNMARKED)
                self._changed(message_id)

    def choose(self, message_id: str) -> bool:
        """Shows the branch through this message, down to where it was left; False if it is not here."""
        with self._lock:
            if message_id not in self._messages:
                return False
            while message_id in self._children:
                message_id = self._last_shown.get(message_id) or self._children[message_id][-1]
            self._move(message_id, None)
            return True

    def put_away(self, head: str | None = None) -> None:
        """Shows the branch only up to a message, or nothing of it; `bring_back` undoes it until a question is asked."""
        with self._lock:
            if self._record.head is not None and self._record.head != head:
                self._move(head, self._record.head)

    def bring_back(self) -> None:
        """Shows again what `put_away` put away; does nothing if nothing was."""
        with self._lock:
            if self._record.put_away_head is not None:
                self._move(self._record.put_away_head, None)

    # Saving

    def unsaved(self) -> Changes | None:
        """What has changed since it was saved last; None if nothing has, or nothing was ever said in it."""
        with self._lock:
            is_saved = not self._unsaved and self._record_version <= self._saved_version
            if is_saved or self.is_empty or not self._is_kept:
                return None
            in_order = [one for one in self._messages if one in self._unsaved]
            return Changes(self._version, self._record, tuple(map(self._current, in_order)))

    def mark_saved(self, changes: Changes, revision: int) -> None:
        """These changes are on the disk, under this revision of the conversation."""
        with self._lock:
            self._unsaved = {one: version for one, version in self._unsaved.items() if version > changes.version}
            self._saved_version = changes.version
            self._record = replace(self._record, revision=revision)

    def renew(self, record: ConversationRecord, messages: Iterable[StoredMessage]) -> None:
        """Takes over what another process has saved; what is being written here stays as it is."""
        with self._lock:
            for message in messages:
                if message.id not in self._messages:
                    self._link(message)
                elif message.id not in self._growing and message.id not in self._unsaved:
                    self._messages[message.id] = message
            if self._growing or record.head not in {None, *self._messages}:
                record = replace(record, head=self._record.head)
            self._record = record
            self._show(record.head)
            self._version += 1

    def let_go(self) -> None:
        """It was deleted: whatever still happens to it is kept nowhere."""
        with self._lock:
            self._is_kept = False

    def _add(self, message: StoredMessage) -> StoredMessage:
        self._link(message)
        title = self._record.title or (title_of_question(message) if message.role == "user" else "")
        num_bytes = self._record.num_bytes + message.num_bytes
        self._record = replace(self._record, title=title, num_bytes=num_bytes, used=time.time())
        self._changed(message.id)
        self._move(message.id, None)
        return message

    def _link(self, message: StoredMessage) -> None:
        self._messages[message.id] = message
        self._children.setdefault(message.parent_id, []).append(message.id)
        self._depth[message.id] = self._depth[message.parent_id] + 1

    def _move(self, head: str | None, put_away_head: str | None) -> None:
        self._record = replace(self._record, head=head, put_away_head=put_away_head)
        self._show(head)
        self._changed()
        self._record_version = self._version

    def _show(self, head: str | None) -> None:
        while head is not None:
            parent_id = self._messages[head].parent_id
            if self._last_shown.get(parent_id) == head:
                break
            self._last_shown[parent_id] = head
            head = parent_id

    def _changed(self, message_id: str | None = None) -> None:
        self._version += 1
        if message_id is not None:
            self._unsaved[message_id] = self._version
        self._on_change(self)

    def _current(self, message_id: str) -> StoredMessage:
        """The message with everything that has grown since; joins the pieces once, so that reading stays cheap."""
        parts = self._growing.get(message_id)
        if parts is None or not (parts[0] or parts[1]):
            return self._messages[message_id]
        message = self._messages[message_id]
        text, reasoning = message.text + "".join(parts[0]), message.reasoning + "".join(parts[1])
        self._messages[message_id] = replace(message, text=text, reasoning=reasoning)
        self._growing[message_id] = ([], [])
        return self._messages[message_id]

    def _path_to(self, message_id: str | None) -> tuple[StoredMessage, ...]:
        path = []
        while message_id is not None:
            message = self._current(message_id)
            path.append(message)
            message_id = message.parent_id
        return tuple(reversed(path))


def title_of_question(question: StoredMessage) -> str:
    """What its words say, or the name of its first file."""
    return title_of(question.text) or next((one.name for one in question.attachments), "")


def title_of(text: str) -> str:
    """The first line of a text that says something, without Markdown's marks, cut after a whole word."""
    lines = (" ".join(_MARKS.sub("", line).strip("#>*-=~ \t").split()) for line in text.splitlines())
    line = next(filter(None, lines), "")
    if len(line) <= _MAX_TITLE_CHARS:
        return line
    cut = line[:_MAX_TITLE_CHARS]
    return (cut.rpartition(" ")[0] or cut) + "…"
