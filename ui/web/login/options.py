"""How the page is shared, as the command line asks for it; its defaults are the ones that are quoted there."""

from dataclasses import dataclass
from pathlib import Path

from model_loader.errors import InvalidSetting


@dataclass(frozen=True, slots=True)
class SharingOptions:
    """Who may come, and how much each may use.

    Attributes:
        link: whether to make a public link.
        auth: accounts as NAME:PASSWORD.
        auth_file: a file with such lines.
        is_public: whether everybody who reaches the page may use it without a login.
        trusted_proxy: the host name under which a proxy of the user's serves the page; None without one.
        login_hours: how long a login lasts.
        max_guests: how many guests may be there at once.
        guest_tokens: tokens that a guest may have read and written in an hour; None for any number.

    Raises:
        InvalidSetting: a value is out of range, or two contradict each other.
    """

    link: bool = False
    auth: tuple[str, ...] = ()
    auth_file: Path | None = None
    is_public: bool = False
    trusted_proxy: str | None = None
    login_hours: float = 12.0
    max_guests: int = 20
    guest_tokens: int | None = 100_000

    def __post_init__(self) -> None:
        if self.is_public and self.has_accounts:
            raise InvalidSetting("--public lets everybody in without a login, --auth asks for one; give one of them.")
        if not 0 < self.login_hours <= 8760:
            raise InvalidSetting(f"--login-hours is {self.login_hours:g}; give hours above 0, up to 8,760.")
        if not 1 <= self.max_guests <= 200:
            raise InvalidSetting(f"--max-guests is {self.max_guests}; give a number from 1 to 200.")
        if self.guest_tokens is not None and self.guest_tokens < 1:
            raise InvalidSetting(f"--guest-tokens is {self.guest_tokens}; give at least 1, or 0 for any number.")
        name = self.trusted_proxy
        if name is not None and (not name or any(each.isspace() or each in "/:@*" for each in name)):
            raise InvalidSetting(f"--trusted-proxy is {name!r}; give the host name that users type, as chat.example.")

    @property
    def has_accounts(self) -> bool:
        """Whether the user named who may come."""
        return bool(self.auth) or self.auth_file is not None
