"""How long from `python app.py` to the open port, the page and the first answer, beside `import gradio` alone.

python -m tests.benchmarks.start
"""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
ROUNDS = 3


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def seconds_of(*arguments: str) -> float:
    """Wall-clock seconds of a Python program."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def start_once() -> dict[str, float]:
    """Starts the application on the built-in checkpoint; seconds until each stage, counted from the start."""
    port = free_port()
    begin = time.perf_counter()
    program = subprocess.Popen(
        [sys.executable, "-u", "app.py", "--cpu-only", "--server-port", str(port)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.005)
        found = {"port_open_s": time.perf_counter() - begin}
        urllib.request.urlopen(f"http://127.0.0.1:{port}/").read()
        found["page_s"] = time.perf_counter() - begin
        assert program.stdout is not None
        for line in program.stdout:
            if re.match("Ready", line):
                break
        found["model_ready_s"] = time.perf_counter() - begin
        return found
    finally:
        program.terminate()
        program.wait(20)


def main() -> None:
    """Prints the best of some rounds; the imports and the starts take turns, so that noise meets both."""
    imports, starts = [], []
    for _ in range(ROUNDS):
        imports.append(seconds_of("-c", "import gradio"))
        starts.append(start_once())
    row = {"import_gradio_s": min(imports)}
    row |= {name: min(start[name] for start in starts) for name in starts[0]}
    row["port_after_import_s"] = min(start["port_open_s"] - alone for start, alone in zip(starts, imports, strict=True))
    for name, value in row.items():
        print(f"{name:22} {value:6.2f}")
    print(
        json.dumps({"benchmark": "start", "rounds": ROUNDS, **{name: round(value, 3) for name, value in row.items()}})
    )


if __name__ == "__main__":
    main()
