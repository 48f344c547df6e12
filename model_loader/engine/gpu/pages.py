"""Keys and values of many sequences in pages: sequences of any length share one tensor per layer, which never moves."""

from collections.abc import Sequence
from typing import cast

import torch

from model_loader.engine.slots import Slot

PAGE_TOKENS = 256
"""Flash attention 2 reads pages of a multiple of 256 tokens."""
SPARE_PAGE = 0
"""Belongs to nobody; where unused rows of a recorded step write."""


class Pages:
    """One tensor of keys and values for each layer, cut into pages, and which of them are free.

    Args:
        num_pages: how many there are, the spare one not counted.

    Attributes:
        layers: the tensors, `(2, pages, PAGE_TOKENS, kv_heads, head_dim)`; made when first written.
    """

    def __init__(self, num_pages: int) -> None:
        self._num_pages = num_pages + 1
        self._free = list(range(num_pages, SPARE_PAGE, -1))
        self.layers: dict[int, torch.Tensor] = {}

    @property
    def num_free(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    def take(self, number: int) -> list[int]:
        """Some free pages.

        Raises:
            IndexError: there are not so many.
        """
        return [self._free.pop() for _ in range(number)]

    def give_back(self, pages: Sequence[int]) -> None:
        """Frees pages."""
        self._free.extend(pages)

    def close(self) -> None:
        """Lets go of the memory."""
        self.layers.clear()

    def layer(self, index: int, like: torch.Tensor) -> torch.Tensor:
        """Keys and values of a layer.

        Args:
            index: the layer's number.
            like: new keys or values of it, `(tokens, kv_heads, head_dim)`.
        """
        if index not in self.layers:
            self.layers[index] = like.new_zeros(2, self._num_pages, PAGE_TOKENS, *like.shape[1:])
        return self.layers[index]

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copies whole pages in all layers."""
        for layer in self.layers.values():
            layer[:, list(targets)] = layer[:, list(sources)]


class PagedSlot(Slot):
    """A sequence whose keys and values lie in pages.

    Attributes:
        pages: their numbers, in the order of the tokens.
        layers: those of all sequences, as `Pages` has them.
    """

    def __init__(self, rope_alpha: float, capacity: int, pool: Pages) -> None:
        super().__init__(rope_alpha, capacity)
        self._pool = pool
        self.layers = pool.layers
        self.pages = pool.take(capacity // PAGE_TOKENS)

    def copy_from(self, other: Slot, num_tokens: int) -> None:
        """As `Slot` says."""
        num_pages = -(-num_tokens // PAGE_TOKENS)
        self._pool.copy(cast(PagedSlot, other).pages[:num_pages], self.pages[:num_pages])
        self.ids = other.ids[:num_tokens]

    def grow(self, capacity: int) -> None:
        """As `Slot` says."""
        self.pages += self._pool.take((capacity - self.capacity) // PAGE_TOKENS)
        self.capacity = capacity

    def free(self) -> None:
        """As `Slot` says."""
        self._pool.give_back(self.pages)
        self.pages = []

    def places(self, start: int, length: int) -> list[int]:
        """Where tokens lie, counted through all pages."""
        return [self.pages[at // PAGE_TOKENS] * PAGE_TOKENS + at % PAGE_TOKENS for at in range(start, start + length)]
