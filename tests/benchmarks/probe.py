"""The smallest request there is, twenty times a second, from a process that does nothing else.

    python -m tests.benchmarks.probe HOST PORT

It ends with its standard input and prints how many milliseconds each took, as a JSON list. What its time tells is the
server's: clients that play traffic wait for themselves.
"""

import http.client
import json
import subprocess
import sys
import threading
import time

from tests.benchmarks.start import ROOT

_EVERY_S = 0.05
_PATH = "/healthz"
"""Answered by the guard as long as nothing else answers it: in either case on the event loop itself."""


class Probe:
    """The process, from its first request to its last."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").rstrip("/").split(":")
        program = [sys.executable, "-m", "tests.benchmarks.probe", host, port]
        self._process = subprocess.Popen(program, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def end(self) -> list[float]:
        """Milliseconds of each request so far."""
        said, _ = self._process.communicate()
        times: list[float] = json.loads(said)
        return times


def _measure(host: str, port: int) -> list[float]:
    is_over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), is_over.set()), daemon=True).start()
    connection = http.client.HTTPConnection(host, port, timeout=60)
    times = []
    while not is_over.wait(_EVERY_S):
        began = time.perf_counter()
        connection.request("GET", _PATH)
        connection.getresponse().read()
        times.append(1000 * (time.perf_counter() - began))
    return times


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], int(sys.argv[2]))))
