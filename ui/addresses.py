"""Where a server listens: who can reach it there, under which names, and whether the port is free.

In: the address and port that the user gave. Out: answers for the guard's policy and messages for the user. It opens
nothing for longer than a look.
"""

import contextlib
import ipaddress
import os
import socket

from model_loader.errors import InvalidSetting

ANY_ADDRESS = ("0.0.0.0", "::", "[::]")  # noqa: S104 - to recognise it


def check_address(server_name: str, server_port: int) -> None:
    """Refuses an address or a port that cannot be one.

    Raises:
        InvalidSetting: it says which, and what to give.
    """
    if not server_name.strip() or any(each.isspace() or each == "/" for each in server_name):
        raise InvalidSetting(f"--server-name is {server_name!r}; give an address such as 127.0.0.1.")
    if not 1 <= server_port <= 65_535:
        raise InvalidSetting(f"--server-port is {server_port}; give a number from 1 to 65,535.")


def is_local(server_name: str) -> bool:
    """Whether this machine alone can reach a server that listens on the address."""
    if server_name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(server_name.strip("[]")).is_loopback
    except ValueError:
        return False


def names_of(server_name: str) -> list[str]:
    """The host names and addresses by which a server on the address is asked for, beside the loopback ones."""
    if server_name not in ANY_ADDRESS:
        return [server_name]
    return [socket.gethostname(), f"{socket.gethostname()}.local", *_own_addresses()]


def listen(what: str, server_name: str, server_port: int) -> socket.socket:
    """A socket that listens on address and port; `what` names the server for the message.

    Raises:
        InvalidSetting: the port is taken, or the address is none of this machine's.
    """
    host = server_name.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.getaddrinfo(host, server_port, family)  # create_server would tell it as any other fault
        return socket.create_server((host, server_port), family=family)
    except socket.gaierror:
        raise InvalidSetting(f"--server-name {server_name} is no address of this machine; try 127.0.0.1.") from None
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise InvalidSetting(
            f"{what} cannot listen on {server_name} with --server-port {server_port}: "
            f"{why}. Stop the program that does, or give another --server-port or --server-name."
        ) from None


def _own_addresses() -> list[str]:
    """The addresses that this machine would use to reach others; nothing is sent to find them."""
    found = []
    for family, elsewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, 9))
            found.append(str(probe.getsockname()[0]))
    return found
