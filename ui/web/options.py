"""What the user asks of the page; its defaults are the ones that the command line quotes. Imports no gradio."""

from dataclasses import dataclass, field
from pathlib import Path

from model_loader.errors import InvalidSetting
from ui.addresses import check_address, is_local
from ui.web.login.options import SharingOptions


@dataclass(frozen=True, slots=True)
class PageOptions:
    """Where the page is and how it behaves.

    Attributes:
        server_name: address to listen on.
        server_port: TCP port to listen on.
        inbrowser: whether to open the default browser once the port is open.
        allow_model_switch: whether the page may exchange the model although others can reach it.
        history: the file that keeps conversations; None keeps them in memory.
        keep_days: days after which an unused conversation is deleted; None keeps it.
        sharing: who may come from elsewhere, and how.
        linger_s: seconds that an answer goes on after the last tab that shows it was closed.
        is_remote: whether a server elsewhere answers, so that what is written leaves this program.

    Raises:
        InvalidSetting: a value is out of range.
    """

    server_name: str = "127.0.0.1"
    server_port: int = 8000
    inbrowser: bool = False
    linger_s: float = 10.0
    allow_model_switch: bool = False
    history: Path | None = None
    keep_days: float | None = None
    sharing: SharingOptions = field(default_factory=SharingOptions)
    is_remote: bool = False

    @property
    def may_switch_model(self) -> bool:
        """Whether the page may exchange the model: where only this machine reaches it, or when that was allowed."""
        return self.allow_model_switch or not self.is_shared

    @property
    def is_shared(self) -> bool:
        """Whether others than the users of this machine can reach the page."""
        sharing = self.sharing
        return sharing.link or sharing.trusted_proxy is not None or not is_local(self.server_name)

    @property
    def needs_login(self) -> bool:
        """Whether the page asks who comes."""
        return self.sharing.has_accounts or (self.is_shared and not self.sharing.is_public)

    def __post_init__(self) -> None:
        check_address(self.server_name, self.server_port)
        if self.keep_days is not None and not 0 < self.keep_days <= 36_500:
            raise InvalidSetting(f"--keep-days is {self.keep_days:g}; give days above 0, up to 36,500.")
        if not 0 <= self.linger_s <= 3600:
            raise InvalidSetting(f"--linger is {self.linger_s}; give seconds from 0 to 3,600.")
