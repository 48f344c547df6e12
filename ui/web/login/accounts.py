"""The names and passwords that open the page.

In: what the user gave as --auth and --auth-file, or nothing. Out: a yes or no for a name and a password, found in a
time that tells nothing about either. Where nothing was given there is one password, made here, and guests call
themselves what they like.
"""

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

from model_loader.errors import InvalidSetting

HOST = "host"
"""The account whose owner sees who is there and may end it."""

_MAX_FILE_BYTES = 1024 * 1024
_MAX_NAME_CHARS = 64
_NO_DIGEST = bytes(32)
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that is read as something else
_GROUPS = 4
_GROUP_CHARS = 5


class Accounts:
    """Who may log in.

    Attributes:
        shared_password: the one password for everybody; None where each name has its own.
    """

    def __init__(self, passwords: dict[str, str]) -> None:
        self.shared_password = None if passwords else _new_password()
        self._digests = {name: _digest(password) for name, password in passwords.items()}

    def opens(self, name: str, password: str) -> bool:
        """Whether the two belong together."""
        expected = _digest(self.shared_password) if self.shared_password else self._digests.get(name, _NO_DIGEST)
        return hmac.compare_digest(_digest(password), expected)


def read_accounts(given: Iterable[str], file: Path | None) -> Accounts:
    """The accounts as the command line gives them.

    Raises:
        InvalidSetting: one has no colon, no name or no password, two have the same name, or the file cannot be used.
    """
    passwords: dict[str, str] = {}
    for number, entry in enumerate(given, start=1):
        _add(passwords, entry, f"--auth number {number}")
    if file is not None:
        lines = _read_private(file).splitlines()
        entries = {at: line for at, line in enumerate(lines, start=1) if line.strip() and not line.startswith("#")}
        if not entries:
            raise InvalidSetting(f"--auth-file {file} holds no account; write NAME:PASSWORD, one a line.")
        for at, line in entries.items():
            _add(passwords, line, f"--auth-file {file}, line {at}")
    return Accounts(passwords)


def _add(passwords: dict[str, str], entry: str, where: str) -> None:
    """The messages never quote an entry: it may be a password."""
    name, colon, password = entry.partition(":")
    name = name.strip()
    if not colon:
        raise InvalidSetting(f"{where} has no colon; give NAME:PASSWORD.")
    if not name or len(name) > _MAX_NAME_CHARS or not name.isprintable():
        raise InvalidSetting(f"{where} has no name before its colon, or one of more than {_MAX_NAME_CHARS} characters.")
    if not password.strip():
        raise InvalidSetting(f"{where} has no password after its colon; everybody could log in as {name!r}.")
    if name in passwords:
        raise InvalidSetting(f"{where} names {name!r} a second time; give each name once.")
    passwords[name] = password


def _read_private(file: Path) -> str:
    try:
        # A pipe must not keep the program waiting.
        with open(os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise InvalidSetting(f"--auth-file {file} is no file.")
            if os.name == "posix" and status.st_mode & 0o077:
                raise InvalidSetting(f"--auth-file {file} can be read by other users; run: chmod 600 {file}")
            content = opened.read(_MAX_FILE_BYTES + 1)
        if len(content) > _MAX_FILE_BYTES:
            raise InvalidSetting(f"--auth-file {file} is larger than {_MAX_FILE_BYTES:,} bytes.")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise InvalidSetting(f"--auth-file {file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InvalidSetting(f"--auth-file {file} is no text in UTF-8.") from None


def _new_password() -> str:
    """20 characters of 31, 99 bits."""
    groups = ("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP_CHARS)) for _ in range(_GROUPS))
    return "-".join(groups)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
