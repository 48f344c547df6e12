"""Feeds token ids to a model and gives back logits: the two ways in which sequences can be computed.

`BatchRunner` computes many sequences in one forward pass, each in a slot of its own. `SnapshotRunner` is for
architectures whose state cannot be cut back to an earlier token (recurrent layers) or whose rotation depends on who
else is there: one sequence at a time, and a next turn can only go on from where an answer ended.
"""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import transformers

from model_loader.engine.attention import SLOTS_ATTENTION, Segment, Step
from model_loader.engine.request import Request
from model_loader.engine.slots import Slot, SlotPlan, Slots, common_length, plan_slots
from model_loader.loading.hardware import free_bytes
from model_loader.loading.load import LoadedModel

logger = logging.getLogger(__name__)

_STATIC_ROPE = frozenset({"default", "linear", "yarn", "llama3"})
"""Position embeddings that do not depend on how long the longest sequence of a pass is."""
_MAX_SNAPSHOTS = 4


@dataclass(frozen=True, slots=True)
class Feed:
    """New tokens of one sequence.

    Attributes:
        sequence: what `take` returned.
        ids: the tokens, at least one.
        num_logits: for how many of them, counted from the last, logits are wanted.
    """

    sequence: "Sequenced"
    ids: Sequence[int]
    num_logits: int


class Sequenced(Protocol):
    """A sequence that has been begun: `ids` are the tokens that the model has read."""

    ids: list[int]


class Runner(Protocol):
    """What the engine needs of either way."""

    plan: SlotPlan

    def take(self, request: Request) -> Any:
        """Begins a sequence, with as much of its prompt as is known already; None while there is no room."""

    def forward(self, feeds: Sequence[Feed]) -> list[torch.Tensor]:
        """Reads tokens into their sequences; returns the wanted logits of each, `(num_logits, vocab)`."""

    def release(self, sequence: Any, *, is_kept: bool) -> None:
        """Ends a sequence."""

    def close(self) -> None:
        """Lets go of all memory and leaves the model as it was."""


class BatchRunner:
    """Many sequences at once, for every architecture whose layers only look back through attention."""

    def __init__(self, loaded: LoadedModel, plan: SlotPlan) -> None:
        self.plan = plan
        self._loaded = loaded
        self._slots = Slots(plan.num_slots, plan.max_tokens)
        self._config = loaded.model.config
        self._previous_attention = self._config._attn_implementation
        self._config._attn_implementation = SLOTS_ATTENTION

    @staticmethod
    def supports(loaded: LoadedModel) -> bool:
        """Whether the model's layers are all of that kind."""
        config = loaded.model.config
        layer_types = set(getattr(config, "layer_types", None) or ("full_attention",))
        rope = getattr(config, "rope_parameters", None) or {}
        return (
            bool(loaded.model._supports_attention_backend)
            and layer_types <= {"full_attention", "sliding_attention"}
            and rope.get("rope_type", "default") in _STATIC_ROPE
        )

    def try_out(self) -> None:
        """Computes a few tokens; raises whatever an architecture raises that is built in another way."""
        slot = self._slots.take((), 2, "", 1.0)
        assert slot is not None
        try:
            self.forward([Feed(slot, (0, 0), 1)])
            if len(slot.layers) != self._config.num_hidden_layers:
                raise KeyError("some layers keep no keys and values of their own")
        finally:
            self._slots.release(slot, is_kept=False)

    def take(self, request: Request) -> Slot | None:
        """As `Runner` says."""
        prompt_ids = () if request.has_prompt_logprobs else request.prompt_ids
        alpha = self._loaded.rope_alpha(len(request.prompt_ids))
        return self._slots.take(prompt_ids, request.max_tokens, request.owner, alpha, request.num_shared_tokens)

    @torch.inference_mode()
    def forward(self, feeds: Sequence[Feed]) -> list[torch.Tensor]:
        """As `Runner` says."""
        device = self._loaded.input_device
        segments = [Segment(feed.sequence, len(feed.sequence.ids), len(feed.ids)) for feed in feeds]  # type: ignore[arg-type]
        positions = [each for part in segments for each in range(part.start, part.start + part.length)]
        position_ids = torch.tensor([positions], device=device)
        alphas = [part.slot.rope_alpha for part in segments for _ in range(part.length)]
        kept = [
            at + place
            for feed, at in zip(feeds, _starts(feeds), strict=True)
            for place in range(len(feed.ids) - feed.num_logits, len(feed.ids))
        ]
        logits = self._loaded.model(
            input_ids=torch.tensor([[each for feed in feeds for each in feed.ids]], device=device),
            position_ids=position_ids,
            use_cache=False,
            logits_to_keep=0 if len(kept) == len(positions) else torch.tensor(kept or [-1], device=device),
            step=Step(segments, self._loaded.query_scale(position_ids)),
            **self._loaded.rope_arguments(alphas),
        ).logits[0]
        for feed in feeds:
            feed.sequence.ids.extend(feed.ids)
        return list(logits[: len(kept)].split([feed.num_logits for feed in feeds]))

    def release(self, sequence: Slot, *, is_kept: bool) -> None:
        """As `Runner` says."""
        self._slots.release(sequence, is_kept=is_kept)

    def close(self) -> None:
        """As `Runner` says."""
        self._slots.clear()
        self._config._attn_implementation = self._previous_attention


