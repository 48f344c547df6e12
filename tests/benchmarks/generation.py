"""First token and decoding speed of the engine on the built-in checkpoint, beside transformers' own `generate`.

python -m tests.benchmarks.generation
"""

import json
import time

import torch

from model_loader.checkpoint.resolve import resolve_checkpoint
from model_loader.engine.engine import Engine
from model_loader.engine.request import Request, Sampling, Token
from model_loader.loading.hardware import probe_hardware
from model_loader.loading.load import LoadedModel, load_model
from model_loader.loading.placement import LoadOptions, Precision, choose_placement

PROMPT_TOKENS = 256
NEW_TOKENS = 256
ROUNDS = 3
PRECISIONS: tuple[Precision, ...] = ("auto", "bf16", "int8", "int4")


def time_engine(engine: Engine, prompt_ids: tuple[int, ...]) -> tuple[float, float]:
    """First-token seconds and decoding tokens per second of one request."""
    request = Request(prompt_ids, Sampling(max_new_tokens=NEW_TOKENS, temperature=0), frozenset())
    usage = [item for item in engine.stream(request) if isinstance(item, Token)][-1].usage
    return usage.first_token_s, usage.tokens_per_s or 0.0


@torch.inference_mode()
def time_generate(loaded: LoadedModel, prompt_ids: tuple[int, ...]) -> tuple[float, float]:
    """The same with `generate`: one call for a single token, one for all of them."""
    ids = torch.tensor([prompt_ids], device=loaded.input_device)
    seconds = []
    for new_tokens in (1, NEW_TOKENS):
        begin = time.perf_counter()
        loaded.model.generate(ids, max_new_tokens=new_tokens, do_sample=False, eos_token_id=None, pad_token_id=0)
        seconds.append(time.perf_counter() - begin)
    return seconds[0], (NEW_TOKENS - 1) / (seconds[1] - seconds[0])


def load_builtin(precision: Precision) -> LoadedModel:
    """The built-in checkpoint in a precision, on whatever this machine offers."""
    checkpoint = resolve_checkpoint("builtin")
    placement = choose_placement(checkpoint, probe_hardware(), LoadOptions(precision))
    return load_model(checkpoint, placement, lambda progress: None)


def main() -> None:
    """Prints the best of some rounds of each, taken in turns."""
    prompt_ids = tuple(1000 + n % 1000 for n in range(PROMPT_TOKENS))
    models = {precision: load_builtin(precision) for precision in PRECISIONS}
    engines = {precision: Engine(loaded) for precision, loaded in models.items()}
    runs: dict[str, list[tuple[float, float]]] = {f"engine {precision}": [] for precision in PRECISIONS}
    runs["generate auto"] = []
    for _ in range(ROUNDS + 1):
        for precision, engine in engines.items():
            runs[f"engine {precision}"].append(time_engine(engine, prompt_ids))
        runs["generate auto"].append(time_generate(models["auto"], prompt_ids))
    for engine in engines.values():
        engine.close()
    print(f"auto: {models['auto'].placement.reason}")
    print(f"{'':14} {'first token':>12} {'decoding':>14}   ({PROMPT_TOKENS} prompt tokens, {NEW_TOKENS} new ones)")
    row = {}
    for name, figures in runs.items():
        first_s, tokens_per_s = min(each[0] for each in figures[1:]), max(each[1] for each in figures[1:])
        print(f"{name:14} {first_s:10.3f} s {tokens_per_s:8.1f} tok/s")
        key = name.replace(" ", "_")
        row |= {f"{key}_first_token_s": round(first_s, 4), f"{key}_tokens_per_s": round(tokens_per_s, 1)}
    print(json.dumps({"benchmark": "generation", "prompt_tokens": PROMPT_TOKENS, "new_tokens": NEW_TOKENS, **row}))


if __name__ == "__main__":
    main()
