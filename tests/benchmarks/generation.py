"""Speed of the engine beside transformers' `generate`, all in one run; medians of rounds taken in turns.

    python -m tests.benchmarks.generation [--quick] [--plots FOLDER]

Models: the built-in checkpoint, and random weights of the shape of Qwen2.5-0.5B in each precision. Told are decoding
alone and with eight streams of different lengths, reading, and the first token over ten turns of a conversation. With
QWEN_BENCH_LLAMA_CPP naming a Python that has `llama_cpp` and QWEN_BENCH_GGUF a file, llama.cpp runs beside it; with
QWEN_BENCH_VLLM naming one that has `vllm`, that does.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers

from model_loader.checkpoint.resolve import resolve_checkpoint
from model_loader.engine.engine import Engine
from model_loader.engine.request import Request, Sampling, Token
from model_loader.events import Usage
from model_loader.loading.hardware import probe_hardware
from model_loader.loading.load import LoadedModel, load_model, on_a_passing_thread
from model_loader.loading.placement import LoadOptions, Precision, choose_placement
from tests.tiny_checkpoint import make_tokenizer

PROMPT_TOKENS = 64
STREAM_LENGTHS = (24, 40, 56, 64, 72, 96, 120, 160)
TURN_TOKENS = 50
EARLIER_TOKENS = 200
TURNS = 10
PRECISIONS: tuple[Precision, ...] = ("bf16", "int8", "int4")


@dataclass
class Figures:
    """What was measured for one model, a list of rounds for each figure."""

    decode_tokens_per_s: list[float] = field(default_factory=list)
    streams_tokens_per_s: list[float] = field(default_factory=list)
    read_tokens_per_s: list[float] = field(default_factory=list)

    def median(self, name: str) -> float:
        """The middle of the rounds."""
        rounds = getattr(self, name)
        return statistics.median(rounds) if rounds else 0.0


class Peer:
    """transformers' `generate` on a model of its own, as it is loaded there."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self._model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    def measure(self, figures: Figures, new_tokens: int) -> None:
        """One round of every figure."""
        short = self._seconds([prompt_ids(PROMPT_TOKENS, 0)], 1)
        long = self._seconds([prompt_ids(PROMPT_TOKENS, 0)], new_tokens)
        figures.decode_tokens_per_s.append((new_tokens - 1) / (long - short))
        prompts = [prompt_ids(length, 1) for length in STREAM_LENGTHS]
        figures.streams_tokens_per_s.append(len(prompts) * new_tokens / self._seconds(prompts, new_tokens))
        figures.read_tokens_per_s.append(512 / self._seconds([prompt_ids(512, 2)], 1))

    @torch.inference_mode()
    def _seconds(self, prompts: Sequence[tuple[int, ...]], new_tokens: int) -> float:
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        began = time.perf_counter()
        self._model.generate(
            ids, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        return time.perf_counter() - began


def prompt_ids(length: int, seed: int) -> tuple[int, ...]:
    """Ids that every vocabulary has."""
    return tuple(100 + (7 * place + 31 * seed) % 300 for place in range(length))


def ask(engine: Engine, prompt: tuple[int, ...], new_tokens: int, owner: str) -> Usage:
    """One greedy request to its end."""
    request = Request(prompt, Sampling(max_new_tokens=new_tokens, temperature=0), frozenset(), owner)
    return [item for item in engine.stream(request) if isinstance(item, Token)][-1].usage


def measure_engine(loaded: LoadedModel, figures: Figures, new_tokens: int) -> None:
    """One round of every figure, on an engine of its own: engines side by side would take each other's processors."""
    engine = Engine(loaded)
    stamp = str(time.monotonic_ns())
    ask(engine, prompt_ids(PROMPT_TOKENS, 3), 4, stamp)
    figures.decode_tokens_per_s.append(ask(engine, prompt_ids(PROMPT_TOKENS, 0), new_tokens, stamp).tokens_per_s or 0.0)
    began = time.perf_counter()
    with ThreadPoolExecutor(len(STREAM_LENGTHS)) as pool:
        list(
            pool.map(lambda length: ask(engine, prompt_ids(length, 1), new_tokens, f"{stamp} {length}"), STREAM_LENGTHS)
        )
    figures.streams_tokens_per_s.append(len(STREAM_LENGTHS) * new_tokens / (time.perf_counter() - began))
    figures.read_tokens_per_s.append(512 / ask(engine, prompt_ids(512, 2), 1, stamp).first_token_s)
    engine.close()


def measure_turns(engine: Engine, rounds: int, *, reuses: bool) -> list[float]:
    """First-token seconds of each turn, medians; with `reuses` every turn has the owner of the last one."""
    return [statistics.median(each) for each in zip(*(_turns(engine, reuses) for _ in range(rounds)), strict=True)]


def _turns(engine: Engine, reuses: bool) -> list[float]:
    seconds: list[float] = []
    history: tuple[int, ...] = ()
    stamp = time.monotonic_ns()
    for turn in range(TURNS):
        history += prompt_ids(TURN_TOKENS, turn)
        seconds.append(ask(engine, history, 1, f"{stamp}" if reuses else f"{stamp} {turn}").first_token_s)
        history += prompt_ids(EARLIER_TOKENS - TURN_TOKENS, 50 + turn)  # the answer, as if it had been written
        ask(engine, history, 1, f"{stamp}")
    return seconds


def write_half_billion(folder: Path) -> Path:
    """Random weights of the shape of Qwen2.5-0.5B: 494 M parameters, the last layer tied to the embedding."""
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=151_936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
        num_key_value_heads=2, max_position_embeddings=32_768, tie_word_embeddings=True, dtype="bfloat16",
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
    )  # fmt: skip
    transformers.Qwen2ForCausalLM(config).bfloat16().save_pretrained(folder)
    make_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def load(name: str, precision: Precision) -> LoadedModel:
    """A checkpoint in a precision, on the processor."""
    checkpoint = resolve_checkpoint(name)
    placement = choose_placement(checkpoint, probe_hardware(), LoadOptions(precision, cpu_only=True))
    return load_model(checkpoint, placement, lambda progress: None)


