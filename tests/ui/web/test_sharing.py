"""Sharing put together: what the host is told, links that fail, APIs without a key, and nothing that goes out."""

import contextlib
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio.exceptions import ChecksumMismatchError

from tests.scripted_model import Script, many_words
from tests.ui.test_guard import free_port
from tests.ui.web.served_page import Served, eventually
from ui.web.link import as_picture
from ui.web.login.options import SharingOptions
from ui.web.options import PageOptions
from ui.web.sharing import Sharing

# Gradio leaves event loops and their sockets to the garbage collector when it starts and when a page is closed.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ROOT = Path(__file__).parents[3]


def shared(options: PageOptions) -> Sharing:
    return Sharing(options, lambda: b"key")


def told(sharing: Sharing, enough: Callable[[list[str]], bool]) -> list[str]:
    """What the host reads in the terminal."""
    lines: list[str] = []
    sharing.announce("http://127.0.0.1:8000/", lines.append)
    eventually(lambda: enough(lines))
    return lines


def has_failed(lines: list[str]) -> bool:
    return any("no public link" in line for line in lines)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (RuntimeError("Could not get share link from Gradio API Server."), "Could not get share link"),
        (ChecksumMismatchError(), "checksum differs"),
        (OSError("this platform is incompatible"), "incompatible"),
    ],
    ids=["no network", "damaged program", "no such program"],
)
def test_a_link_that_cannot_be_made_is_said_and_the_page_stays(
    fault: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> str:
        raise fault

    monkeypatch.setattr("gradio.networking.setup_tunnel", fail)
    sharing = shared(PageOptions(sharing=SharingOptions(link=True)))
    lines = told(sharing, has_failed)
    assert reason in lines[-1]
    assert "The page stays up at http://127.0.0.1:8000/" in lines[-1]
    assert sharing.link_name() is None


def test_the_link_its_picture_and_the_password_are_printed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("gradio.networking.setup_tunnel", lambda *all_: asked.append(all_) or "http://AbC1.gradio.live")
    sharing = shared(PageOptions(server_name="0.0.0.0", server_port=8123, sharing=SharingOptions(link=True)))
    lines = told(sharing, lambda said: any("Public link" in line for line in said))
    text = "\n".join(lines)
    assert sharing._accounts is not None
    assert text.count(str(sharing._accounts.shared_password)) == 1
    assert "https://AbC1.gradio.live" in text
    assert "host?key=" in text
    assert sharing.link_name() == "abc1.gradio.live"
    assert asked[0][:2] == ("127.0.0.1", 8123)
    eventually(lambda: as_picture("https://AbC1.gradio.live") in lines)
    sharing.close()
    assert sharing.link_name() is None


def test_a_link_that_comes_after_the_end_is_taken_down_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sharing = shared(PageOptions(sharing=SharingOptions(link=True)))

    def late(*_: Any) -> str:
        sharing.close()
        return "https://late.gradio.live"

    monkeypatch.setattr("gradio.networking.setup_tunnel", late)
    assert "sharing was ended" in told(sharing, has_failed)[-1]
    assert sharing.link_name() is None


def test_ending_kills_the_tunnels_of_this_page_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class FakeTunnel:
        def __init__(self, port: int) -> None:
            self.local_port, self.is_killed = port, False

        def kill(self) -> None:
            self.is_killed = True

    ours, other = FakeTunnel(8000), FakeTunnel(9000)
    monkeypatch.setattr("gradio.tunneling.CURRENT_TUNNELS", [ours, other])
    shared(PageOptions(sharing=SharingOptions(link=True))).close()
    assert (ours.is_killed, other.is_killed) == (True, False)


def test_a_page_for_this_machine_alone_has_no_gate_and_says_nothing() -> None:
    sharing = shared(PageOptions())
    assert sharing.gate is None
    assert told(sharing, lambda _: True) == []


class OpenApi:
    """An API that asks for no key."""

    needs_key = False
    prefix = "/v1/"
    routes: tuple[Any, ...] = ()
    guarded: tuple[Any, ...] = ()

    def drain(self, timeout_s: float) -> None:
        """Nothing runs."""


@pytest.fixture
def house() -> Iterator[Served]:
    served = Served(
        Script(tokens_per_s=20, answer=many_words(400)), linger_s=0.5, sharing=SharingOptions(auth=("a:b",))
    )
    yield served
    served.close()


def log_in(served: Served) -> httpx.Client:
    client = httpx.Client(base_url=served.page.url.rstrip("/"), timeout=20)
    assert client.post("/login", data={"name": "a", "password": "b"}).status_code == 303
    return client


def event(served: Served, name: str) -> tuple[int, list[Any]]:
    """The number of an event of the page by its handler, and what its inputs hold when nobody has touched them."""
    for index, one in served.page.blocks.fns.items():
        if getattr(one.fn, "__qualname__", "") == f"Handlers.{name}":
            return index, [getattr(component, "value", None) for component in one.inputs]
    raise LookupError(name)


def call(client: httpx.Client, served: Served, name: str, *first: Any) -> httpx.Response:
    index, values = event(served, name)
    data = [*first, *values[len(first) :]]
    body = {"data": data, "fn_index": index, "session_hash": "s1", "event_data": None, "trigger_id": None}
    return client.post("/gradio_api/run/predict", json=body)


def test_an_answer_whose_page_never_listens_ends_and_its_owner_is_the_account(house: Served) -> None:
    with contextlib.closing(log_in(house)) as client:
        assert call(client, house, "attach", "ab" * 16, "").status_code == 200
        assert call(client, house, "ask", "hello", "").status_code == 200
        eventually(lambda: house.model.num_streams == 1)
        began = time.monotonic()
        eventually(lambda: house.model.num_streams == 0)
        assert time.monotonic() - began < 8
    (conversation,) = house.page.conversations._loaded.values()
    assert conversation.owner != "ab" * 16
    assert conversation.path()[-1].state == "interrupted"


def test_an_api_without_a_key_is_never_served_where_a_login_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.scripted_model import ScriptedLoad, ScriptedModel
    from ui.web.launch import ServedPage

    options = PageOptions(server_port=free_port(), sharing=SharingOptions(auth=("a:b",)))
    page = ServedPage(ScriptedLoad(ScriptedModel()), options, None, OpenApi())  # type: ignore[arg-type]
    try:
        assert page._api is None
    finally:
        page.close()
        gc.collect()


_OUTBOUND = """
import socket, sys
calls = []
def watched(name, original):
    def call(self, address, *rest):
        host = address[0] if isinstance(address, tuple) else str(address)
        if self.family in (socket.AF_INET, socket.AF_INET6) and host not in ("127.0.0.1", "::1", "localhost"):
            calls.append((name, host))
            raise OSError("outbound")
        return original(self, address, *rest)
    return call
for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, watched(name, getattr(socket.socket, name)))
resolve = socket.getaddrinfo
def getaddrinfo(host, *rest, **more):
    if host not in (None, "127.0.0.1", "::1", "localhost", b"127.0.0.1", b"localhost"):
        calls.append(("getaddrinfo", host))
        raise OSError("outbound")
    return resolve(host, *rest, **more)
socket.getaddrinfo = getaddrinfo
import time, urllib.request
from tests.scripted_model import ScriptedLoad, ScriptedModel
from ui.web.launch import ServedPage
from ui.web.options import PageOptions
page = ServedPage(ScriptedLoad(ScriptedModel()), PageOptions(server_port=int(sys.argv[1])))
assert urllib.request.urlopen(page.url).status == 200
time.sleep(1)
print("CALLS", calls)
page.close()
"""


def test_nothing_is_sent_out_when_the_page_starts() -> None:
    hostile = {"GRADIO_SHARE": "true", "GRADIO_ANALYTICS_ENABLED": "True", "GRADIO_SERVER_NAME": "0.0.0.0"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _OUTBOUND, str(free_port())],
        cwd=ROOT, env={**os.environ, **hostile, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    assert "CALLS []" in done.stdout, done.stdout + done.stderr
