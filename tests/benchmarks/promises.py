"""What is promised of the page under load, and how each promise is measured from outside.

In goes a running `SoakServer` and how much to do; out come figures. The limits are written once, here; `soak.py` prints
them beside the figures, the tests hold shorter forms to twice the limit.
"""

import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import httpx
import psutil

from tests.benchmarks.page_tab import ServerFault, Tab, open_client
from tests.benchmarks.soak_server import SoakServer, words

_ASK_AGAIN_S = 0.05
_LOOK_S = 0.02


@dataclass(frozen=True)
class Promise:
    """One promise: the figure is held while it is not over (or, with `is_floor`, not under) the limit.

    A soak of fewer than `minutes` cannot tell.
    """

    row: str
    says: str
    unit: str
    limit: float
    is_floor: bool = False
    minutes: float = 0.0

    def is_held(self, value: float, slack: float = 1.0) -> bool:
        """Whether a figure keeps it; slack 2 allows twice the limit, or half the floor."""
        return value >= self.limit / slack if self.is_floor else value <= self.limit * slack


PROMISES = {
    "page_p95_ms": Promise("P1", "the page arrives while 20 chats stream (p95)", "ms", 300),
    "first_mark_ms": Promise("P1", "a question shows a sign of life", "ms", 1000),
    "gap_p95_ms": Promise("P2", "20 streams: time between updates (p95)", "ms", 300),
    "wrong_texts": Promise("P2", "20 streams: answers with a lost or doubled token", "", 0),
    "places_told_ms": Promise("P3", "100 readers, 1 slot: each is told its place", "ms", 1000),
    "unanswered": Promise("P3", "100 readers, 1 slot: not answered", "", 0),
    "out_of_turn": Promise("P3", "100 readers, 1 slot: places out of turn", "", 1),
    "stop_ms": Promise("P4", "Stop frees the model", "ms", 1000),
    "leave_ms": Promise("P4", "a closed tab frees the model, beyond --linger", "ms", 1000),
    "after_leavers_ms": Promise("P4", "after 200 readers left: the next one is answered", "ms", 5000),
    "lag_p999_ms": Promise("P5", "event loop during all of it (p99.9)", "ms", 100),
    "too_large_ms": Promise("P5", "a body over the limit is refused", "ms", 50),
    "probe_p99_ms": Promise("P6", "the smallest request during all of it (p99)", "ms", 50),
    "kb_per_session": Promise("P7", "memory for a session with 10 KB of chat", "KB", 60),
    "growth_mb": Promise("P7", "mixed traffic: least memory of the second half over the first's", "MB", 5),
    "growth_mb_per_h": Promise("P7", "mixed traffic: memory's slope", "MB/h", 5, minutes=60),
    "descriptors": Promise("P7", "descriptors afterwards, against before", "", 10),
    "threads": Promise("P7", "threads afterwards, against before", "", 2),
    "server_errors": Promise("P7", "answers with 5xx under mixed traffic", "", 0),
    "abuse_ratio": Promise("P8", "50 requests/s of one client slow another's", "x", 2),
    "exit_s": Promise("P9", "SIGTERM with answers running ends with status 0", "s", 10),
    "lost_at_exit": Promise("P9", "acknowledged messages lost by SIGTERM", "", 0),
    "lost_at_kill": Promise("P9", "acknowledged messages lost by kill -9", "", 0),
    "updates_per_s": Promise("P10", "updates behind 200 messages, 60 KB", "/s", 5, is_floor=True),
    "paste_ms": Promise("P10", "64 KB pasted are taken or refused", "ms", 1000),
    "turn_answers": Promise("P11", "50 API clients, 1 slot: answers before a page's", "", 2),
    "api_faults": Promise("P11", "50 API clients, 1 slot: answered otherwise than 200, 429", "", 0),
    "list_ms": Promise("P12", "the list among 10,000 conversations", "ms", 1000),
    "open_ms": Promise("P12", "one of 10,000 conversations is opened", "ms", 200),
    "start_s": Promise("P12", "from start to the open port, without a model", "s", 5),
}


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@contextlib.asynccontextmanager
async def tabs(server: SoakServer, number: int) -> AsyncIterator[list[Tab]]:
    """So many open tabs of different owners, closed at the end."""
    async with open_client(server.url) as client:
        opened = [Tab(client, server.numbers) for _ in range(number)]
        try:
            await asyncio.gather(*(tab.open() for tab in opened))
            yield opened
        finally:
            await asyncio.gather(*(tab.close() for tab in opened))


