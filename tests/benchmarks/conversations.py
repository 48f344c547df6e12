"""What many conversations, long ones and many readers cost, and what a killed program and a full disk lose.

    python -m tests.benchmarks.conversations [--kills N]

The server runs in a process of its own, with a scripted model; its readers speak to it as a browser does.
"""

import argparse
import asyncio
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.benchmarks.page_tab import PANEL_NOT_FILLED
from tests.benchmarks.start import ROOT, free_port
from tests.scripted_model import Script, ScriptedLoad, ScriptedModel
from tests.ui.chat.test_database import check_nothing_is_missing, kill_while_writing
from ui.chat.conversation import Conversation, ConversationRecord
from ui.chat.conversations import Conversations
from ui.chat.database import Database
from ui.chat.message import StoredMessage, new_id

OWNER = "d" * 32
NUM_CONVERSATIONS = 10_000
NUM_READERS = 32
TOKENS, TOKENS_PER_S = 500, 50
_PARAGRAPH = "A sentence of ten words stands here again and again. " * 12


def kills(number: int) -> dict[str, float]:
    """Kills a writing program at random moments, each time with the file of the time before."""
    acknowledged = 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "history.db"
        for seed in range(number):
            said = kill_while_writing(place, random.Random(seed).uniform(0.0, 0.3))
            check_nothing_is_missing(place, said)
            acknowledged += len(said.questions)
    return {"kills": number, "acknowledged_writes": acknowledged, "lost_writes": 0}


def full_disk() -> dict[str, float]:
    """Fills a disk of one megabyte, in a mount namespace of its own, until nothing more can be saved."""
    program = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=1m none "$1" && exec "$2" -m "$3" fill "$1"', "sh"]
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [*program, folder, sys.executable, "tests.benchmarks.conversations"],
            cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    return json.loads(run.stdout.splitlines()[-1]) if run.returncode == 0 else {"full_disk_unavailable": 1}


def fill(folder: Path) -> dict[str, float]:
    """Saves until the disk is full; then reads back what was acknowledged, and what is still in memory."""
    place = folder / "history.db"
    store = Conversations(lambda _id: False, database=Database(place))
    kept: list[Conversation] = []
    while len(kept) < 10_000:
        conversation = store.create(OWNER)
        conversation.add_user(_PARAGRAPH)
        if not store.save(conversation):
            break
        kept.append(conversation)
    assert store.problem is not None
    shown = conversation.path()[-1].text == _PARAGRAPH
    store.database.close()
    again = Database(place)
    found = sum(again.messages(one.id)[0].text == _PARAGRAPH for one in kept)
    again.close()
    return {"saved_before_full": len(kept), "found_after_full": found, "unsaved_still_shown": int(shown)}


def many() -> dict[str, float]:
    """Seconds to list, search and open among ten thousand conversations."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "history.db"
        longest = _write_many(Database(place))
        store = Conversations(lambda _id: False, database=Database(place))
        rows = {
            "list_page_s": lambda: store.listing(OWNER, limit=61),
            "list_all_s": lambda: store.listing(OWNER, limit=NUM_CONVERSATIONS),
            "search_word_s": lambda: store.listing(OWNER, "needle", limit=61),
            "search_two_characters_s": lambda: store.listing(OWNER, "东京", limit=61),
            "open_1000_messages_s": lambda: (store._loaded.clear(), store.find(OWNER, longest)),
        }
        figures = {name: _median_s(task) for name, task in rows.items()}
        store.close()
    return figures


def _write_many(database: Database) -> str:
    """Ten thousand conversations of four messages, one of a thousand; returns that one's id."""
    with database._write_lock:
        database._writing.execute("PRAGMA synchronous = OFF")
    for number in range(NUM_CONVERSATIONS - 1):
        words = " needle" if number == 4321 else " 东京" if number == 1234 else ""
        _write_one(database, 4, f"Conversation {number}", _PARAGRAPH[:300] + words)
    longest = _write_one(database, 1000, "The longest", _PARAGRAPH)
    database.close()
    return longest


def _write_one(database: Database, num_messages: int, title: str, text: str) -> str:
    messages: list[StoredMessage] = []
    for at in range(num_messages):
        parent_id = messages[-1].id if messages else None
        messages.append(StoredMessage("assistant" if at % 2 else "user", text, parent_id))
    record = ConversationRecord(new_id(), OWNER, title, head=messages[-1].id)
    database.save(record, messages)
    return record.id


def _median_s(task: Any) -> float:
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        task()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


# The page, read as a browser reads it


