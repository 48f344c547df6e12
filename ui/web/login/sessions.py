"""Who is logged in. The browser holds a random id, the server its digest and everything else.

All methods belong to the event loop of the server, but for `who_is_on`, which any thread may call.
"""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

_IDLE_S = 600.0
"""A guest who has no stream open for so long gives way to another one when the house is full."""


@dataclass(eq=False, slots=True)
class Session:
    """One login.

    Attributes:
        name: what the user is called; a guest with the shared password may have made it up.
        owner: whose conversations these are; None where the browser keeps an id of its own.
        guest: as whom tokens are counted; None for the host, who may use any number.
        address: where the login came from.
        began: when, as seconds since 1970.
        ended: set when nothing more may be answered.
    """

    name: str
    owner: str | None
    guest: str | None
    address: str
    began: float
    expires: float
    seen: float
    num_streams: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_host(self) -> bool:
        """Whether this user sees who is on, and may end it."""
        return self.guest is None


class HouseFull(Exception):
    """As many guests are on as may be."""


class Sessions:
    """All logins.

    Attributes:
        is_closed: whether the host has ended sharing: no guest may log in any more.
    """

    def __init__(self, max_guests: int, hours: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_closed = False
        self.lasts_s = hours * 3600
        self._max_guests = max_guests
        self._clock = clock
        self._sessions: dict[bytes, Session] = {}

    def begin(self, name: str, address: str, *, owner: str | None, is_host: bool) -> str:
        """Logs somebody in; returns the id for the browser to keep.

        Raises:
            HouseFull: there is no room for another guest.
        """
        now = self._clock()
        if not is_host:
            self._make_room(now)
        secret = secrets.token_urlsafe(32)
        guest = None if is_host else owner or secrets.token_hex(8)
        lasts_s = float("inf") if is_host and owner is None else self.lasts_s
        session = Session(name, owner, guest, address, time.time(), now + lasts_s, now)
        self._sessions[_digest(secret)] = session
        return secret

    def find(self, secret: str) -> Session | None:
        """The login that the browser's id stands for, if it has not ended."""
        session = self._sessions.get(_digest(secret)) if secret else None
        if session is None or session.ended.is_set():
            return None
        if session.expires <= self._clock():
            self._end(session)
            return None
        session.seen = self._clock()
        return session

    def remaining_s(self, session: Session) -> float:
        """How long a login goes on."""
        return max(0.0, session.expires - self._clock())

    def end(self, secret: str) -> None:
        """Logs one user out."""
        session = self._sessions.get(_digest(secret))
        if session is not None:
            self._end(session)

    def end_guests(self) -> list[Session]:
        """Logs every guest out and lets none in again; returns who that was."""
        self.is_closed = True
        guests = [one for one in self._sessions.values() if not one.is_host]
        for one in guests:
            self._end(one)
        return guests

    def who_is_on(self) -> list[Session]:
        """Everybody who is logged in, by time of login."""
        now = self._clock()
        return [one for one in list(self._sessions.values()) if one.expires > now and not one.ended.is_set()]

    def _make_room(self, now: float) -> None:
        for one in [one for one in self._sessions.values() if one.expires <= now]:
            self._end(one)
        guests = [one for one in self._sessions.values() if not one.is_host]
        if len(guests) < self._max_guests:
            return
        idle = [one for one in guests if one.num_streams == 0 and one.seen <= now - _IDLE_S]
        if not idle:
            raise HouseFull
        self._end(min(idle, key=lambda one: one.seen))

    def _end(self, session: Session) -> None:
        session.ended.set()
        self._sessions = {key: one for key, one in self._sessions.items() if one is not session}


def owner_of(name: str, key: bytes) -> str:
    """The 128-bit id under which an account's conversations are kept: always the same, and nobody can guess it."""
    return hmac.digest(key, b"owner of conversations\0" + name.encode(), "sha256")[:16].hex()


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
