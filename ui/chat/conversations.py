"""All conversations of this process, in memory, each reachable by its owner alone.

What comes in is an owner's id and a conversation's id; what goes out is the conversation, or nothing when it is
missing or another owner's: the two cannot be told apart. When room is short the conversations that were looked at
longest ago go first, never one that is open. It does not know who looks: `is_open` tells it.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from ui.chat.conversation import Conversation
from ui.chat.refusal import Refused


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How much is kept in memory; the text of a message counts in bytes of UTF-8."""

    max_conversations: int = 2_000
    max_conversations_per_owner: int = 100
    max_bytes: int = 256 * 2**20
    max_bytes_per_owner: int = 32 * 2**20
    max_conversation_bytes: int = 8 * 2**20
    max_message_bytes: int = 64 * 2**10


class Conversations:
    """The store. All methods may be called from any thread.

    Args:
        is_open: whether a conversation, by id, is on somebody's screen or being answered.
        limits: what may be kept.
    """

    def __init__(self, is_open: Callable[[str], bool], limits: StoreLimits | None = None) -> None:
        self.limits = limits or StoreLimits()
        self._is_open = is_open
        self._lock = threading.Lock()
        self._by_id: dict[str, Conversation] = {}  # in the order of their last use

    def create(self, owner: str) -> Conversation:
        """A new, empty conversation.

        Raises:
            Refused: the owner, or everybody together, has too many open ones.
        """
        conversation = Conversation(owner)
        with self._lock:
            self._by_id[conversation.id] = conversation
            if not self._make_room(owner, keep=conversation.id):
                del self._by_id[conversation.id]
                raise Refused("too_many", self.limits.max_conversations_per_owner)
        return conversation

    def find(self, owner: str, conversation_id: str) -> Conversation | None:
        """The owner's conversation; None if there is no such one or it is another owner's."""
        with self._lock:
            conversation = self._by_id.get(conversation_id)
            if conversation is None or conversation.owner != owner:
                return None
            self._by_id[conversation_id] = self._by_id.pop(conversation_id)
            return conversation

    def latest(self, owner: str) -> Conversation | None:
        """The conversation that the owner used last."""
        with self._lock:
            return next((one for one in reversed(self._by_id.values()) if one.owner == owner), None)

    def check_question(self, conversation: Conversation, text: str) -> None:
        """Refuses a question that is empty or for which there is no room; makes room where others can go.

        Raises:
            Refused: with the limit that was met.
        """
        if not text.strip():
            raise Refused("empty")
        if len(text.encode("utf-8", "surrogatepass")) > self.limits.max_message_bytes:
            raise Refused("too_long", self.limits.max_message_bytes)
        if conversation.num_bytes > self.limits.max_conversation_bytes:
            raise Refused("conversation_full", self.limits.max_conversation_bytes)
        with self._lock:
            if not self._make_room(conversation.owner, keep=conversation.id):
                raise Refused("conversation_full", self.limits.max_bytes_per_owner)

    def _make_room(self, owner: str, keep: str) -> bool:
        """Drops what is over the owner's and everybody's share, oldest first; False if that was not enough."""
        own = [one for one in self._by_id.values() if one.owner == owner]
        fits = self._drop_oldest(own, self.limits.max_conversations_per_owner, self.limits.max_bytes_per_owner, keep)
        everyone = list(self._by_id.values())
        return self._drop_oldest(everyone, self.limits.max_conversations, self.limits.max_bytes, keep) and fits

    def _drop_oldest(self, conversations: list[Conversation], max_number: int, max_bytes: int, keep: str) -> bool:
        number, num_bytes = len(conversations), sum(one.num_bytes for one in conversations)
        for one in conversations:
            if number <= max_number and num_bytes <= max_bytes:
                break
            if one.id == keep or self._is_open(one.id):
                continue
            del self._by_id[one.id]
            number, num_bytes = number - 1, num_bytes - one.num_bytes
        return number <= max_number and num_bytes <= max_bytes
