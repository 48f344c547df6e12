"""Page and API in a process of their own, with a scripted model of so many slots, to be loaded from outside.

    python -m tests.benchmarks.soak_server PORT FILE

Each line of its standard input is a JSON object of changes to the model; after each it prints what is going on.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import unittest.mock
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model_loader.engine.fair_queue import FairQueue
from model_loader.engine.request import EngineActivity
from model_loader.events import Event, Waiting
from tests.benchmarks.start import ROOT, free_port
from tests.scripted_model import Script, ScriptedLoad, ScriptedModel

LINGER_S = 1.0
_MOST_SERVED = 1000
_TELL_S = 0.25


def words(number: int) -> str:
    """A text of so many words, none of them twice: an answer that repeats itself would be ended."""
    return " ".join(f"word{at}" for at in range(number))


class SlottedModel(ScriptedModel):
    """A scripted model that answers only so many at once; owners take turns, as in the engine.

    Attributes:
        served: questions in the order in which they got their slot.
    """

    def __init__(self, script: Script) -> None:
        super().__init__(script, context_length=10_000_000)
        self.prompts, self.samplings, self.openings = _last(1), _last(1), _last(1)  # hours of them would be a leak
        self.tools, self.controls, self.stops, self.owners = _last(1), _last(1), _last(1), _last(1)
        self.served = _last(_MOST_SERVED)
        self._num_slots = 20
        self._waiting: FairQueue[object] = FairQueue()
        self._num_running = 0
        self._turns = threading.Condition()

    @property
    def num_slots(self) -> int:
        """How many are answered at once; may be changed at any time."""
        return self._num_slots

    @num_slots.setter
    def num_slots(self, number: int) -> None:
        with self._turns:
            self._num_slots = number
            self._turns.notify_all()

    @property
    def activity(self) -> EngineActivity:
        """Who runs and who waits, as the engine tells it."""
        return EngineActivity(self._num_running, len(self._waiting), self.num_slots, 0, self.context_length)

    def stream(self, messages: Any, sampling: Any = None, *, owner: str = "", **options: Any) -> Iterator[Event]:
        """Waits for a slot, then follows the script."""
        place = object()
        with self._turns:
            self._waiting.put(owner, place)
        try:
            yield from self._wait(place)
            with self._turns:
                self.served.append(messages[-1].content)
            try:
                with contextlib.closing(super().stream(messages, sampling, owner=owner, **options)) as events:
                    yield from events
            finally:
                with self._turns:
                    self._num_running -= 1
                    self._turns.notify_all()
        finally:
            with self._turns:
                self._waiting.remove(place)
                self._turns.notify_all()

    def _wait(self, place: object) -> Iterator[Event]:
        def is_its_turn() -> bool:
            return self._waiting.first() is place and self._num_running < self.num_slots

        while True:
            with self._turns:
                if self._turns.wait_for(is_its_turn, _TELL_S):
                    self._waiting.take()
                    self._num_running += 1
                    self._turns.notify_all()
                    return
                ahead = list(self._waiting).index(place) + 1
            yield Waiting(ahead)


def _last(number: int) -> Any:
    """Takes the place of a list and keeps only its end."""
    return deque(maxlen=number)


def serve(port: int, place: Path | None) -> None:
    """Page and API until a signal comes or its standard input ends."""
    from ui.http_api.server import Api
    from ui.web import launch
    from ui.web.options import PageOptions

    model = SlottedModel(Script())
    load: Any = ScriptedLoad(model)
    open_page = launch.launch_page

    def open_and_listen(*arguments: Any) -> launch.ServedPage:
        page = open_page(*arguments)
        numbers: dict[str, int] = {}
        for number, fn in page.blocks.fns.items():
            numbers.setdefault(getattr(fn.fn, "__qualname__", str(fn.name)), number)
        _say(numbers)
        threading.Thread(target=_obey, args=(model,), daemon=True).start()
        return page

    with unittest.mock.patch.object(launch, "launch_page", open_and_listen):
        options = PageOptions(server_port=port, linger_s=LINGER_S, history=place)
        sys.exit(launch.serve_page(load, options, None, Api(load)))


def _obey(model: SlottedModel) -> None:
    for line in sys.stdin:
        changes = json.loads(line)
        model.num_slots = changes.pop("num_slots", model.num_slots)
        if changes.pop("forget", False):
            model.served.clear()
        if changes:
            model.script = Script(**changes)
        said = {"running": model.num_streams, "waiting": len(model._waiting), "served": list(model.served)}
        _say(said)
    os.kill(os.getpid(), signal.SIGTERM)


def _say(what: dict[str, Any]) -> None:
    """One line in one piece: the page prints lines of its own meanwhile."""
    sys.stdout.write(f"\n{json.dumps(what)}\n")
    sys.stdout.flush()


class SoakServer:
    """The server's process as its parent sees it.

    Attributes:
        url: where the page is.
        pid: of the process.
        numbers: those of the page's events by their handlers' names.
        start_s: seconds from the process's start to its open port.
    """

    def __init__(self, place: Path | None = None) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        began = time.perf_counter()
        program = [sys.executable, "-m", "tests.benchmarks.soak_server", str(port), str(place or "")]
        self.process = subprocess.Popen(program, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        self.numbers: dict[str, int] = self._said()
        self.start_s = time.perf_counter() - began

    def tell(self, **changes: Any) -> dict[str, Any]:
        """Changes the model; returns how many answers run and wait, and which questions have had their turn."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(changes) + "\n")
        self.process.stdin.flush()
        return self._said()

    def close(self) -> None:
        """Ends the process in order."""
        assert self.process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
            self.process.wait(30)
        finally:
            self.process.kill()
            if self.process.stdout is not None:
                self.process.stdout.close()

    def _said(self) -> Any:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise AssertionError("the server ended too early")


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2] else None)
