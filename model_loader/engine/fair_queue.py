"""A waiting line in which owners take turns: who asks for much waits behind his own requests, not others behind his.

It knows neither requests nor time; the caller holds the lock.
"""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """First come, first served within an owner, one each in turn among owners."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[Item]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[Item]:
        """The items in the order in which they would be served now."""
        lines = [list(line) for line in self._lines.values()]
        for turn in range(max(map(len, lines), default=0)):
            yield from (line[turn] for line in lines if turn < len(line))

    def put(self, owner: str, item: Item) -> None:
        """Adds an item behind the owner's others; a new owner's turn comes after everybody's here."""
        self._lines.setdefault(owner, deque()).append(item)

    def first(self) -> Item | None:
        """The item that is next; it stays."""
        return next(iter(self), None)

    def take(self) -> Item:
        """Removes the item that is next; its owner's next turn comes after everybody else's."""
        owner, line = next(iter(self._lines.items()))
        del self._lines[owner]
        item = line.popleft()
        if line:
            self._lines[owner] = line
        return item

    def remove(self, item: Item) -> None:
        """Removes an item wherever it stands, if it does."""
        for owner, line in self._lines.items():
            if item in line:
                line.remove(item)
                if not line:
                    del self._lines[owner]
                return
