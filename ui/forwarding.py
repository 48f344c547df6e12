"""Who sent a request, where proxies stand in between.

In: an ASGI scope with the address at the other end of its connection. Out: the scope as the application may see it.
A header that says where a request came from is believed only if a proxy of ours set it; anybody can send one.
"""

import ipaddress
import re
from collections.abc import Callable, MutableMapping
from typing import Any

from ui.limits import LOCAL

_HAS_PORT = re.compile(r":\d{1,5}$")
_NAMES = (b"forwarded", b"x-real-ip", b"x-original-url", b"x-rewrite-url")
_UNWANTED = (b"range", b"if-range", b"x-gradio-server")
"""Never passed on: nothing here is worth sending in thousands of parts, and Gradio takes its own address from one."""


def as_sent(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The request of somebody who connected directly: without headers that say otherwise."""
    return {**scope, "headers": _without(scope, lambda name: _is_forwarding(name) or name in _UNWANTED)}


def through_proxy(scope: MutableMapping[str, Any], allows_host: Callable[[str], bool]) -> MutableMapping[str, Any]:
    """The request as a trusted proxy describes it: its client, its scheme, and the host that was asked if it is ours.

    Some proxies put their own name for us in Host; a browser's Origin has the one that was asked.
    """
    asked = _last(scope, b"x-forwarded-host")
    is_ours = bool(asked) and allows_host(asked.rpartition(":")[0] if _HAS_PORT.search(asked) else asked)
    dropped = (*_UNWANTED, b"host" if is_ours else b"x-forwarded-host")
    headers = _without(scope, lambda name: name in dropped)
    headers += [(b"host", asked.encode("latin-1"))] if is_ours else []
    scheme = "https" if _last(scope, b"x-forwarded-proto") == "https" else scope.get("scheme", "http")
    return {**scope, "headers": headers, "client": (_client(scope), 0), "scheme": scheme}


def through_tunnel(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The request through Gradio's tunnel, which speaks https with the client. Its words about the client are no proof;
    they serve to tell clients apart, under limits for all of them together."""
    client = _client(scope)
    return {**as_sent(scope), "client": (client, 0), "scheme": "https"}


def name_of(scope: MutableMapping[str, Any], *, is_direct: bool) -> str:
    """What limits call the client: its address, or LOCAL for this machine itself."""
    address = scope["client"][0] if scope.get("client") else ""
    if is_direct and (not address or _is(address, "is_loopback")):
        return LOCAL
    return address or "unknown"


def _is_forwarding(name: bytes) -> bool:
    return name.startswith(b"x-forwarded-") or name in _NAMES


def _client(scope: MutableMapping[str, Any]) -> str:
    """The last address in X-Forwarded-For that is none of a private network: what stands before it can be made up."""
    named = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    addresses = [each.strip() for each in ",".join(named).split(",")]
    known = [each for each in addresses if _is(each, "version")]
    public = [each for each in known if _is(each, "is_global")]
    if public or known:
        return (public or known)[-1]
    return str(scope["client"][0]) if scope.get("client") else "unknown"


def _is(address: str, what: str) -> bool:
    try:
        return bool(getattr(ipaddress.ip_address(address), what))
    except ValueError:
        return False


def _last(scope: MutableMapping[str, Any], wanted: bytes) -> str:
    values = [value for name, value in scope["headers"] if name == wanted]
    return values[-1].decode("latin-1").split(",")[0].strip() if values else ""


def _without(scope: MutableMapping[str, Any], is_dropped: Callable[[bytes], bool]) -> list[tuple[bytes, bytes]]:
    return [row for row in scope["headers"] if not is_dropped(row[0])]