def measure_llama_cpp(new_tokens: int) -> float | None:
    """Decoding speed of llama.cpp where the environment names it."""
    python, file = os.environ.get("QWEN_BENCH_LLAMA_CPP"), os.environ.get("QWEN_BENCH_GGUF")
    if not python or not file:
        return None
    program = (
        "import sys, time, llama_cpp\n"
        f"model = llama_cpp.Llama(sys.argv[1], n_ctx=1024, n_threads={torch.get_num_threads()}, verbose=False)\n"
        f"model.eval(list(range(100, {100 + PROMPT_TOKENS})))\n"
        "began = time.perf_counter()\n"
        f"for place in range({new_tokens}):\n"
        "    model.eval([model.sample(temp=0)])\n"
        f"print({new_tokens} / (time.perf_counter() - began))\n"
    )
    return float(subprocess.run([python, "-c", program, file], capture_output=True, text=True, check=True).stdout)


def measure_vllm(folder: str, new_tokens: int) -> list[float]:
    """Tokens/s of vLLM for one stream and for eight, where the environment names it; otherwise nothing."""
    python = os.environ.get("QWEN_BENCH_VLLM")
    if not python:
        return []
    program = (
        "import json, sys, time, vllm\n"
        "folder, new_tokens, lengths = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])\n"
        "model = vllm.LLM(folder, dtype='bfloat16', max_model_len=1024, skip_tokenizer_init=True)\n"
        "sampling = vllm.SamplingParams(temperature=0, max_tokens=new_tokens, ignore_eos=True, detokenize=False)\n"
        "for batch in ([64], [64], lengths, lengths):\n"
        "    prompts = [{'prompt_token_ids': list(range(100, 100 + length))} for length in batch]\n"
        "    began = time.perf_counter()\n"
        "    model.generate(prompts, sampling, use_tqdm=False)\n"
        "    print('TOKENS_PER_S', len(batch) * new_tokens / (time.perf_counter() - began))\n"
    )
    arguments = [python, "-c", program, folder, str(new_tokens), json.dumps(STREAM_LENGTHS)]
    output = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    speeds = [float(line.split()[1]) for line in output.splitlines() if line.startswith("TOKENS_PER_S")]
    return speeds[1::2]


