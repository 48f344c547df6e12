"""What the user asks of the API: keys, other sites and how long its queue may grow. Imports no web library."""

import re
from dataclasses import dataclass
from pathlib import Path

from model_loader.errors import InvalidSetting
from ui.addresses import is_local

_KEY = re.compile(r"[!-~]{1,512}")
_ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_MAX_KEY_FILE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """Who may use the API, and how.

    Attributes:
        keys: any of them opens it; without one it is open to everybody who reaches it.
        cors_origins: sites whose pages may use it from a browser.
        max_waiting: requests that may wait for their turn; one more is told to come again.

    Raises:
        InvalidSetting: a key or an origin is none.
    """

    keys: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    max_waiting: int = 32

    def __post_init__(self) -> None:
        if not all(_KEY.fullmatch(key) for key in self.keys):
            raise InvalidSetting(
                "A key of the API is empty, longer than 512 characters or holds other characters than visible ASCII "
                "ones. Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                raise InvalidSetting(
                    f"--cors-origin has {origin!r}; give sites as in https://chat.example or http://localhost:3000, "
                    "with commas."
                )

    def missing_key(self, server_name: str, *, is_shared: bool = False) -> str | None:
        """Why the API cannot be on an address, as a sentence for the user; None if it can."""
        if self.keys or (is_local(server_name) and not is_shared):
            return None
        where = "the page" if is_shared else server_name
        return f"others can reach {where}; give a key by QWEN_DEMO_API_KEY or --api-key-file"


def read_options(api_key: str | None, api_key_file: Path | None, cors_origin: str | None) -> ApiOptions:
    """The options as the command line gives them.

    Raises:
        InvalidSetting: a key or an origin is none, or the file cannot be read or holds no key.
    """
    keys = [] if api_key is None else [api_key]
    if api_key_file is not None:
        keys += _keys_in(api_key_file)
    origins = () if cors_origin is None else tuple(each.strip().rstrip("/") for each in cors_origin.split(","))
    return ApiOptions(tuple(keys), origins)


def _keys_in(file: Path) -> list[str]:
    """The keys in a file, one a line; empty lines and those that begin with # do not count."""
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_KEY_FILE_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise InvalidSetting(f"--api-key-file {file} cannot be read: {why}.") from None
    lines = [line.strip() for line in content.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise InvalidSetting(f"--api-key-file {file} holds no key; write one a line.")
    return keys
