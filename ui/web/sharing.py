"""Everything between the page and those who come from elsewhere, put together for one run of the program.

In: the options. Out: the gate that the page stands behind, the public link if there is to be one, and the lines that
tell the host in the terminal how guests get in. A page for this machine alone has no gate.
"""

import sys
import threading
from collections.abc import Callable

from ui.addresses import is_local, names_of
from ui.guard import ASGIApp
from ui.limits import Traffic, TrafficLimits
from ui.web.link import Link, as_picture
from ui.web.login.accounts import read_accounts
from ui.web.login.gate import LoginGate
from ui.web.login.sessions import Sessions
from ui.web.options import PageOptions

Say = Callable[[str], object]


class Sharing:
    """How one page is shared.

    Args:
        options: of the page.
        owner_key: what the ids of accounts' conversations are made with.
        passes: paths that bring keys of their own.
        on_end: ends what guests have begun.

    Attributes:
        traffic: what counts requests and streams.
        gate: who may come in; None where the page is for this machine alone.
        sessions: who is in.

    Raises:
        InvalidSetting: an account or the file of accounts cannot be used.
    """

    def __init__(
        self,
        options: PageOptions,
        owner_key: Callable[[], bytes],
        passes: frozenset[str] = frozenset(),
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        asked = options.sharing
        self._options = options
        self._on_end = on_end
        limits_clients = options.is_shared and not options.needs_login
        self.traffic = Traffic(TrafficLimits(clients=asked.max_guests if limits_clients else None))
        self.sessions = Sessions(asked.max_guests, asked.login_hours)
        self._accounts = read_accounts(asked.auth, asked.auth_file) if options.needs_login else None
        self._link = Link(options.server_name, options.server_port) if asked.link else None
        self.gate: LoginGate | None = None
        if options.is_shared or options.needs_login:
            self.gate = LoginGate(
                self._accounts,
                self.sessions,
                owner_key=owner_key(),
                cookie=f"qwen-chat-{options.server_port}",
                passes=passes,
                on_end=self._end,
                clients=self.traffic.clients,
            )

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application behind the gate, if there is one."""
        return app if self.gate is None else self.gate.around(app)

    def link_name(self) -> str | None:
        """The host name of the public link while there is one."""
        return None if self._link is None else self._link.name

    def host_link(self, url: str) -> str:
        """Where the host begins: once with rights, if the page is shared."""
        return url if self.gate is None else url + self.gate.host_path

    def announce(self, url: str, say: Say) -> None:
        """Tells the host how guests get in, and begins to make the public link, which takes seconds."""
        if self.gate is None:
            return
        if self._accounts is None:
            say(f"Everybody who reaches the page may use it: {self._options.sharing.max_guests} at once, no login.")
        elif self._accounts.shared_password is not None:
            say(f"Guests log in with any name and this password:  {self._accounts.shared_password}")
        else:
            say("Guests log in with the names and passwords that you gave.")
        say(f"You are the host; open this link, which works once:  {self.host_link(url)}")
        if not is_local(self._options.server_name):
            self._announce_address(say)
        if self._link is not None:
            say("Asking for a public link…")
            threading.Thread(target=self._make_link, args=(self._link, url, say), name="link", daemon=True).start()

    def close(self) -> None:
        """Takes the public link down."""
        if self._link is not None:
            self._link.close()

    def _announce_address(self, say: Say) -> None:
        name = names_of(self._options.server_name)[-1]
        address = f"http://{f'[{name}]' if ':' in name else name}:{self._options.server_port}"
        _say_address(f"For others in your network:  {address}", address, say)
        if self._accounts is not None:
            say("What is sent there, the password too, is not encrypted on its way; with --share it is.")

    def _make_link(self, link: Link, url: str, say: Say) -> None:
        address, why = link.open()
        if address is None:
            say(f"There is no public link: {why}. The page stays up at {url}")
        else:
            _say_address(f"Public link:  {address}", address, say)

    def _end(self) -> None:
        self.close()
        self._on_end()


def _say_address(line: str, address: str, say: Say) -> None:
    say(line)
    picture = as_picture(address)
    try:
        picture.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return  # a terminal that has no such characters
    say(picture)