def choose_runner(loaded: LoadedModel, plan: SlotPlan | None = None) -> Runner:
    """The way in which a model's sequences are computed, tried out on a few tokens.

    Args:
        loaded: the model.
        plan: how many sequences at once; None divides what memory is free.
    """
    plan = plan or plan_slots(
        loaded.kv_bytes_per_token,
        free_bytes(loaded.input_device.type),
        loaded.checkpoint.context_length,
        is_gpu=loaded.input_device.type != "cpu",
    )
    if BatchRunner.supports(loaded):
        runner = BatchRunner(loaded, plan)
        try:
            runner.try_out()
        except (TypeError, KeyError, AttributeError, IndexError) as error:
            # An architecture whose attention is not called the usual way.
            logger.info("%s cannot be computed in batches: %r", type(loaded.model).__name__, error)
            runner.close()
        else:
            return runner
    alone = f"one answer at a time, because {type(loaded.model).__name__} cannot go back to an earlier token"
    return SnapshotRunner(loaded, SlotPlan(1, plan.max_tokens, alone))


@dataclass(eq=False, slots=True)
class Snapshot:
    """A sequence with transformers' own cache.

    Attributes:
        owner: who may go on from it.
        ids: the tokens that the cache has read.
        cache: the keys, values and states.
    """

    owner: str
    ids: list[int]
    cache: transformers.Cache
    arguments: dict[str, Any] = field(default_factory=dict)


class SnapshotRunner:
    """One sequence at a time, for every other architecture."""

    def __init__(self, loaded: LoadedModel, plan: SlotPlan) -> None:
        self.plan = plan
        self._loaded = loaded
        self._running: Snapshot | None = None
        self._kept: list[Snapshot] = []

    def take(self, request: Request) -> Snapshot | None:
        """As `Runner` says. What it goes on from stays for another try at the same turn."""
        if self._running is not None:
            return None
        prompt_ids = list(request.prompt_ids)
        known = [
            each
            for each in self._kept
            if each.owner == request.owner
            and len(each.ids) < len(prompt_ids)
            and common_length(each.ids, prompt_ids) == len(each.ids)
        ]
        if known and not request.has_prompt_logprobs:
            source = max(known, key=lambda each: len(each.ids))
            self._kept.remove(source)
            self._kept.append(source)
            self._running = Snapshot(source.owner, list(source.ids), copy.deepcopy(source.cache))
        else:
            self._running = Snapshot(request.owner, [], transformers.DynamicCache(config=self._loaded.model.config))
        return self._running

    @torch.inference_mode()
    def forward(self, feeds: Sequence[Feed]) -> list[torch.Tensor]:
        """As `Runner` says; there is one feed only."""
        (feed,) = feeds
        sequence: Any = feed.sequence
        output = self._loaded.model(
            input_ids=torch.tensor([list(feed.ids)], device=self._loaded.input_device),
            past_key_values=sequence.cache,
            use_cache=True,
            logits_to_keep=max(feed.num_logits, 1),
        )
        sequence.ids.extend(feed.ids)
        return [output.logits[0, len(output.logits[0]) - feed.num_logits :]]

    def release(self, sequence: Snapshot, *, is_kept: bool) -> None:
        """As `Runner` says."""
        self._running = None
        if is_kept and sequence.ids:
            self._kept.append(sequence)
            del self._kept[:-_MAX_SNAPSHOTS]

    def close(self) -> None:
        """As `Runner` says."""
        self._kept.clear()


def _starts(feeds: Sequence[Feed]) -> list[int]:
    starts, at = [], 0
    for feed in feeds:
        starts.append(at)
        at += len(feed.ids)
    return starts
