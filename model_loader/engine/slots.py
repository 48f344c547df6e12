"""Where keys and values live: a slot for each sequence, kept after its answer for the next turn to go on from.

A slot is taken with room for a whole prompt and answer, so a running request never runs out of it. Which earlier
slot's beginning may be reused is decided by exact token ids, the owner and the position embedding's stretch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

_BLOCK_TOKENS = 64
"""Capacities are multiples of it, so that a slot serves turns of about the same length without moving."""
_CPU_SLOTS, _GPU_SLOTS = 8, 32
"""A processor is busy with computing from about eight sequences on; more only make each of them slower."""
_CPU_SHARE, _GPU_SHARE = 0.4, 0.85
"""Of the free memory; the rest is for activations and, on a processor, for other programs."""
_USUAL_TOKENS = 2048
"""A slot more is worth having only if a conversation of this length fits into it."""
_LEAST_SHARED_TOKENS = 8
"""Fewer common tokens are quicker read than copied."""


@dataclass(eq=False)
class Slot:
    """One sequence's keys and values.

    Attributes:
        rope_alpha: the stretch that its keys were rotated with.
        capacity: tokens it has room for.
        owner: who may reuse all of it.
        ids: the token ids whose keys and values are in place.
        num_shared_tokens: how many of them, from the start, anybody may reuse.
        layers: of each layer the keys and values, `(2, kv_heads, capacity, head_dim)`; made when first written.
    """

    rope_alpha: float
    capacity: int
    owner: str = ""
    ids: list[int] = field(default_factory=list)
    num_shared_tokens: int = 0
    layers: dict[int, torch.Tensor] = field(default_factory=dict)

    def write(self, layer: int, added: torch.Tensor, start: int) -> torch.Tensor:
        """Puts keys and values `(2, kv_heads, tokens, head_dim)` at a position; returns the layer up to there.

        Returns:
            Keys and values, `(2, kv_heads, start + tokens, head_dim)`, a view.
        """
        kv = self.layers.get(layer)
        if kv is None:
            kv = added.new_empty((2, added.shape[1], self.capacity, added.shape[3]))
            self.layers[layer] = kv
        num_added = added.shape[2]
        kv.narrow(2, start, num_added).copy_(added)
        return kv.narrow(2, 0, start + num_added)

    def grow(self, capacity: int) -> None:
        """Makes room for more tokens."""
        self.capacity = capacity
        self.copy_from(self, len(self.ids))

    def free(self) -> None:
        """Lets go of the memory; the slot is not used again."""
        self.layers.clear()

    def copy_from(self, other: "Slot", num_tokens: int) -> None:
        """Takes over the first tokens of another slot, or its own into tensors of its capacity."""
        for layer, kv in other.layers.items():
            _, kv_heads, _, head_dim = kv.shape
            own = kv.new_empty((2, kv_heads, self.capacity, head_dim))
            own[:, :, :num_tokens] = kv[:, :, :num_tokens]
            self.layers[layer] = own
        self.ids = other.ids[:num_tokens]


@dataclass(frozen=True, slots=True)
class SlotPlan:
    """How many sequences run at once and how many tokens they may have together.

    Attributes:
        num_slots: sequences, running and kept.
        max_tokens: tokens of keys and values, of all of them together.
        reason: one sentence for the user that says both and why.
    """

    num_slots: int
    max_tokens: int
    reason: str


def plan_slots(kv_bytes_per_token: int, free_bytes: int, context_length: int, *, is_gpu: bool) -> SlotPlan:
    """Divides what memory is left after loading; pure.

    Args:
        kv_bytes_per_token: bytes of one token's keys and values in all layers.
        free_bytes: memory that is free with the model loaded.
        context_length: tokens that one sequence may have.
        is_gpu: whether the memory is a GPU's, which nobody else needs.
    """
    share, most = (_GPU_SHARE, _GPU_SLOTS) if is_gpu else (_CPU_SHARE, _CPU_SLOTS)
    room = int(free_bytes * share / kv_bytes_per_token)
    max_tokens = max(min(room, most * context_length), _BLOCK_TOKENS)
    num_slots = max(1, min(most, max_tokens // min(_USUAL_TOKENS, context_length)))
    size_gb = max_tokens * kv_bytes_per_token / 1e9
    reason = (
        f"{num_slots} answers at once with {max_tokens:,} tokens of keys and values ({size_gb:.1f} GB), because "
        f"{free_bytes / 1e9:.1f} GB are free and a token takes {kv_bytes_per_token / 1e3:.0f} kB"
    )
    return SlotPlan(num_slots, max_tokens, reason)


class Slots:
    """All slots of an engine, running and kept ones. Used by the engine thread alone.

    Args:
        num_slots: how many there are at most.
        max_tokens: how many tokens they may have room for together.
        block_tokens: capacities are multiples of it.
        make_slot: makes a slot from the stretch of its position embedding and its capacity.
    """

    def __init__(
        self,
        num_slots: int,
        max_tokens: int,
        block_tokens: int = _BLOCK_TOKENS,
        make_slot: Callable[[float, int], Slot] = Slot,
    ) -> None:
        self._num_slots = num_slots
        self._max_tokens = max_tokens
        self._block_tokens = block_tokens
        self._make_slot = make_slot
        self._running: list[Slot] = []
        self._kept: list[Slot] = []  # least recently used first

    @property
    def num_running(self) -> int:
        """Slots of running sequences."""
        return len(self._running)

    @property
    def num_tokens(self) -> int:
        """Tokens that running and kept slots have room for."""
        return sum(slot.capacity for slot in (*self._running, *self._kept))

    def take(
        self, prompt_ids: Sequence[int], num_tokens: int, owner: str, rope_alpha: float, num_shared_tokens: int = 0
    ) -> Slot | None:
        """A slot for a sequence that grows to `num_tokens`, holding as much of its prompt as is known already.

        At least the prompt's last token is left to read. Kept slots go, least recently used first, if there is no
        room otherwise.

        Returns:
            None while running sequences leave no room.
        """
        if not self.has_room(num_tokens):
            return None
        capacity = self._capacity(num_tokens)
        source, num_known = self._longest_prefix(prompt_ids, owner, rope_alpha)
        if source in self._kept and 2 * num_known >= len(source.ids):
            slot = source
            self._kept.remove(slot)
            self._make_room(max(capacity, slot.capacity))
        else:
            self._make_room(capacity, source)
            slot = self._make_slot(rope_alpha, capacity)
        try:
            if slot is not source and source is not None and (source in self._running or source in self._kept):
                slot.copy_from(source, num_known)
            elif slot.capacity < capacity:
                slot.grow(capacity)
        except BaseException:  # no memory
            slot.free()
            raise
        del slot.ids[num_known:]
        self._running.append(slot)
        slot.owner, slot.num_shared_tokens = owner, num_shared_tokens
        return slot

    def has_room(self, num_tokens: int) -> bool:
        """Whether running sequences leave room for one that grows to `num_tokens`."""
        num_taken = sum(slot.capacity for slot in self._running)
        has_slot = len(self._running) < self._num_slots
        return has_slot and num_taken + self._capacity(num_tokens) <= self._max_tokens

    def _capacity(self, num_tokens: int) -> int:
        return min(num_tokens + -num_tokens % self._block_tokens, self._max_tokens)

    def num_known(self, prompt_ids: Sequence[int], owner: str, rope_alpha: float) -> int:
        """How many of a prompt's first tokens are in a slot now. Any thread may ask: what it reads may have changed."""
        return self._longest_prefix(prompt_ids, owner, rope_alpha)[1]

    def release(self, slot: Slot, *, is_kept: bool = True) -> None:
        """Ends a sequence; what it has read stays for the next turn unless it is not to be trusted."""
        self._running.remove(slot)
        if is_kept and slot.ids:
            self._kept.append(slot)
        else:
            slot.free()

    def clear(self) -> bool:
        """Lets go of everything that is kept; says whether there was anything."""
        num_kept = len(self._kept)
        for slot in self._kept:
            slot.free()
        self._kept.clear()
        return num_kept > 0

    def _make_room(self, capacity: int, spared: Slot | None = None) -> None:
        """Frees kept slots, least recently used first, until one more of a capacity fits; the spared one goes last."""

        def has_room() -> bool:
            has_place = len(self._kept) + len(self._running) < self._num_slots
            return has_place and self.num_tokens + capacity <= self._max_tokens

        for slot in [*(each for each in self._kept if each is not spared), spared]:
            if has_room():
                return
            if slot in self._kept:
                self._kept.remove(slot)
                slot.free()

    def _longest_prefix(self, prompt_ids: Sequence[int], owner: str, rope_alpha: float) -> tuple[Slot | None, int]:
        best: Slot | None = None
        longest = _LEAST_SHARED_TOKENS - 1
        for slot in self._kept + self._running:
            if slot.rope_alpha != rope_alpha:
                continue
            known = slot.ids if slot.owner == owner else slot.ids[: slot.num_shared_tokens]
            length = common_length(known, prompt_ids[:-1])
            if length > longest:
                best, longest = slot, length
        return best, longest if best is not None else 0


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids two sequences begin with in common."""
    return next(
        (at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