def serve(port: int) -> None:
    """The page with a scripted model, until its standard input ends; its CPU seconds are said at each line of it."""
    from ui.web.launch import ServedPage
    from ui.web.options import PageOptions

    script = Script(answer=" ".join(f"word{at}" for at in range(TOKENS)), tokens_per_s=TOKENS_PER_S)
    load: Any = ScriptedLoad(ScriptedModel(script, context_length=10_000_000))
    page = ServedPage(load, PageOptions(server_port=port))
    names = [(fn.name, number) for number, fn in page.blocks.fns.items()]
    numbers = {name: next(number for known, number in names if known == name) for name in ("attach", "follow", "ask")}
    print(json.dumps(numbers), flush=True)
    for line in sys.stdin:
        num_messages = int(line)
        conversation = None
        if num_messages:
            conversation = page.conversations.create(OWNER)
            for at in range(num_messages // 2):
                answer = conversation.start_answer(conversation.add_user(f"{at}: {_PARAGRAPH[:200]}").id)
                conversation.grow(answer.id, _PARAGRAPH)
                conversation.amend(answer.id, state="complete")
        used = resource.getrusage(resource.RUSAGE_SELF)
        said = {"cpu_s": used.ru_utime + used.ru_stime, "conversation_id": conversation.id if conversation else ""}
        print(json.dumps(said), flush=True)
    page.close()


class Server:
    """The server's process, and one reader's way through it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        program = [sys.executable, "-m", "tests.benchmarks.conversations", "serve", str(port)]
        self.process = subprocess.Popen(program, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.numbers = self._said()

    def tell(self, num_messages: int = 0) -> dict[str, Any]:
        """Asks for the CPU seconds so far and, with a number, for a conversation of so many messages."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{num_messages}\n")
        self.process.stdin.flush()
        return self._said()

    def _said(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    async def read_one_answer(self, owner: str, conversation_id: str) -> tuple[float, int]:
        """Asks a question and follows its answer; returns seconds and the number of updates."""
        async with httpx.AsyncClient(base_url=self.url, timeout=120) as client:
            session = new_id()[:11]
            await self._call(client, session, "attach", [owner, conversation_id])
            begin = time.perf_counter()
            settings = PANEL_NOT_FILLED
            await self._call(client, session, "ask", ["Go on", "", "", None, *settings])
            joined = {"data": [None], "fn_index": self.numbers["follow"], "session_hash": session}
            (await client.post("/gradio_api/queue/join", json=joined)).raise_for_status()
            updates = 0
            stream = client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session})
            async with stream as response:
                async for line in response.aiter_lines():
                    updates += '"process_generating"' in line
                    if '"process_completed"' in line:
                        break
            return time.perf_counter() - begin, updates

    async def _call(self, client: httpx.AsyncClient, session: str, name: str, data: list[Any]) -> None:
        body = {"data": data, "fn_index": self.numbers[name], "session_hash": session}
        (await client.post("/gradio_api/run/predict", json=body)).raise_for_status()


@contextmanager
def server() -> Iterator[Server]:
    """A server on a free port, ended with the block."""
    running = Server(free_port())
    try:
        yield running
    finally:
        assert running.process.stdin is not None
        running.process.stdin.close()
        running.process.wait(30)


def long_conversations() -> dict[str, float]:
    """The server's CPU for each update of a streaming answer behind 60 and behind 1,000 messages."""
    figures = {}
    with server() as running:
        asyncio.run(running.read_one_answer(new_id(), ""))  # the first one pays for what is imported late
        for num_messages in (60, 1000, 60, 1000):
            told = running.tell(num_messages)
            _seconds, updates = asyncio.run(running.read_one_answer(OWNER, told["conversation_id"]))
            used_s = running.tell()["cpu_s"] - told["cpu_s"]
            name = f"update_cpu_ms_behind_{num_messages}"
            figures[name] = min(figures.get(name, 1e9), 1000 * used_s / max(updates, 1))
    figures["update_cpu_ratio"] = figures["update_cpu_ms_behind_1000"] / figures["update_cpu_ms_behind_60"]
    return figures


def many_readers() -> dict[str, float]:
    """Seconds until the last of 32 readers has its whole answer, against what the model alone takes."""

    async def all_of_them(running: Server) -> list[tuple[float, int]]:
        return await asyncio.gather(*[running.read_one_answer(new_id(), "") for _ in range(NUM_READERS)])

    with server() as running:
        asyncio.run(running.read_one_answer(new_id(), ""))
        alone_s, _updates = asyncio.run(running.read_one_answer(new_id(), ""))
        found = asyncio.run(all_of_them(running))
    slowest_s = max(seconds for seconds, _updates in found)
    return {
        "readers": NUM_READERS,
        "one_reader_s": alone_s,
        "last_of_readers_s": slowest_s,
        "last_against_ideal": slowest_s / (TOKENS / TOKENS_PER_S),
        "updates_per_s": sum(updates for _seconds, updates in found) / slowest_s / NUM_READERS,
    }


def main() -> None:
    """Measures; with a command, plays the part of a process of its own."""
    match sys.argv[1:]:
        case ["serve", port]:
            serve(int(port))
        case ["fill", folder]:
            print(json.dumps(fill(Path(folder))))
        case _:
            measure()


def measure() -> None:
    """Everything, one part after the other."""
    parser = argparse.ArgumentParser(description="Measures conversations: the disk, long ones, many readers.")
    parser.add_argument("--kills", type=int, default=200, help="how often to kill a writing program")
    given = parser.parse_args()
    row: dict[str, float] = {}
    for part in (many, long_conversations, many_readers, full_disk, lambda: kills(given.kills)):
        found = part()
        for name, value in found.items():
            print(f"{name:32} {value:10.3f}", flush=True)
        row |= found
    print(json.dumps({"benchmark": "conversations", **{name: round(value, 4) for name, value in row.items()}}))


if __name__ == "__main__":
    main()
