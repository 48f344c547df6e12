"""Files on their way from the browser, in pieces that are small enough for the guard.

What comes in are numbered pieces of base64; what goes out is the whole file once the last one is there. A few files at
a time and none beyond the limit: whoever sends more only loses his own.
"""

import base64
import binascii
import threading
from dataclasses import dataclass, field

from ui.chat.export import MAX_FILE_BYTES

_MAX_AT_ONCE = 4
_MAX_CHARS = MAX_FILE_BYTES * 4 // 3 + 4


class UploadLost(Exception):
    """A piece is missing, or is no piece; the file has to be sent again."""


@dataclass(slots=True)
class _Upload:
    pieces: list[str] = field(default_factory=list)
    num_chars: int = 0


class Uploads:
    """All files on their way. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uploads: dict[str, _Upload] = {}

    def add(self, key: str, place: str, piece: str) -> bytes | None:
        """Takes one piece.

        Args:
            key: whose file it is.
            place: its number, from 1 on, and how many there are: "2/5".

        Returns:
            the file with its last piece, before that None.

        Raises:
            UploadLost: it is not the next piece, or the file is too large or no base64.
        """
        number, slash, total = place.partition("/")
        if not (slash and number.isdecimal() and total.isdecimal() and len(place) < 20):
            raise UploadLost
        with self._lock:
            upload = self._uploads.pop(key, None) if int(number) > 1 else _Upload()
            if upload is None or len(upload.pieces) + 1 != int(number):
                raise UploadLost
            upload.pieces.append(piece)
            upload.num_chars += len(piece)
            if upload.num_chars > _MAX_CHARS:
                raise UploadLost
            if int(number) < int(total):
                self._uploads[key] = upload
                while len(self._uploads) > _MAX_AT_ONCE:
                    del self._uploads[next(iter(self._uploads))]  # the one that has waited longest
                return None
        try:
            return base64.b64decode("".join(upload.pieces), validate=True)
        except (binascii.Error, ValueError):
            raise UploadLost from None
