"""One stored message: an immutable value in a tree of messages.

A message knows its parent by id and nothing of its siblings, of prompts or of screens. An answer that is being
written is replaced by newer values of itself under the same id; every other message never changes.
"""

import time
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from model_loader.events import FinishReason, Usage
from ui.chat.attachment import Attachment, framed
from ui.chat.receipt import Receipt

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
        attachments: the files that came with a question.
        state: "streaming" while it is written; "stopped" by the user, "interrupted" because nobody was there any
            more, "failed" because of `error`.
        reasoning: what the model thought before it answered.
        reasoning_s: how long it thought, in seconds; None while it still does or if it did not.
        error: why it failed, as a sentence for the user; empty if the fault is ours and only `fault_id` is known.
        error_class: name of the error's class in `model_loader.errors`; "" if there is none.
        fault_id: names the entry in the program's log that says more; None unless the fault is ours.
        left_out: how many of the oldest messages the model did not get to read, for want of room.
        reads_from: id of the oldest message that the model did read; None when it read them all.
        loops_at: from which character on it only repeats what stands before; 0 while it does not.
        loops_in_reasoning: whether that is its reasoning rather than its text.
        drifted_from: the language that it was to be in and has left; "" while it has not.
        drifted_at: at which character that was.
        is_edited: whether a user wrote or changed this answer.
        receipt: how the answer was made; None of what a user wrote.
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
    error_class: str = ""
    fault_id: str | None = None
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    left_out: int = 0
    reads_from: str | None = None
    loops_at: int = 0
    loops_in_reasoning: bool = False
    drifted_from: str = ""
    drifted_at: int = 0
    is_edited: bool = False
    receipt: Receipt | None = None
    created: float = field(default_factory=time.time)
    attachments: tuple[Attachment, ...] = ()

    @property
    def content(self) -> str:
        """What a model reads of it: the files in their frames, then the text."""
        return framed(self.attachments, self.text)

    @property
    def num_bytes(self) -> int:
        """What its texts take, in bytes of UTF-8; surrogates count as three."""
        texts = [self.text, self.reasoning, self.error]
        texts += [text for one in self.attachments for text in (one.name, one.text)]
        return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)

    @property
    def is_unfinished(self) -> bool:
        """Whether it is an answer that ended before the model had ended it, so that it can go on."""
        was_cut = self.state in ("stopped", "interrupted") or self.finish_reason == "length"
        return self.role == "assistant" and was_cut and bool(self.text or self.reasoning)

    def facts(self) -> dict[str, Any]:
        """All but ids, role, state, texts, files and time, as JSON can hold it; what says nothing is left out."""
        facts = {name: getattr(self, name) for name in _FACTS}
        if self.usage is not None:
            facts["usage"] = asdict(self.usage)
        if self.receipt is not None:
            facts["receipt"] = asdict(self.receipt)
        return {name: value for name, value in facts.items() if value}


_FACTS = (
    "reasoning_s",
    "error",
    "error_class",
    "fault_id",
    "usage",
    "finish_reason",
    "left_out",
    "reads_from",
    "loops_at",
    "loops_in_reasoning",
    "drifted_from",
    "drifted_at",
    "is_edited",
    "receipt",
)


def read_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """The arguments for `StoredMessage` that `facts` gave; names that are not known are left out."""
    known = {name: value for name, value in facts.items() if name in _FACTS}
    if known.get("usage"):
        known["usage"] = Usage(**known["usage"])
    if known.get("receipt"):
        known["receipt"] = Receipt.read(known["receipt"])
    return known