def plot(folder: Path, streams: dict[int, float], generate_streams: float, turns: dict[str, list[float]]) -> None:
    """Two pictures: tokens/s over streams, and the first token over turns."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    for name, x_title, y_title in (
        ("streams", "streams at once", "tokens/s, all together"),
        ("turns", "turn of the conversation", "seconds to the first token"),
    ):
        figure, axes = pyplot.subplots(figsize=(5.5, 3.2), layout="constrained")
        if name == "streams":
            axes.plot(list(streams), list(streams.values()), marker="o", label="engine, bf16")
            axes.plot([8], [generate_streams], marker="s", linestyle="", label="generate, batch of 8")
        else:
            for label, seconds in turns.items():
                axes.plot(range(1, len(seconds) + 1), seconds, marker="o", label=label)
        axes.set(xlabel=x_title, ylabel=y_title, ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        figure.savefig(folder / f"{name}.svg")
        pyplot.close(figure)


def measure_streams(engine: Engine, new_tokens: int) -> dict[int, float]:
    """Tokens/s of all together, for growing numbers of streams."""
    speeds = {}
    for number in (1, 2, 4, 8):
        stamp = str(time.monotonic_ns())
        began = time.perf_counter()
        with ThreadPoolExecutor(number) as pool:
            asked = [
                pool.submit(ask, engine, prompt_ids(length, place), new_tokens, f"{stamp} {place}")
                for place, length in enumerate(STREAM_LENGTHS[:number])
            ]
            for each in asked:
                each.result()
        speeds[number] = number * new_tokens / (time.perf_counter() - began)
    return speeds


def compare(
    name: str, folder: str, precisions: Sequence[Precision], rounds: int, new_tokens: int
) -> dict[str, Figures]:
    """Every precision and `generate`, one round of each after the other."""
    figures: dict[str, Figures] = {}
    measures: dict[str, Callable[[Figures], None]] = {}
    for precision in precisions:
        loaded = load(folder, precision)
        measures[f"engine {precision}"] = lambda each, loaded=loaded: measure_engine(loaded, each, new_tokens)  # type: ignore[misc]
    checkpoint = resolve_checkpoint(folder)
    peer_dtype = torch.float32 if name == "builtin" else torch.bfloat16
    peer = on_a_passing_thread(lambda: Peer(checkpoint.folder, peer_dtype))
    measures[f"generate {'fp32' if name == 'builtin' else 'bf16'}"] = lambda each: on_a_passing_thread(
        lambda: peer.measure(each, new_tokens)
    )
    for round_number in range(rounds + 1):
        for label, measure in measures.items():
            measure(figures.setdefault(label, Figures()) if round_number else Figures())
    return figures


def show(name: str, figures: dict[str, Figures]) -> dict[str, float]:
    """Prints a table; returns its figures with their units in the keys."""
    *_, peer_label = figures
    peer = figures[peer_label]
    print(f"\n{name:16} {'decoding':>16} {'8 streams':>18} {'reading':>18}    (x: times {peer_label})")
    row = {}
    for label, each in figures.items():
        cells = []
        for figure in ("decode_tokens_per_s", "streams_tokens_per_s", "read_tokens_per_s"):
            speed = each.median(figure)
            cells.append(f"{speed:8.1f} ({speed / peer.median(figure):.2f} x)")
            row[f"{name}_{label.replace(' ', '_')}_{figure}"] = round(speed, 1)
        print(f"{label:16} {cells[0]:>16} {cells[1]:>18} {cells[2]:>18}")
    return row


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Measures the engine beside generate.")
    parser.add_argument("--quick", action="store_true", help="one round of few tokens")
    parser.add_argument("--plots", type=Path, help="folder for the two pictures")
    arguments = parser.parse_args()
    rounds, new_tokens = (1, 16) if arguments.quick else (3, 64)
    row = show("builtin", compare("builtin", "builtin", ("fp32",), rounds, 4 * new_tokens))
    with tempfile.TemporaryDirectory() as temporary:
        # Not on this thread: it would keep workers that take the engine's processors, see `on_a_passing_thread`.
        folder = on_a_passing_thread(lambda: str(write_half_billion(Path(temporary))))
        figures = compare("half_billion", folder, PRECISIONS, rounds, new_tokens)
        row |= show("half_billion", figures)
        turns = {}
        for precision in PRECISIONS:
            engine = Engine(load(folder, precision))
            turns[precision] = measure_turns(engine, rounds + 2, reuses=True)
            if precision == "bf16":
                turns["bf16, all read anew"] = measure_turns(engine, 1, reuses=False)
                streams = measure_streams(engine, new_tokens)
            engine.close()
        for number, speed in zip((1, 8), measure_vllm(folder, new_tokens), strict=False):
            print(f"vLLM, {number} streams: {speed:.1f} tokens/s")
            row[f"vllm_{number}_streams_tokens_per_s"] = round(speed, 1)
    print(f"\nfirst token of turn 1 and turn {TURNS}:")
    for label, seconds in turns.items():
        print(f"{label:20} {seconds[0]:.2f} s {seconds[-1]:.2f} s ({seconds[-1] / seconds[0]:.2f} x)")
        key = label.replace(",", "").replace(" ", "_")
        row[f"half_billion_{key}_turn_1_first_token_s"] = round(seconds[0], 3)
        row[f"half_billion_{key}_turn_{TURNS}_first_token_s"] = round(seconds[-1], 3)
    llama_cpp = measure_llama_cpp(new_tokens)
    if llama_cpp is not None:
        print(f"llama.cpp decodes {llama_cpp:.1f} tokens/s")
        row["llama_cpp_decode_tokens_per_s"] = round(llama_cpp, 1)
    if arguments.plots:
        generate_bf16 = figures["generate bf16"].median("streams_tokens_per_s")
        drawn = {label: seconds for label, seconds in turns.items() if label.startswith("bf16")}  # others lie on these
        plot(arguments.plots, streams, generate_bf16, drawn)
    print(json.dumps({"benchmark": "generation", "prompt_tokens": PROMPT_TOKENS, "new_tokens": new_tokens, **row}))


if __name__ == "__main__":
    main()
