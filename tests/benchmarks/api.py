"""Tokens per second through the API beside the engine's own, for one client and for eight; the built-in model.

    python -m tests.benchmarks.api [--quick]

The same greedy questions are asked in turn of an engine in this process and of `app.py serve` in another, which
streams; every answer has the same number of tokens. Told are medians of rounds.
"""

import argparse
import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from model_loader.chat_format.messages import Message
from model_loader.chat_model import ChatModel, Controls
from model_loader.events import Finished
from model_loader.loading.placement import LoadOptions
from model_loader.open_model import open_chat_model
from tests.benchmarks.start import free_port

ROOT = Path(__file__).parent.parent.parent
CLIENTS = (1, 8)
QUESTION = "Show me some Python code"
Ask = Callable[[int], int]
"""Asks a question for one client and returns how many tokens the answer has."""


@contextlib.contextmanager
def served() -> Iterator[int]:
    """The API of the built-in model in a process of its own; its port."""
    port = free_port()
    command = [sys.executable, "-u", "app.py", "serve", "--cpu-only", "--server-port", str(port)]
    program = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert program.stdout is not None
        for line in program.stdout:
            if line.startswith("Ready"):
                break
        yield port
    finally:
        program.terminate()
        program.communicate(timeout=20)


def through_api(port: int, num_tokens: int, stop_bias: Mapping[int, float]) -> Ask:
    """A client that reads a stream to its end."""
    body = json.dumps(
        {
            "model": "builtin", "stream": True, "stream_options": {"include_usage": True}, "temperature": 0,
            "max_tokens": num_tokens, "logit_bias": stop_bias, "messages": [{"role": "user", "content": QUESTION}],
        }
    )  # fmt: skip

    def ask(_client: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        lines = [line for line in connection.getresponse() if line.startswith(b"data: {")]
        connection.close()
        return int(json.loads(lines[-1][6:])["usage"]["completion_tokens"])

    return ask


def in_engine(chat_model: ChatModel, num_tokens: int, stop_bias: Mapping[int, float]) -> Ask:
    """A reader of the model's own events."""
    sampling = chat_model.default_sampling.changed(temperature=0.0, max_new_tokens=num_tokens)
    controls = Controls(logit_bias=stop_bias)

    def ask(client: int) -> int:
        *_, last = chat_model.stream([Message("user", QUESTION)], sampling, owner=str(client), controls=controls)
        assert isinstance(last, Finished)
        return last.usage.completion_tokens

    return ask


def tokens_per_s(ask: Ask, num_clients: int) -> float:
    """Of all clients together."""
    began_s = time.perf_counter()
    with ThreadPoolExecutor(num_clients) as pool:
        num_tokens = sum(pool.map(ask, range(num_clients)))
    return num_tokens / (time.perf_counter() - began_s)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Measures the API beside the engine.")
    parser.add_argument("--quick", action="store_true", help="one round of few tokens")
    rounds, num_tokens = (1, 64) if parser.parse_args().quick else (5, 256)
    chat_model = open_chat_model("builtin", LoadOptions(cpu_only=True), lambda progress: None)
    stop_bias = dict.fromkeys(sorted(chat_model._stop_ids), -100.0)
    with served() as port:
        asks = {
            "engine": in_engine(chat_model, num_tokens, stop_bias),
            "api": through_api(port, num_tokens, stop_bias),
        }
        speeds: dict[tuple[str, int], list[float]] = {}
        for round_number in range(rounds + 1):
            for num_clients in CLIENTS:
                for label, ask in asks.items():
                    speed = tokens_per_s(ask, num_clients)
                    if round_number:  # the first one warms up
                        speeds.setdefault((label, num_clients), []).append(speed)
    chat_model.close()
    medians = {place: statistics.median(found) for place, found in speeds.items()}
    print(f"{'clients':>8} {'engine':>16} {'through the API':>24}")
    for number in CLIENTS:
        engine, api = medians["engine", number], medians["api", number]
        print(f"{number:8} {engine:8.1f} tokens/s {api:15.1f} tokens/s ({api / engine:.2f} x)")
    row = {f"{label}_{number}_clients_tokens_per_s": round(speed, 1) for (label, number), speed in medians.items()}
    print(json.dumps({"benchmark": "api", "rounds": rounds, "new_tokens": num_tokens, **row}))


if __name__ == "__main__":
    main()
