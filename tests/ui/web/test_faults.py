"""Faults around the page: broken handlers, rude clients, a full table of descriptors, signals, a lost terminal."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.benchmarks.page_tab import PANEL_NOT_FILLED, ServerFault, Tab, open_client
from tests.benchmarks.soak_server import SoakServer, words
from tests.scripted_model import Script
from tests.ui.web.served_page import Served, eventually
from ui.chat.database import Database

# Gradio leaves its event loop and some sockets to the garbage collector when a page is closed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SECRET = "unmistakable-secret"


def numbers_of(served: Served) -> dict[str, int]:
    return {getattr(event.fn, "__qualname__", ""): number for number, event in reversed(served.page.blocks.fns.items())}


def visit(served: Served, what: Callable[[Tab], Any]) -> Any:
    """Runs a coroutine of an open tab."""

    async def run() -> Any:
        async with open_client(served.page.url) as client:
            tab = Tab(client, numbers_of(served))
            try:
                await tab.open()
                return await what(tab)
            finally:
                await tab.close()

    return asyncio.run(run())


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    served = Served(Script())
    yield served
    served.close()


@pytest.fixture(autouse=True)
def begin_again(served: Served) -> None:
    served.begin_again(Script(answer="one two three", tokens_per_s=500))


def test_what_was_typed_and_answered_never_gets_into_the_log(
    served: Served, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def talk(tab: Tab) -> None:
        await tab.answer(f"Tell nobody: {SECRET}")
        served.model.script = Script(answer=SECRET, fail_at=0, error=ValueError(f"cannot read {SECRET!r}"))
        await tab.answer(SECRET)
        with pytest.raises(ServerFault):
            await tab.call("HistoryHandlers.show", [None, SECRET])  # one value too few
        monkeypatch.setattr(served.page.conversations, "listing", lambda *_a, **_k: {}[SECRET])
        with pytest.raises(ServerFault):
            await tab.call("HistoryHandlers.show", [None, SECRET, "", ""])

    visit(served, talk)
    printed = capfd.readouterr()
    said = printed.out + printed.err + caplog.text
    assert "Answer failed, fault" in said
    assert "HistoryHandlers.show failed, fault" in said
    assert SECRET not in said


def test_a_fault_in_a_handler_is_a_sentence_with_an_id_and_the_page_goes_on(
    served: Served, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_it(tab: Tab) -> httpx.Response:
        with monkeypatch.context() as broken:
            broken.setattr(served.page.conversations, "check_question", lambda *_: {}[SECRET])
            data = ["hello", "", "", None, *PANEL_NOT_FILLED]
            number = numbers_of(served)["Handlers.ask"]
            body = {"data": data, "fn_index": number, "session_hash": tab.session}
            response = await tab._client.post("/gradio_api/run/predict", json=body)
        assert (await tab.answer("again"))[-1].text == "one two three"
        return response

    response = visit(served, break_it)
    said = response.json()["error"]
    assert "Its log names this fault" in said
    fault_id = said.rstrip(".").split()[-1]
    assert f"Handlers.ask failed, fault {fault_id}: KeyError" in caplog.text
    assert SECRET not in response.text + caplog.text


def test_a_head_that_is_not_finished_in_time_closes_its_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ui.request_head.HEAD_S", 0.3)
    host, port = served.page.url.removeprefix("http://").strip("/").split(":")
    for beginning in (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n"):
        with socket.create_connection((host, int(port)), timeout=5) as half:
            half.sendall(beginning)
            assert half.recv(100) == b""

    async def talk(tab: Tab) -> str:  # whose streams stay open for longer than that
        return (await tab.answer("Am I cut?"))[-1].text

    served.model.script = Script(answer="one two three", tokens_per_s=5)
    assert visit(served, talk) == "one two three"


def test_half_requests_and_clients_that_vanish_take_nothing_from_others(served: Served) -> None:
    host, port = served.page.url.removeprefix("http://").strip("/").split(":")
    process = psutil.Process()
    before = process.num_fds()
    beginnings = (b"", b"GE", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"POST /gradio_api/queue/join HTTP/1.1\r\n"
                  b"Host: localhost\r\nContent-Length: 100\r\n\r\n{")  # fmt: skip
    halves = []
    for number in range(80):
        halves.append(socket.create_connection((host, int(port)), timeout=5))
        halves[-1].sendall(beginnings[number % len(beginnings)])

    async def ask(tab: Tab) -> float:
        began = time.monotonic()
        assert (await tab.answer("Am I alone?"))[-1].text == "one two three"
        return time.monotonic() - began

    assert visit(served, ask) < 5
    for half in halves:
        half.close()
    eventually(lambda: process.num_fds() <= before + 10)
    assert visit(served, ask) < 5


def test_a_reader_that_vanishes_without_a_word_lets_its_answer_end(served: Served) -> None:
    served.model.script = Script(answer=words(5000), tokens_per_s=50)

    async def vanish(tab: Tab) -> None:
        await tab.ask("Go on")
        async for update in tab.follow():
            if update.text:
                return

    served.page.answers._linger_s = 0.5
    visit(served, vanish)
    eventually(lambda: served.model.num_streams == 0)
    served.page.answers._linger_s = 10.0
    assert served.path()[-1].state == "interrupted"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SoakServer]:
    server = SoakServer(tmp_path / "history.db")
    yield server
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.close()


async def begin(server: SoakServer, client: httpx.AsyncClient, text: str) -> Tab:
    """A tab in which an answer is being written."""
    tab = Tab(client, server.numbers)
    await tab.open()
    assert await tab.ask(text) == ""
    async for update in tab.follow():
        if "word" in update.text:
            break
    return tab


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_NOFILE"), reason="limits of another process are Linux's own")
def test_when_descriptors_run_out_the_page_recovers(server: SoakServer) -> None:
    psutil.Process(server.pid).rlimit(psutil.RLIMIT_NOFILE, (96, 96))
    host, port = server.url.removeprefix("http://").split(":")
    server.tell(answer="still here", tokens_per_s=500)

    async def ask() -> str:
        async with open_client(server.url) as client:
            tab = Tab(client, server.numbers)
            await tab.open()
            text = (await tab.answer("hello?"))[-1].text
            await tab.close()
            return text

    crowd = []
    for _ in range(150):
        with contextlib.suppress(OSError):
            crowd.append(socket.create_connection((host, int(port)), timeout=1))
    assert len(crowd) > 50
    for one in crowd:
        one.close()
    time.sleep(1.2)  # the server waits a second before it accepts again
    assert asyncio.run(asyncio.wait_for(ask(), 20)) == "still here"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_partial_answers_and_leaves_no_child_and_no_port(
    server: SoakServer, tmp_path: Path, number: signal.Signals
) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("this run ignores hang-ups, as under nohup, and so does what it starts")
    server.tell(answer=words(2000), tokens_per_s=40)
    host, port = server.url.removeprefix("http://").split(":")

    async def two_answers() -> list[str]:
        async with open_client(server.url) as client:
            tabs = [await begin(server, client, f"question {at}") for at in range(2)]
            children = psutil.Process(server.pid).children(recursive=True)
            os.kill(server.pid, number)
            assert await asyncio.to_thread(server.process.wait, 10) == 0
            assert not [child for child in children if child.is_running()]
            return [tab.conversation_id for tab in tabs]

    kept = asyncio.run(two_answers())
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0
    database = Database(tmp_path / "history.db")
    for at, conversation_id in enumerate(kept):
        question, answer = database.messages(conversation_id)
        assert question.text == f"question {at}"
        assert answer.state == "interrupted"
        assert answer.text.startswith("word0 ")
    database.close()


def test_a_model_that_hangs_keeps_the_program_no_longer_than_ten_seconds(server: SoakServer, tmp_path: Path) -> None:
    server.tell(answer=words(20), tokens_per_s=40, hang_at=3)

    async def hang() -> str:
        async with open_client(server.url) as client:
            tab = await begin(server, client, "question")
            began = time.monotonic()
            os.kill(server.pid, signal.SIGTERM)
            assert await asyncio.to_thread(server.process.wait, 15) == 0
            assert time.monotonic() - began < 10
            return tab.conversation_id

    conversation_id = asyncio.run(hang())
    database = Database(tmp_path / "history.db")
    said = database.messages(conversation_id)[1].text
    assert said
    assert "word0 word1 word2 ".startswith(said)
    database.close()


@pytest.mark.timed
def test_a_second_signal_ends_at_once(server: SoakServer) -> None:
    server.tell(answer=words(20), tokens_per_s=40, hang_at=3)

    async def twice() -> None:
        async with open_client(server.url) as client:
            await begin(server, client, "question")
            os.kill(server.pid, signal.SIGTERM)
            await asyncio.sleep(0.5)
            began = time.monotonic()
            os.kill(server.pid, signal.SIGTERM)
            assert await asyncio.to_thread(server.process.wait, 5) == 1
            assert time.monotonic() - began < 2

    asyncio.run(twice())


def test_a_terminal_that_goes_away_does_not_take_the_page_with_it(tmp_path: Path) -> None:
    server = SoakServer(tmp_path / "history.db")
    server.tell(answer="still here", tokens_per_s=500)
    assert server.process.stdout is not None
    server.process.stdout.close()

    async def ask() -> str:
        async with open_client(server.url) as client:
            tab = Tab(client, server.numbers)
            await tab.open()
            text = (await tab.answer("hello?"))[-1].text
            await tab.close()
            return text

    assert asyncio.run(ask()) == "still here"
    os.kill(server.pid, signal.SIGTERM)
    assert server.process.wait(10) == 0
    assert server.process.stdin is not None
    server.process.stdin.close()
