"""The text of a PDF, read by a process that may hang, fail or eat memory without harming this one.

What comes in are bytes; they go to `pdf_worker` through a pipe, and its words come back through another. The process
has little memory, no files to write and a few seconds; then it is killed. Nothing touches the disk.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, get_args

from ui.chat.attachment import MAX_CHARS
from ui.chat.refusal import FileReason, FileRefused

MAX_PAGES = 400
MAX_SECONDS = 20
MAX_MEMORY_BYTES = 768 * 2**20
_MAX_AT_ONCE = 2
_PATIENCE_S = 30.0
_WORKER = Path(__file__).with_name("pdf_worker.py")

_turns = threading.BoundedSemaphore(_MAX_AT_ONCE)


def pdf_text(name: str, data: bytes) -> str:
    """The text of all pages, an empty line between them; "" if there is none. Blocks while others are being read.

    Raises:
        FileRefused: with the rule that was broken.
    """
    if not _turns.acquire(timeout=_PATIENCE_S):
        raise FileRefused("busy", name)
    try:
        said = _ask(name, data)
    finally:
        _turns.release()
    text, reason = said.get("text"), said.get("reason")
    if isinstance(text, str):
        return text
    limits = {"too_long": f"{MAX_CHARS:,}", "too_many_pages": f"{MAX_PAGES:,}"}
    known: FileReason = reason if reason in get_args(FileReason) else "damaged"  # type: ignore[assignment]
    figures = {"limit": limits[known], "found": said.get("found", "?")} if known in limits else {}
    raise FileRefused(known, name, **figures)


def _ask(name: str, data: bytes) -> dict[str, Any]:
    """What the worker says."""
    limits = map(str, (MAX_PAGES, MAX_CHARS, MAX_SECONDS, MAX_MEMORY_BYTES))
    process = subprocess.Popen(  # noqa: S603 - our own program; nothing of the file is on its command line
        [sys.executable, "-I", str(_WORKER), *limits],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ},  # Windows needs it
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    with process:
        try:
            output, _errors = process.communicate(data, timeout=MAX_SECONDS)
        except subprocess.TimeoutExpired:
            raise FileRefused("too_slow", name, limit=f"{MAX_SECONDS}") from None
        finally:
            process.kill()
    try:
        said = json.loads(output)
    except ValueError:  # it was killed by the system, or had no memory left to say so
        said = {"reason": "too_heavy"}
    return said if isinstance(said, dict) else {}