async def streams_side_by_side(server: SoakServer, num_streams: int = 20, num_words: int = 200) -> dict[str, float]:
    """P1 and P2: readers at 20 tokens a second each, and the page loaded again and again among them."""
    text = words(num_words)
    server.tell(answer=text, tokens_per_s=20, num_slots=num_streams)
    marks, gaps, loads = [], [], []
    num_wrong = 0

    async def read(tab: Tab) -> None:
        nonlocal num_wrong
        began = time.perf_counter()
        updates = await tab.answer("Go on")
        marks.append(1000 * (updates[0].at_s - began))
        times = [update.at_s for update in updates]
        gaps.extend(1000 * (later - sooner) for sooner, later in itertools.pairwise(times))
        num_wrong += updates[-1].text.replace("\u2060", "") != text

    async def load(client: httpx.AsyncClient) -> None:
        for _ in range(30):
            began = time.perf_counter()
            (await client.get("/")).raise_for_status()
            loads.append(1000 * (time.perf_counter() - began))
            await asyncio.sleep(num_words / 20 / 40)

    async with tabs(server, num_streams) as opened, httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        await asyncio.gather(*(read(tab) for tab in opened), load(client))
    return {
        "page_p95_ms": percentile(loads, 0.95),
        "first_mark_ms": max(marks),
        "gap_p95_ms": percentile(gaps, 0.95),
        "wrong_texts": num_wrong,
    }


async def many_for_one_slot(server: SoakServer, num_readers: int = 100) -> dict[str, float]:
    """P3: they arrive a twenty-fifth of a second after one another and are answered one by one."""
    server.tell(answer=words(5), tokens_per_s=50, num_slots=1, forget=True)
    told: list[float] = []
    asked: list[str] = []
    num_answered = 0

    async def read(tab: Tab, number: int) -> None:
        nonlocal num_answered
        await asyncio.sleep(number / 25)
        began = time.perf_counter()
        if await tab.ask(f"question {number}"):
            return
        asked.append(f"question {number}")
        async for update in tab.follow():
            if len(told) <= num_readers and began:
                told.append(1000 * (update.at_s - began))
                began = 0.0
        num_answered += 1

    async with tabs(server, num_readers) as opened:
        await asyncio.gather(*(read(tab, number) for number, tab in enumerate(opened)))
    served = {question: place for place, question in enumerate(server.tell(num_slots=20)["served"])}
    return {
        "places_told_ms": percentile(told, 0.99),
        "unanswered": num_readers - num_answered,
        "out_of_turn": max(abs(served[question] - place) for place, question in enumerate(asked)),
    }


async def idle_after_ms(server: SoakServer, timeout_s: float = 20) -> float:
    """Milliseconds until the model answers nobody; the timeout if it does not stop."""
    began = time.perf_counter()
    while time.perf_counter() - began < timeout_s:
        told = server.tell()
        if not told["running"] and not told["waiting"]:
            break
        await asyncio.sleep(_LOOK_S)
    return 1000 * (time.perf_counter() - began)


async def stopping_and_leaving(server: SoakServer, linger_s: float, num: int = 10) -> dict[str, float]:
    """P4: Stop, and closing the tab, in the middle of an answer."""
    server.tell(answer=words(2000), tokens_per_s=20, num_slots=20)
    stops, leaves = [], []
    for number in range(num):
        async with tabs(server, 1) as (tab,):
            await tab.ask("Go on")
            following = tab.follow()
            await anext(following)
            if number % 2 == 0:
                began = time.perf_counter()
                await tab.stop()
                await idle_after_ms(server)
                stops.append(1000 * (time.perf_counter() - began))
                await tab.call("Handlers.clear", [None])
            await following.aclose()
        if number % 2:
            leaves.append(await idle_after_ms(server) - 1000 * linger_s)
    return {"stop_ms": max(stops), "leave_ms": max(leaves)}


