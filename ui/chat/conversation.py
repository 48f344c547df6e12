"""One conversation: a tree of messages, the branch that is shown, and the settings its answers are made with.

Questions and answers are added, answers grow, and the head moves; nothing is ever deleted. `regenerate` adds a
sibling, `clear` moves the head to nowhere and remembers where it was. All methods may be called from any thread.
It knows neither models nor screens.
"""

import threading
from dataclasses import dataclass, field, replace
from typing import Any

from ui.chat.message import StoredMessage, new_id


@dataclass(frozen=True, slots=True)
class Settings:
    """How the answers of one conversation are made.

    Attributes:
        system: the system prompt; None takes the model's own.
        sampling: sampling settings that differ from the model's defaults, by the names of `Sampling`.
    """

    system: str | None = None
    sampling: dict[str, Any] = field(default_factory=dict)


class Conversation:
    """A tree of messages with one branch shown: the path from a root to the head.

    Attributes:
        id: 32 hexadecimal digits.
        owner: whose it is; compared by `Conversations`, never shown.
    """

    def __init__(self, owner: str) -> None:
        self.id = new_id()
        self.owner = owner
        self._lock = threading.Lock()
        self._messages: dict[str, StoredMessage] = {}
        self._growing: dict[str, tuple[list[str], list[str]]] = {}
        self._head: str | None = None
        self._cleared_head: str | None = None
        self._settings = Settings()
        self._num_bytes = 0
        self._version = 0

    @property
    def version(self) -> int:
        """A number that grows with every change, so that a viewer knows when to look again."""
        return self._version

    @property
    def num_bytes(self) -> int:
        """What its texts take in memory, in bytes of UTF-8."""
        return self._num_bytes

    @property
    def settings(self) -> Settings:
        """The settings of the next answer; setting them leaves a running answer as it is."""
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        with self._lock:
            self._settings = settings

    def path(self) -> tuple[StoredMessage, ...]:
        """The messages on screen, oldest first, each as far as it is written."""
        with self._lock:
            return self._path_to(self._head)

    def path_to(self, message_id: str) -> tuple[StoredMessage, ...]:
        """The messages from the root to this one, this one included; empty if it is not here."""
        with self._lock:
            return self._path_to(message_id if message_id in self._messages else None)

    def find(self, message_id: str) -> StoredMessage | None:
        """The message as far as it is written, on whatever branch it is."""
        with self._lock:
            return self._current(message_id) if message_id in self._messages else None

    def siblings(self, message_id: str) -> tuple[str, ...]:
        """Ids of all messages with the same parent and role, this one included, oldest first."""
        with self._lock:
            chosen = self._messages[message_id]
            return tuple(
                message.id
                for message in self._messages.values()
                if message.parent_id == chosen.parent_id and message.role == chosen.role
            )

    def add_user(self, text: str) -> StoredMessage:
        """Puts a question after the head and makes it the head; what was cleared can no longer be brought back."""
        with self._lock:
            message = StoredMessage("user", text, parent_id=self._head)
            self._cleared_head = None
            self._add(message)
            return message

    def start_answer(self, question_id: str) -> StoredMessage:
        """Puts an empty streaming answer under the question and makes it the head."""
        with self._lock:
            message = StoredMessage("assistant", parent_id=self._messages[question_id].id, state="streaming")
            self._growing[message.id] = ([], [])
            self._add(message)
            return message

    def grow(self, message_id: str, text: str = "", reasoning: str = "") -> None:
        """Appends to an answer that is being written; does nothing once it has ended."""
        with self._lock:
            parts = self._growing.get(message_id)
            if parts is None:
                return
            parts[0].append(text)
            parts[1].append(reasoning)
            self._num_bytes += len(text.encode("utf-8", "surrogatepass")) + len(reasoning.encode("utf-8", "replace"))
            self._version += 1

    def amend(self, message_id: str, **facts: Any) -> None:
        """Replaces facts of an answer that is being written; a new `state` ends it. Does nothing once it has ended."""
        with self._lock:
            if message_id not in self._growing:
                return
            message = replace(self._current(message_id), **facts)
            self._messages[message_id] = message
            if message.state != "streaming":
                del self._growing[message_id]
            self._version += 1

    def choose(self, message_id: str) -> bool:
        """Shows the branch that goes through this message, down to its newest end; False if it is not here."""
        with self._lock:
            if message_id not in self._messages:
                return False
            newest_child = {message.parent_id: message.id for message in self._messages.values()}
            while message_id in newest_child:
                message_id = newest_child[message_id]
            self._head = message_id
            self._version += 1
            return True

    def clear(self) -> None:
        """Starts an empty branch; `undo_clear` brings the old one back until a question is asked."""
        with self._lock:
            if self._head is not None:
                self._cleared_head, self._head = self._head, None
                self._version += 1

    def undo_clear(self) -> None:
        """Shows again what `clear` put away; does nothing if nothing was."""
        with self._lock:
            if self._cleared_head is not None:
                self._head, self._cleared_head = self._cleared_head, None
                self._version += 1

    @property
    def can_undo_clear(self) -> bool:
        """Whether `undo_clear` would bring something back."""
        return self._cleared_head is not None

    def _add(self, message: StoredMessage) -> None:
        self._messages[message.id] = message
        self._head = message.id
        self._num_bytes += message.num_bytes
        self._version += 1

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
