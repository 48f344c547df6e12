"""The public link: Gradio's own tunnel, opened when the page is up and closed by the host or with the program.

In: the port of a page that is guarded and asks for a login. Out: an address that anybody can reach, or a sentence that
says why there is none; the page stays up on this machine either way.
"""

import io
import secrets
import threading
from contextlib import redirect_stdout
from urllib.parse import urlsplit

import segno
from gradio import networking, tunneling
from gradio.exceptions import ChecksumMismatchError

from ui.addresses import ANY_ADDRESS


class Link:
    """At most one public link to a port of this machine. All methods may be called from any thread."""

    def __init__(self, server_name: str, server_port: int) -> None:
        self._host = "127.0.0.1" if server_name in ANY_ADDRESS else server_name.strip("[]")
        self._port = server_port
        self._lock = threading.Lock()
        self._name: str | None = None
        self._is_closed = False

    @property
    def name(self) -> str | None:
        """The host name of the link while there is one, in lower case."""
        return self._name

    def open(self) -> tuple[str | None, str]:
        """Makes the link, within a minute; returns its address, or None and why there is none."""
        try:
            address = networking.setup_tunnel(self._host, self._port, secrets.token_urlsafe(32), None, None)
        except ChecksumMismatchError:
            return None, "the program for it that was fetched is damaged (its checksum differs); it is not run"
        except Exception as error:  # no network, no tunnel server, no such program for this machine, a read-only folder
            return None, " ".join(str(error).split())[:300] or type(error).__name__
        parts = urlsplit(address)
        with self._lock:
            if self._is_closed or not parts.hostname:
                self._kill()
                return None, "sharing was ended"
            self._name = parts.hostname.lower()
        return f"https://{parts.netloc}", ""

    def close(self) -> None:
        """Takes the link down; there will not be another one."""
        with self._lock:
            self._is_closed, self._name = True, None
            self._kill()

    def _kill(self) -> None:
        with redirect_stdout(io.StringIO()):  # Gradio prints a line of its own
            for tunnel in tunneling.CURRENT_TUNNELS:
                if tunnel.local_port == self._port:
                    tunnel.kill()


def as_picture(address: str) -> str:
    """The address as a QR code for a terminal."""
    drawn = io.StringIO()
    segno.make(address, error="l", micro=False).terminal(out=drawn, compact=True)
    return drawn.getvalue()
