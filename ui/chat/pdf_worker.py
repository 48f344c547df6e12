"""A program that reads one PDF from its standard input and prints its text, or why there is none, as JSON.

`pdf_text` runs it, with the numbers of pages, characters, seconds and bytes of memory that are allowed. It imports
nothing of ours, so that it starts quickly and knows nothing worth stealing.
"""

import contextlib
import io
import json
import sys
from typing import Any

import pypdf
from pypdf.errors import LimitReachedError


def main() -> None:
    """Reads, and prints one object with "text" or with "reason" and what was found."""
    max_pages, max_chars, max_seconds, max_memory_bytes = map(int, sys.argv[1:])
    _take_less(max_seconds, max_memory_bytes)
    try:
        said = read(sys.stdin.buffer.read(), max_pages, max_chars)
    except (MemoryError, LimitReachedError):
        said = {"reason": "too_heavy"}
    except Exception:  # whatever a stranger's file makes of the library
        said = {"reason": "damaged"}
    sys.stdout.write(json.dumps(said))


def read(data: bytes, max_pages: int, max_chars: int) -> dict[str, Any]:
    """The text of all pages, or a reason."""
    reader = pypdf.PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not _opens(reader):
        return {"reason": "encrypted"}
    if len(reader.pages) > max_pages:
        return {"reason": "too_many_pages", "found": f"{len(reader.pages):,}"}
    texts, num_chars = [], 0
    for page in reader.pages:
        texts.append(page.extract_text().strip())
        num_chars += len(texts[-1]) + 2
        if num_chars > max_chars:
            return {"reason": "too_long", "found": f"> {max_chars:,}"}
    return {"text": "\n\n".join(filter(None, texts))}


def _opens(reader: pypdf.PdfReader) -> bool:
    """Whether it asks no password of readers, only of those who would print or change it."""
    try:
        return bool(reader.decrypt(""))
    except Exception:  # a cipher that is not installed, or none
        return False


def _take_less(max_seconds: int, max_memory_bytes: int) -> None:
    """Limits that hold whatever the library does, and if the program above is gone; Windows has none of them."""
    if sys.platform == "win32":
        return
    import resource

    limits = {
        resource.RLIMIT_AS: max_memory_bytes,
        resource.RLIMIT_CPU: max_seconds + 1,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for name, most in limits.items():
        with contextlib.suppress(ValueError, OSError):  # a system that does not know it
            resource.setrlimit(name, (most, most))


if __name__ == "__main__":
    main()
