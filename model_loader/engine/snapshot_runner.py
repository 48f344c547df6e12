"""Computes one sequence at a time, where a sequence's state cannot be cut back to an earlier token.

That is so with recurrent layers, and where the rotation of all depends on the longest one. A next turn can only go on
from where an answer ended: a few such ends are kept.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import transformers

from model_loader.engine.request import Request
from model_loader.engine.runner import Feed, Runner
from model_loader.engine.slots import SlotPlan
from model_loader.loading.load import LoadedModel

_MAX_SNAPSHOTS = 4


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


class SnapshotRunner(Runner):
    """One sequence at a time, for every other architecture."""

    def __init__(self, loaded: LoadedModel, plan: SlotPlan) -> None:
        self.plan = plan
        self._loaded = loaded
        self._running: Snapshot | None = None
        self._kept: list[Snapshot] = []

    def take(self, request: Request) -> Snapshot | None:
        """As `Runner` says. What it goes on from stays for another try at the same turn."""
        if not self.has_room(request):
            return None
        source = self._find(request.prompt_ids, request.owner)
        if source is not None and not request.has_prompt_logprobs:
            self._kept.remove(source)
            self._kept.append(source)
            self._running = Snapshot(source.owner, list(source.ids), copy.deepcopy(source.cache))
        else:
            self._running = Snapshot(request.owner, [], transformers.DynamicCache(config=self._loaded.model.config))
        return self._running

    def has_room(self, request: Request) -> bool:
        """As `Runner` says."""
        return self._running is None

    def num_known(self, prompt_ids: Sequence[int], owner: str) -> int:
        source = self._find(prompt_ids, owner)
        return len(source.ids) if source is not None else 0

    def _find(self, prompt_ids: Sequence[int], owner: str) -> Snapshot | None:
        """The longest of the owner's kept sequences that the prompt begins with."""
        known = [
            each
            for each in list(self._kept)
            if each.owner == owner and each.ids == list(prompt_ids[:-1][: len(each.ids)])
        ]
        return max(known, key=lambda each: len(each.ids), default=None)

    @torch.inference_mode()
    def forward(self, feeds: Sequence[Feed]) -> list[torch.Tensor]:
        """As `Runner` says; there is one feed only."""
        (feed,) = feeds
        sequence = feed.sequence
        try:
            output = self._loaded.model(
                input_ids=torch.tensor([list(feed.ids)], device=self._loaded.input_device),
                past_key_values=sequence.cache,
                use_cache=True,
                logits_to_keep=max(feed.num_logits, 1),
            )
        except Exception:
            sequence.ids.clear()  # some layers' caches have read more than others': nobody can go on from it
            raise
        sequence.ids.extend(feed.ids)
        return [output.logits[0, len(output.logits[0]) - feed.num_logits :]]

    def release(self, sequence: Snapshot, *, is_kept: bool) -> None:
        self._running = None
        if is_kept and sequence.ids:
            self._kept.append(sequence)
            del self._kept[:-_MAX_SNAPSHOTS]

    def forget(self) -> bool:
        """As `Runner` says; a step that failed has left its traces in the cache."""
        self._kept.clear()
        return False

    def close(self) -> None:
        self._kept.clear()