async def after_leavers(server: SoakServer, num_leavers: int = 200, at_once: int = 40) -> dict[str, float]:
    """P4: readers that give up after half a second each, then one that wants an answer."""
    server.tell(answer=words(200), tokens_per_s=20, num_slots=20)

    async def give_up(tab: Tab) -> None:
        await tab.ask("Go on")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                async for _update in tab.follow():
                    pass

    for _ in range(num_leavers // at_once):
        async with tabs(server, at_once) as opened:
            await asyncio.gather(*(give_up(tab) for tab in opened))
    server.tell(answer="here I am", tokens_per_s=50)
    async with tabs(server, 1) as (tab,):
        began = time.perf_counter()
        updates = await tab.answer("still there?")
        assert "here I am" in updates[-1].text
    return {"after_leavers_ms": 1000 * (time.perf_counter() - began)}


async def too_large(server: SoakServer, num: int = 20) -> dict[str, float]:
    """P5: a body of ten megabytes, announced."""
    times = []
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        for _ in range(num):
            began = time.perf_counter()
            with contextlib.suppress(httpx.WriteError, httpx.ReadError):  # it hangs up before all has been sent
                response = await client.post("/gradio_api/queue/join", content=b"[" * 10_000_000)
                assert response.status_code == 413
            times.append(1000 * (time.perf_counter() - began))
    return {"too_large_ms": statistics.median(times)}


async def memory_of_sessions(server: SoakServer, num_sessions: int, at_once: int = 20) -> dict[str, float]:
    """P7: tabs that each hold a chat of 10 KB, all of them open at the same time; an eighth of them goes first.

    The server lets 200 streams be open, and each tab keeps one.
    """
    server.tell(answer=words(1000), tokens_per_s=1e6, num_slots=20)
    process = psutil.Process(server.pid)
    before = process.memory_info().rss

    async def chat(tab: Tab) -> None:
        await tab.open()
        await tab.answer("q" * 5000)

    async with open_client(server.url) as client:
        opened = [Tab(client, server.numbers) for _ in range(num_sessions)]
        try:
            for first in range(0, num_sessions, at_once):
                await asyncio.gather(*(chat(tab) for tab in opened[first : first + at_once]))
                if first <= num_sessions // 8:
                    before, num_before = process.memory_info().rss, first + at_once
            grown = process.memory_info().rss - before
        finally:
            await asyncio.gather(*(tab.close() for tab in opened))
    return {"kb_per_session": max(0.0, grown / 1024 / (num_sessions - num_before))}


async def abuse(server: SoakServer, num: int = 40, per_s: float = 50) -> dict[str, float]:
    """P8: how long a tab's requests take alone, and while another client sends fifty a second."""
    quiet, noisy = [], []
    async with tabs(server, 2) as (tab, other):

        async def ask_for_list(times: list[float]) -> None:
            for _ in range(num):
                began = time.perf_counter()
                await tab.call("HistoryHandlers.show", [None, "", "", ""])
                times.append(1000 * (time.perf_counter() - began))
                await asyncio.sleep(0.02)

        async def annoy() -> None:
            sent: set[asyncio.Task[list[object]]] = set()
            while True:
                sent.add(asyncio.create_task(other.call("HistoryHandlers.show", [None, "", "", ""])))
                await asyncio.sleep(1 / per_s)
                sent = {task for task in sent if not task.done()}

        await ask_for_list(quiet)
        annoying = asyncio.create_task(annoy())
        await ask_for_list(noisy)
        annoying.cancel()
        await asyncio.gather(annoying, return_exceptions=True)
        await asyncio.sleep(0.5)
    return {"abuse_ratio": statistics.median(noisy) / statistics.median(quiet)}


async def fair_share(server: SoakServer, num_clients: int = 50, num_questions: int = 5) -> dict[str, float]:
    """P11: API clients ask again and again for the one slot; how many of their answers a tab's question waits for."""
    server.tell(answer=words(20), tokens_per_s=20, num_slots=1, forget=True)
    waits: list[int] = []
    num_faults = 0

    async def keep_asking(client: httpx.AsyncClient) -> None:
        nonlocal num_faults
        body = {"model": "scripted", "messages": [{"role": "user", "content": "for a program"}]}
        while True:
            response = await client.post("/v1/chat/completions", json=body)
            num_faults += response.status_code not in (200, 429)
            await asyncio.sleep(_ASK_AGAIN_S)

    async with open_client(server.url) as client, tabs(server, 1) as (tab,):
        asking = [asyncio.create_task(keep_asking(client)) for _ in range(num_clients)]
        while server.tell()["waiting"] < num_clients // 2:
            await asyncio.sleep(_LOOK_S)
        for number in range(num_questions):
            num_served = len(server.tell()["served"])
            await tab.answer(f"question {number}")
            waits.append(server.tell()["served"].index(f"question {number}") - num_served + 1)  # one runs already
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    await idle_after_ms(server)
    return {"turn_answers": statistics.median(waits), "api_faults": num_faults}


async def long_conversation(server: SoakServer, owner: str, conversation_id: str) -> dict[str, float]:
    """P10: an answer behind a long conversation, and a paste of 64 KB."""
    server.tell(answer=words(80), tokens_per_s=20, num_slots=20)
    async with open_client(server.url) as client:
        tab = Tab(client, server.numbers, owner)
        await tab.open(conversation_id)
        updates = await tab.answer("Go on")
        began = time.perf_counter()
        await tab.ask("x" * 65_000)
        paste_ms = 1000 * (time.perf_counter() - began)
        await tab.stop()
        await tab.close()
    return {
        "updates_per_s": (len(updates) - 1) / (updates[-1].at_s - updates[0].at_s),
        "paste_ms": paste_ms,
    }


async def many_conversations(server: SoakServer, owner: str, conversation_id: str) -> dict[str, float]:
    """P12: the list of an owner of many conversations, and opening one of them."""
    lists, opens = [], []
    async with open_client(server.url) as client:
        for _ in range(5):
            tab = Tab(client, server.numbers, owner)
            began = time.perf_counter()
            await tab.open(conversation_id)
            if tab.conversation_id != conversation_id:
                raise ServerFault("another conversation was opened")
            opens.append(1000 * (time.perf_counter() - began))
            began = time.perf_counter()
            await tab.call("HistoryHandlers.show", [None, "", "", ""])
            lists.append(1000 * (time.perf_counter() - began))
            await tab.close()
    return {"list_ms": statistics.median(lists), "open_ms": statistics.median(opens)}
