"""What the user talks with, whatever kind of model it is: what commands can ask of it, and an answer on its way.

A chat model has a conversation (`chat_talk`), a base model a text (`text_talk`). Neither writes to a terminal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from model_loader.chat_source import ChatSource
from model_loader.events import FinishReason, Usage
from ui.chat.conversation import Settings
from ui.chat.message import MessageState


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ended; the attributes are those of `StoredMessage`."""

    state: MessageState
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    left_out: int = 0
    error: str = ""
    fault_id: str | None = None


class Running(Protocol):
    """An answer on its way."""

    @property
    def text(self) -> str:
        """The answer as far as it is written."""

    @property
    def reasoning(self) -> str:
        """What the model thought before, as far as it has."""

    @property
    def status(self) -> str:
        """What it is doing, in a few words; "" while that shows."""

    @property
    def ending(self) -> Ending:
        """How it ended, once it has."""

    def wait(self, timeout_s: float) -> bool:
        """Waits; whether nothing more will come."""

    def stop(self) -> None:
        """Ends it with what it has."""


class Talk(Protocol):
    """What commands can do with a model of either kind. Each raises `Refused` where it says so."""

    label: str
    """What stands before the user's entry."""
    is_markdown: bool
    """Whether what the model writes is laid out."""
    settings: Settings

    @property
    def chat_model(self) -> ChatSource:
        """The model."""

    def ask(self, text: str) -> Running:
        """Begins an answer."""

    def regenerate(self) -> Running:
        """Begins another answer to the last question, with another seed."""

    def undo(self) -> str:
        """Takes the last question and its answer back; returns the question."""

    def last_question(self) -> str:
        """What the user may want to change."""

    def revise(self, text: str) -> Running:
        """Begins the answer to another wording of the last question."""

    def clear(self) -> None:
        """Begins anew; what there was is kept where conversations are kept."""

    def turns(self) -> Sequence[tuple[str, str]]:
        """Who said what, oldest first, the user's and the model's names numbered."""

    def last_answer(self) -> str:
        """What the model wrote last; "" if nothing."""

    def cost(self) -> str:
        """How many tokens it takes, as a sentence."""

    def close(self, timeout_s: float) -> None:
        """Ends a running answer as interrupted."""


def moved_seed(settings: Settings, steps: int) -> Settings:
    """The same settings with a later seed; unchanged if every answer draws a fresh one."""
    seed = settings.sampling.get("seed")
    if seed is None:
        return settings
    return replace(settings, sampling={**settings.sampling, "seed": (seed + steps) % 2**63})
