"""Where the server is and what it asks for, checked before anything is sent."""

from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from model_loader.errors import InvalidSetting

_EXAMPLE = "http://127.0.0.1:8001/v1"
_LEAST_CONTEXT = 64
_LOOPBACK = ("::1", "localhost")


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """What the user says about a server.

    Attributes:
        base_url: where its API begins, usually with /v1 at the end.
        key: what it wants to be shown; "" where it asks for none. Part of no message.
        context_length: the window in tokens where the server does not tell it, or less than it tells.

    Raises:
        InvalidSetting: the URL is none that can be used, or a value is out of range.
    """

    base_url: str
    key: str = field(default="", repr=False)
    context_length: int | None = None

    def __post_init__(self) -> None:
        _check_url(self.base_url)
        if not all(33 <= ord(each) <= 126 for each in self.key):
            raise InvalidSetting(
                "--base-url-key holds a space, a line end or a letter outside ASCII; give the key as the server's "
                "owner wrote it."
            )
        if self.context_length is not None and self.context_length < _LEAST_CONTEXT:
            raise InvalidSetting(f"--context-length is {self.context_length}; give {_LEAST_CONTEXT} tokens or more.")

    @property
    def api(self) -> str:
        """Where the API's paths begin, without a slash at the end."""
        path = self._parts.path.rstrip("/") or "/v1"  # a host alone means the usual place
        return f"{self.root}{path}"

    @property
    def root(self) -> str:
        """The server's own beginning, where vLLM and llama.cpp keep what is not OpenAI's."""
        return f"{self._parts.scheme}://{self.where}"

    @property
    def where(self) -> str:
        """Host and port, for messages."""
        return self._parts.netloc

    @property
    def is_on_this_machine(self) -> bool:
        """Whether the server's address is local."""
        host = self._parts.hostname or ""
        return host in _LOOPBACK or host.startswith("127.")

    @property
    def _parts(self) -> SplitResult:
        return urlsplit(self.base_url)


def _check_url(url: str) -> None:
    """Messages quote the URL only once it is known to hold no credentials."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        raise InvalidSetting(f"--base-url is no URL; give one such as {_EXAMPLE}.") from None
    if parts.username is not None or parts.password is not None or "@" in url:
        raise InvalidSetting(
            "--base-url holds a name or password, which would land in logs. Leave them out and give the server's key "
            "with --base-url-key or QWEN_DEMO_BASE_URL_KEY."
        )
    if parts.query or parts.fragment:
        raise InvalidSetting(f"--base-url holds a ? or #; give the part before it, such as {_EXAMPLE}.")
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidSetting(f"--base-url is {url[:200]!r}; give an http or https URL such as {_EXAMPLE}.")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidSetting(f"--base-url is {url[:200]!r}; spaces and letters outside ASCII cannot be part of it.")
