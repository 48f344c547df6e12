"""Whether anybody still wants what a model is writing."""

import time
from collections.abc import Callable


class Audience:
    """Somebody who looks now and then. It is used by one thread.

    Args:
        is_there: whether somebody looks now.
        linger_s: seconds without anybody after which the audience counts as gone.
    """

    def __init__(self, is_there: Callable[[], bool], linger_s: float) -> None:
        self._is_there = is_there
        self._linger_s = linger_s
        self._alone_since: float | None = None

    def has_left(self) -> bool:
        """Whether nobody has looked for long enough. To be asked often: it counts from the first time nobody does."""
        if self._is_there():
            self._alone_since = None
            return False
        now = time.monotonic()
        if self._alone_since is None:
            self._alone_since = now
        return now - self._alone_since >= self._linger_s
