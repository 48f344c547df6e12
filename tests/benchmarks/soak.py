"""Minutes or hours of mixed traffic against page and API, and every promise about load with what was measured for it.

    python -m tests.benchmarks.soak [--minutes N] [--clients N]

Prints a table, draws `soak.png` into the folder named by TEST_OUTPUT (or tests/output) and ends with a line of JSON and
status 1 if a promise was not held. The server is a process of its own with a scripted model and a history of 10,000
conversations on the disk; figures depend on the machine and on what else it does.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from tests.benchmarks import promises
from tests.benchmarks.conversations import OWNER, _write_many, kills
from tests.benchmarks.page_tab import ServerFault, Tab, open_client
from tests.benchmarks.probe import Probe
from tests.benchmarks.promises import PROMISES
from tests.benchmarks.soak_server import LINGER_S, SoakServer, words
from tests.benchmarks.soak_traffic import Traffic, play
from tests.browser import output_folder
from ui.chat.conversation import ConversationRecord
from ui.chat.database import Database
from ui.chat.message import StoredMessage, new_id

SAMPLE_EVERY_S = 1.0
REST_S = 15.0
"""After traffic, until idle threads and sessions have gone."""


@dataclass
class Samples:
    """What the server's process took, second by second."""

    at_s: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def take(self, process: psutil.Process) -> None:
        """One more of each."""
        self.at_s.append(time.monotonic())
        self.rss_mb.append(process.memory_info().rss / 2**20)
        self.descriptors.append(process.num_fds())
        self.threads.append(process.num_threads())

    def growth_mb(self) -> float:
        """The least that was taken in the second half of the time, less the least in the first: what does not go again.

        How much is taken at most depends on which large requests meet.
        """
        middle = len(self.rss_mb) // 2
        return min(self.rss_mb[middle:]) - min(self.rss_mb[1:middle])

    def growth_mb_per_h(self) -> float:
        """Slope of a straight line through the memory's figures."""
        slope, _start = statistics.linear_regression(self.at_s, self.rss_mb)
        return slope * 3600


async def _sampled(server: SoakServer, samples: Samples, doing: Awaitable[Traffic]) -> Traffic:
    process = psutil.Process(server.pid)
    task = asyncio.ensure_future(doing)
    while not task.done():
        samples.take(process)
        await asyncio.wait([task], timeout=SAMPLE_EVERY_S)
    return task.result()


async def _idle(server: SoakServer) -> tuple[int, int]:
    """Descriptors and threads when nothing has happened for a while."""
    await asyncio.sleep(REST_S)
    process = psutil.Process(server.pid)
    return process.num_fds(), process.num_threads()


async def mixed_traffic(
    server: SoakServer, seconds: float, num_clients: int, samples: Samples
) -> tuple[dict[str, float], Traffic]:
    """P7: a third of the time to warm up, then what changes in the rest."""
    server.tell(answer=words(60), reasoning="", tokens_per_s=40, num_slots=20, forget=True)
    await play(server, seconds / 3, num_clients, seed=0)
    before = await _idle(server)
    traffic = await _sampled(server, samples, play(server, 2 * seconds / 3, num_clients))
    after = await _idle(server)
    figures = {
        "growth_mb": samples.growth_mb(),
        "growth_mb_per_h": samples.growth_mb_per_h(),
        "descriptors": after[0] - before[0],
        "threads": after[1] - before[1],
        "server_errors": len(traffic.faults),
    }
    return figures, traffic


async def exit_with_answers(server: SoakServer, place: Path, num_tabs: int = 5) -> dict[str, float]:
    """P9: SIGTERM in the middle of answers; afterwards the file is read."""
    server.tell(answer=words(2000), tokens_per_s=20, num_slots=20)
    async with open_client(server.url) as client:
        opened = [Tab(client, server.numbers) for _ in range(num_tabs)]
        for tab in opened:
            await tab.open()
            await tab.ask(f"Do not lose {tab.conversation_id}")
        await asyncio.sleep(1.5)
        began = time.perf_counter()
        os.kill(server.pid, signal.SIGTERM)
        status = await asyncio.to_thread(server.process.wait, 30)
        took_s = time.perf_counter() - began
    if status != 0:
        took_s = float("inf")
    database = Database(place)
    num_lost = 0
    for tab in opened:
        said = database.messages(tab.conversation_id)
        is_kept = len(said) == 2 and tab.conversation_id in said[0].text and said[1].text.startswith("word0 word1")
        num_lost += not is_kept or said[1].state != "interrupted"
    database.close()
    return {"exit_s": took_s, "lost_at_exit": num_lost}


