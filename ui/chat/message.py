"""One stored message: an immutable value in a tree of messages.

A message knows its parent by id and nothing of its siblings, of prompts or of screens. An answer that is being
written is replaced by newer values of itself under the same id; every other message never changes.
"""

import time
import uuid
from dataclasses import dataclass, field
from typing import Literal

from model_loader.events import FinishReason, Usage

StoredRole = Literal["user", "assistant"]
MessageState = Literal["complete", "streaming", "stopped", "interrupted", "failed"]


def new_id() -> str:
    """A fresh random id of 32 hexadecimal digits."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """What one side said, and how it ended.

    Attributes:
        parent_id: the message it follows; None for the first one of a branch.
        role: who said it. System prompts belong to the conversation, not to a message.
        state: "streaming" while it is written; "stopped" by the user, "interrupted" because nobody was there any
            more, "failed" because of `error`.
        reasoning: what the model thought before it answered.
        reasoning_s: how long it thought, in seconds; None while it still does or if it did not.
        error: why it failed, as a sentence for the user; empty if the fault is ours and only `fault_id` is known.
        fault_id: names the entry in the program's log that says more; None unless the fault is ours.
        left_out: how many of the oldest messages the model did not get to read, for want of room.
        reads_from: id of the oldest message that the model did read; None when it read them all.
        created: Unix time in seconds.
    """

    role: StoredRole
    text: str = ""
    parent_id: str | None = None
    id: str = field(default_factory=new_id)
    state: MessageState = "complete"
    reasoning: str = ""
    reasoning_s: float | None = None
    error: str = ""
    fault_id: str | None = None
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    left_out: int = 0
    reads_from: str | None = None
    created: float = field(default_factory=time.time)

    @property
    def num_bytes(self) -> int:
        """What its texts take, in bytes of UTF-8; surrogates count as three."""
        return sum(len(text.encode("utf-8", "surrogatepass")) for text in (self.text, self.reasoning, self.error))
