"""Computes many sequences in one forward pass, each in a slot of its own."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch

from model_loader.engine.attention import SLOTS_ATTENTION, Segment, Step
from model_loader.engine.request import Request
from model_loader.engine.runner import Feed, Runner
from model_loader.engine.slots import Slot, SlotPlan, Slots
from model_loader.loading.load import LoadedModel

_STATIC_ROPE = frozenset({"default", "linear", "yarn", "llama3"})
"""Position embeddings that do not depend on how long the longest sequence of a pass is."""


class BatchRunner(Runner):
    """Many sequences at once, for every architecture whose layers only look back through attention."""

    attention = SLOTS_ATTENTION
    """The name under which transformers finds how to attend."""

    def __init__(self, loaded: LoadedModel, plan: SlotPlan) -> None:
        self.plan = plan
        self._loaded = loaded
        self._slots = self._make_slots()
        self._config = loaded.model.config
        self._previous_attention = self._config._attn_implementation
        self._config._attn_implementation = self.attention

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

    def _make_slots(self) -> Slots:
        return Slots(self.plan.num_slots, self.plan.max_tokens)

    def _make_step(self, segments: Sequence[Segment], position_ids: torch.Tensor) -> Any:
        return Step(segments, self._loaded.query_scale(position_ids))

    def num_known(self, prompt_ids: Sequence[int], owner: str) -> int:
        return self._slots.num_known(prompt_ids, owner, self._loaded.rope_alpha(len(prompt_ids)))

    def try_out(self) -> None:
        """Computes a few tokens; raises whatever an architecture raises that is built in another way."""
        slot = self._slots.take((), 3, "", 1.0)
        assert slot is not None
        try:
            self.forward([Feed(slot, (0, 0), 1)])
            self.forward([Feed(slot, (0,), 1)])
            if len(slot.layers) != self._config.num_hidden_layers:
                raise KeyError("some layers keep no keys and values of their own")
        finally:
            self._slots.release(slot, is_kept=False)

    def take(self, request: Request) -> Slot | None:
        prompt_ids = () if request.has_prompt_logprobs else request.prompt_ids
        alpha = self._loaded.rope_alpha(len(request.prompt_ids))
        return self._slots.take(prompt_ids, request.max_tokens, request.owner, alpha, request.num_shared_tokens)

    def has_room(self, request: Request) -> bool:
        return self._slots.has_room(request.max_tokens)

    @torch.inference_mode()
    def forward(self, feeds: Sequence[Feed]) -> list[torch.Tensor]:
        device = self._loaded.input_device
        segments = [Segment(feed.sequence, len(feed.sequence.ids), len(feed.ids)) for feed in feeds]
        positions = [each for part in segments for each in range(part.start, part.start + part.length)]
        position_ids = torch.tensor([positions], device=device)
        alphas = torch.tensor([[part.slot.rope_alpha for part in segments for _ in range(part.length)]], device=device)
        kept = [
            at + place
            for feed, at in zip(feeds, accumulate((len(each.ids) for each in feeds), initial=0), strict=False)
            for place in range(len(feed.ids) - feed.num_logits, len(feed.ids))
        ]
        logits = self._loaded.model(
            input_ids=torch.tensor([[each for feed in feeds for each in feed.ids]], device=device),
            position_ids=position_ids,
            use_cache=False,
            logits_to_keep=0 if len(kept) == len(positions) else torch.tensor(kept or [-1], device=device),
            step=self._make_step(segments, position_ids),
            **self._loaded.rope_arguments(alphas),
        ).logits[0]
        for feed in feeds:
            feed.sequence.ids.extend(feed.ids)
        return list(logits[: len(kept)].split([feed.num_logits for feed in feeds]))

    def release(self, sequence: Slot, *, is_kept: bool) -> None:
        self._slots.release(sequence, is_kept=is_kept)

    def forget(self) -> bool:
        return self._slots.clear()

    def close(self) -> None:
        self._slots.clear()
        self._config._attn_implementation = self._previous_attention
