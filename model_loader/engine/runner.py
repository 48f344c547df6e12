"""What the engine needs of a way to compute sequences: begin one, feed it tokens, end it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from model_loader.engine.request import Request
from model_loader.engine.sampling import Sampler, sample
from model_loader.engine.slots import SlotPlan


@dataclass(frozen=True, slots=True)
class Feed:
    """New tokens of one sequence.

    Attributes:
        sequence: what `take` returned; its `ids` are the tokens that it has read.
        ids: the tokens, at least one.
        num_logits: for how many of them, counted from the last, logits are wanted.
    """

    sequence: Any
    ids: Sequence[int]
    num_logits: int


class Runner(Protocol):
    """What the engine needs of every way.

    Attributes:
        plan: how many sequences at once, with how many tokens.
        fewest_tokens: reading fewer tokens of a prompt takes no less time.
    """

    plan: SlotPlan
    fewest_tokens: int = 8

    def take(self, request: Request) -> Any:
        """Begins a sequence, with as much of its prompt as is known already; None while there is no room."""

    def has_room(self, request: Request) -> bool:
        """Whether `take` would begin it now."""

    def num_known(self, prompt_ids: Sequence[int], owner: str) -> int:
        """How many of a prompt's first tokens `take` would find read already. Any thread may ask; it is a guess."""

    def forward(self, feeds: Sequence[Feed]) -> list[torch.Tensor]:
        """Reads tokens into their sequences; returns the wanted logits of each, `(num_logits, vocab)`.

        After an exception a sequence has read what it had before, or nothing where that cannot be.
        """

    def sample(
        self, logits: Sequence[torch.Tensor], samplers: Sequence[Sampler], *, looks_ahead: bool
    ) -> list[int | Exception]:
        """Draws the next id of each, as `sampling.sample` says.

        Args:
            logits: each one's row of what `forward` returned, `(vocab,)`.
            samplers: their states.
            looks_ahead: whether the next step will read nothing but these ids, unless somebody ends or comes; then
                the logits may be overwritten.
        """
        return sample(torch.stack(list(logits)), samplers)

    def release(self, sequence: Any, *, is_kept: bool) -> None:
        """Ends a sequence."""

    def forget(self) -> bool:
        """Lets go of what is kept of ended sequences; says whether it is worth computing a failed step again."""

    def close(self) -> None:
        """Lets go of all memory and leaves the model as it was."""
