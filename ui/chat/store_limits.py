"""How much the history may hold."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How much is kept; the text of a message counts in bytes of UTF-8.

    Attributes:
        keeps_days: days after which a conversation that was not used is deleted; None keeps it.
        trash_days: days after which a conversation in the trash is deleted for good.
        drops_oldest: whether the oldest conversations make room for new ones; otherwise the user is told.
    """

    max_conversations_per_owner: int = 20_000
    max_bytes: int = 8 * 2**30
    max_bytes_per_owner: int = 2 * 2**30
    max_conversation_bytes: int = 8 * 2**20
    max_message_bytes: int = 64 * 2**10
    keeps_days: float | None = None
    trash_days: float = 30.0
    drops_oldest: bool = False


IN_MEMORY_LIMITS = StoreLimits(
    max_conversations_per_owner=100, max_bytes=256 * 2**20, max_bytes_per_owner=32 * 2**20, drops_oldest=True
)