def write_long_conversation(place: Path, num_messages: int = 200, num_bytes: int = 60_000) -> str:
    """Adds one such conversation to the file; returns its id."""
    messages: list[StoredMessage] = []
    text = "A sentence of ten words stands here again and again. " * 10
    for at in range(num_messages):
        parent_id = messages[-1].id if messages else None
        messages.append(StoredMessage("assistant" if at % 2 else "user", text[: num_bytes // num_messages], parent_id))
    database = Database(place)
    record = ConversationRecord(new_id(), OWNER, "A long one", head=messages[-1].id)
    database.save(record, messages)
    database.close()
    return record.id


def _draw(samples: Samples, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    minutes = [(at_s - samples.at_s[0]) / 60 for at_s in samples.at_s]
    figure, axes = plt.subplots(3, 1, figsize=(9, 7), sharex=True, layout="constrained")
    rows = (("memory, MB", samples.rss_mb), ("descriptors", samples.descriptors), ("threads", samples.threads))
    for axis, (label, values) in zip(axes, rows, strict=True):
        axis.plot(minutes, values, linewidth=1)
        axis.set_ylabel(label)
        axis.set_ylim(0, 1.15 * max(values))
        axis.grid(alpha=0.3)
    axes[0].set_title(f"The page under mixed traffic: memory moved by {samples.growth_mb():+.1f} MB")
    axes[-1].set_xlabel("minutes after warming up")
    figure.savefig(path, dpi=110)


async def measure(server: SoakServer, place: Path, long_id: str, seconds: float, num_clients: int) -> dict[str, float]:
    """Everything that is measured on one server, in this order; draws the graph."""
    figures: dict[str, float] = {"start_s": server.start_s}
    probe = Probe(server.url)
    parts: tuple[tuple[str, Callable[[], Awaitable[dict[str, float]]]], ...] = (
        ("conversations", lambda: promises.many_conversations(server, OWNER, long_id)),
        ("a long one", lambda: promises.long_conversation(server, OWNER, long_id)),
        ("20 streams", lambda: promises.streams_side_by_side(server)),
        ("100 readers", lambda: promises.many_for_one_slot(server)),
        ("Stop", lambda: promises.stopping_and_leaving(server, LINGER_S)),
        ("200 leavers", lambda: promises.after_leavers(server)),
        ("50 programs", lambda: promises.fair_share(server)),
        ("abuse", lambda: promises.abuse(server)),
        ("large bodies", lambda: promises.too_large(server)),
    )
    for name, part in parts:
        figures |= await _said(name, part())
    samples = Samples()
    print(f"mixed traffic for {seconds / 60:.0f} minutes ...", flush=True)
    found, traffic = await mixed_traffic(server, seconds, num_clients, samples)
    figures |= found
    _tell(traffic)
    _draw(samples, output_folder() / "soak.png")
    times = probe.end()
    figures |= {"lag_p999_ms": promises.percentile(times, 0.999), "probe_p99_ms": promises.percentile(times, 0.99)}
    figures |= await _said("sessions", promises.memory_of_sessions(server, 160))
    return figures | await _said("SIGTERM", exit_with_answers(server, place))


async def _said(name: str, doing: Awaitable[dict[str, float]]) -> dict[str, float]:
    began = time.monotonic()
    try:
        found = await doing
    except (ServerFault, httpx.HTTPError) as error:
        print(f"{name}: {type(error).__name__}: {error}", flush=True)
        return {}
    print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return found


def _tell(traffic: Traffic) -> None:
    visits = ", ".join(f"{number:,} x {name}" for name, number in traffic.visits.most_common())
    print(f"{traffic.num_requests:,} requests, {traffic.num_bad_inputs:,} of them bad: {visits}")
    for fault in traffic.faults[:20]:
        print(f"  {fault[:300]}")


def print_table(figures: dict[str, float], minutes: float) -> bool:
    """Promise, limit, measured, held; returns whether all are. What could not be measured is not held."""
    is_all_held = True
    print(f"\n{'':4} {'promise':60} {'limit':>12} {'measured':>12}  held")
    for name, promise in PROMISES.items():
        value = figures.get(name)
        is_held = value is not None and promise.is_held(value)
        is_told = minutes >= promise.minutes
        is_all_held &= is_held or not is_told
        limit = f"{'>=' if promise.is_floor else '<='} {promise.limit:g} {promise.unit}".strip()
        measured = "not measured" if value is None else f"{value:.1f}"
        held = ("yes" if is_held else "NO") if is_told else f"after {promise.minutes:.0f} minutes"
        print(f"{promise.row:4} {promise.says:60} {limit:>12} {measured:>12}  {held}")
    return is_all_held


def main() -> int:
    """Measures; returns the exit status."""
    parser = argparse.ArgumentParser(description="Mixed traffic, and every promise about load.")
    parser.add_argument("--minutes", type=float, default=5, help="how long the mixed traffic lasts")
    parser.add_argument("--clients", type=int, default=12, help="how many clients make it")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "history.db"
        print("writing 10,000 conversations ...", flush=True)
        _write_many(Database(place))
        long_id = write_long_conversation(place)
        server = SoakServer(place)
        try:
            figures = asyncio.run(measure(server, place, long_id, 60 * given.minutes, given.clients))
        finally:
            server.close()
    try:
        figures["lost_at_kill"] = kills(20)["lost_writes"]
    except Exception as error:
        print(f"kill -9: {error!r}", flush=True)
    is_all_held = print_table(figures, given.minutes)
    rounded = {name: round(value, 3) for name, value in figures.items()}
    print(json.dumps({"benchmark": "soak", "minutes": given.minutes, "held": is_all_held, **rounded}))
    return 0 if is_all_held else 1


if __name__ == "__main__":
    sys.exit(main())
