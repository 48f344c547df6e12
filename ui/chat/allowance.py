"""How many tokens guests may have read and written in an hour, and how many answers at once.

What comes in is who asks and what an answer cost; what goes out is a refusal once it has been enough. A guest who comes
back under another name begins anew, so all guests together have a limit as well. All methods may be called from any
thread.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

from ui.chat.refusal import Refused

_HOUR_S = 3600.0
_MAX_KNOWN = 4096
_EVERYBODY = ""
ANSWERS_AT_ONCE = 2


class Allowance:
    """What each guest may use, and all of them.

    Args:
        tokens: of a guest in an hour; None for any number.
        max_guests: how many guests' tokens all of them may use together.
        clock: seconds that only grow.
    """

    def __init__(
        self, tokens: int | None = None, max_guests: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tokens = tokens
        self._max_guests = max_guests
        self._clock = clock
        self._lock = threading.Lock()
        self._spent: OrderedDict[str, deque[tuple[float, int]]] = OrderedDict()
        self._guests: OrderedDict[str, str] = OrderedDict()

    def know(self, owner: str, guest: str | None) -> None:
        """The conversations of this owner are asked in by that guest; None is nobody to be counted."""
        with self._lock:
            self._guests.pop(owner, None)
            if guest is not None:
                self._guests[owner] = guest
            while len(self._guests) > _MAX_KNOWN:
                self._guests.popitem(last=False)

    def guest_of(self, owner: str) -> str | None:
        """Who asks in the conversations of this owner, if it is a guest."""
        with self._lock:
            return self._guests.get(owner)

    def check(self, guest: str | None, answering: Iterable[str] = ()) -> None:
        """Whether the guest may ask; `answering` are the owners whose answers are being written.

        Raises:
            Refused: this hour's tokens are used up, or enough answers are being written for the guest.
        """
        if guest is None:
            return
        if sum(self.guest_of(owner) == guest for owner in answering) >= ANSWERS_AT_ONCE:
            raise Refused("enough_at_once", ANSWERS_AT_ONCE)
        if self._tokens is None:
            return
        with self._lock:
            spent, spent_by_all = self._spent_in_hour(guest), self._spent_in_hour(_EVERYBODY)
        if spent >= self._tokens or spent_by_all >= self._tokens * self._max_guests:
            raise Refused("tokens_spent", self._tokens)

    def spend(self, guest: str | None, tokens: int) -> None:
        """Counts what an answer cost: the tokens that were read anew and those that were written."""
        if guest is None or tokens <= 0:
            return
        with self._lock:
            for one in (guest, _EVERYBODY):
                self._spent.setdefault(one, deque()).append((self._clock(), tokens))
                self._spent.move_to_end(one)
            while len(self._spent) > _MAX_KNOWN:
                self._spent.popitem(last=False)

    def _spent_in_hour(self, guest: str) -> int:
        spent = self._spent.get(guest, deque())
        while spent and spent[0][0] <= self._clock() - _HOUR_S:
            spent.popleft()
        return sum(tokens for _, tokens in spent)
