"""Who may use the API, and as whom a request is counted among the engine's owners."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from ui.http_api.errors import ApiError

_HEADERS = {"www-authenticate": "Bearer"}


class Access:
    """The keys of one API; without any, everybody who reaches it may use it."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [_digest(key.encode("ascii")) for key in keys]

    @property
    def has_keys(self) -> bool:
        """Whether a key is needed."""
        return bool(self._digests)

    def owner(self, headers: Mapping[str, str], client: str) -> str:
        """The owner of a request, from the headers as latin-1 and the client's address.

        Raises:
            ApiError: 401, it brings no key or a wrong one.
        """
        if not self._digests:
            return _owner(client.encode("utf-8", "replace"))
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            raise ApiError(
                401, "A key is needed; send it in the header 'Authorization: Bearer KEY'.", code="missing_api_key",
                headers=_HEADERS,
            )  # fmt: skip
        key = given.strip().encode("latin-1", "replace")
        digest = _digest(key)
        # Every key is compared, each in constant time: how long it takes tells nothing about any of them.
        if sum(hmac.compare_digest(digest, known) for known in self._digests) == 0:
            raise ApiError(401, "The key is not known here.", code="invalid_api_key", headers=_HEADERS)
        return _owner(key)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _owner(secret: bytes) -> str:
    """A name that tells owners apart and tells nothing about them."""
    return "api:" + hashlib.sha256(b"owner\0" + secret).hexdigest()[:16]
