"""A fault of ours: the user gets a short id, the program's log says the rest under it.

What a user or a model wrote is not to stand in the log, and exceptions quote it: so the words of an exception are
logged only where they are the system's. Everybody gets its class and the lines it came through.
"""

import logging
import sqlite3
import traceback
import uuid

_SYSTEMS_OWN = (OSError, sqlite3.Error, MemoryError)


def log_fault(logger: logging.Logger, what: str, error: BaseException) -> str:
    """Writes a fault into the log, its words only at the level DEBUG; returns the id that names it."""
    fault_id = uuid.uuid4().hex[:8]
    says_all = isinstance(error, _SYSTEMS_OWN) or logger.isEnabledFor(logging.DEBUG)
    words = f": {error}" if says_all else ""
    lines = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s, fault %s: %s%s\n%s", what, fault_id, type(error).__name__, words, lines.rstrip())
    return fault_id
