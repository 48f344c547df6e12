"""The engine on an NVIDIA GPU, on random weights of the shape of Qwen-7B, beside `generate`; nothing without a GPU.

    python -m tests.benchmarks.gpu [--layers N] [--without-peers]

Told are one stream in bfloat16 and in 4 bits against the memory's bandwidth, greedy and sampled, 32 streams, reading,
and the peak of memory against weights and key-value cache. The peers are `generate` as it is and with a static cache
and `torch.compile`, which alone takes minutes.
"""

import argparse
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models
from torch import nn

from model_loader.checkpoint.resolve import Checkpoint
from model_loader.checkpoint.safetensors_header import Weights
from model_loader.engine.engine import Engine
from model_loader.engine.request import Request, Sampling, Token
from model_loader.engine.slots import SlotPlan
from model_loader.events import Usage
from model_loader.loading.fuse import fuse
from model_loader.loading.load import LoadedModel
from model_loader.loading.low_bit import Int4Linear, Int8Linear
from model_loader.loading.placement import Placement

NEW_TOKENS = 256
PROMPT_TOKENS = 128
LONG_PROMPT_TOKENS = 2048
STREAMS = 32
ROUNDS = 3
GREEDY = Sampling(max_new_tokens=NEW_TOKENS, temperature=0)
SAMPLED = Sampling(max_new_tokens=NEW_TOKENS, temperature=0.7, top_p=0.8, top_k=20, seed=1)
ONE_TOKEN = Sampling(max_new_tokens=1, temperature=0)


def make_model(num_layers: int, *, is_int4: bool) -> transformers.PreTrainedModel:
    """Random weights on the GPU; with `is_int4` every linear layer in 4 bits and the last one in 8."""
    config = transformers.Qwen2Config(
        vocab_size=151_936, hidden_size=4096, intermediate_size=11_008, num_hidden_layers=num_layers,
        num_attention_heads=32, num_key_value_heads=32, max_position_embeddings=8192, tie_word_embeddings=False,
        dtype="bfloat16", rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )  # fmt: skip
    with torch.device("meta"):
        model = transformers.Qwen2ForCausalLM(config).to(torch.bfloat16)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            model.set_submodule(name, _random_linear(module, is_int4=is_int4, is_head=name == "lm_head"))
    for tensor in model.parameters():
        if tensor.is_meta:
            _replace(model, tensor, torch.randn(tensor.shape, device="cuda", dtype=torch.bfloat16) * 0.02)
    rotary: Any = model.model.rotary_emb
    model.model.rotary_emb = type(rotary)(config).to("cuda")
    return model.eval()


def _random_linear(linear: nn.Linear, *, is_int4: bool, is_head: bool) -> nn.Module:
    shape = (linear.out_features, linear.in_features)
    bias = None if linear.bias is None else torch.zeros(shape[0], device="cuda", dtype=torch.bfloat16)
    if is_int4 and not is_head:
        q = torch.randint(0, 16, shape, device="cuda", dtype=torch.uint8)
        scales = torch.full((shape[0], shape[1] // 128), 0.005, device="cuda")
        return Int4Linear(q, scales, torch.zeros_like(scales), bias)
    weight = torch.randn(shape, device="cuda", dtype=torch.bfloat16) * 0.02
    if is_int4:
        return Int8Linear(weight, bias)
    made = nn.Linear(shape[1], shape[0], bias=False, device="meta")
    made.weight = nn.Parameter(weight, requires_grad=False)
    made.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)  # type: ignore[assignment]
    return made


def _replace(model: nn.Module, old: torch.Tensor, new: torch.Tensor) -> None:
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter is old:
                setattr(module, name, nn.Parameter(new, requires_grad=False))


def weight_bytes(model: nn.Module) -> int:
    """Bytes that one step reads: all weights but the embedding."""
    embedding = model.get_input_embeddings().weight  # type: ignore[operator]
    tensors = [each for each in (*model.parameters(), *model.buffers()) if each is not embedding]
    return sum(each.numel() * each.element_size() for each in tensors)


def copy_bandwidth() -> float:
    """Bytes per second that the GPU reads and writes in a copy."""
    source = torch.empty(4 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    seconds = []
    for _ in range(5):
        torch.cuda.synchronize()
        began = time.perf_counter()
        target.copy_(source)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return 2 * source.numel() / min(seconds)


def open_engine(model: transformers.PreTrainedModel, *, is_int4: bool) -> Engine:
    """An engine on a model that was never on a disk."""
    placement = Placement("cuda:0", "bfloat16", "int4" if is_int4 else None, "made on the GPU")
    tokenizer = Tokenizer(models.BPE())
    checkpoint = Checkpoint("made", Path(), model.config.to_dict(), {}, "", Weights(0, 0, frozenset()))
    capacity = STREAMS * (PROMPT_TOKENS + NEW_TOKENS + 512) + LONG_PROMPT_TOKENS
    return Engine(LoadedModel(model, tokenizer, checkpoint, placement), SlotPlan(STREAMS, capacity, "for a benchmark"))


def ask(engine: Engine, place: int, sampling: Sampling = GREEDY, prompt_tokens: int = PROMPT_TOKENS) -> Usage:
    """One request to its end."""
    prompt = tuple(100 + (7 * at + 31 * place) % 100_000 for at in range(prompt_tokens))
    request = Request(prompt, sampling, frozenset(), f"{time.monotonic_ns()}")
    return [item for item in engine.stream(request) if isinstance(item, Token)][-1].usage


def measure(engine: Engine) -> dict[str, float]:
    """Tokens/s of one stream, of all together and of reading, medians."""
    rounds: dict[str, list[float]] = {}
    for round_number in range(ROUNDS + 1):
        speeds = {
            "one_stream": ask(engine, 0).tokens_per_s or 0.0,
            "one_stream_sampled": ask(engine, 0, SAMPLED).tokens_per_s or 0.0,
            "reading": LONG_PROMPT_TOKENS / ask(engine, round_number, ONE_TOKEN, LONG_PROMPT_TOKENS).first_token_s,
        }
        began = time.perf_counter()
        with ThreadPoolExecutor(STREAMS) as pool:
            list(pool.map(lambda place: ask(engine, place), range(STREAMS)))
        speeds[f"{STREAMS}_streams"] = STREAMS * NEW_TOKENS / (time.perf_counter() - began)
        for name, speed in speeds.items():
            rounds.setdefault(name, []).append(speed)
    return {name: statistics.median(each[1:]) for name, each in rounds.items()}


@torch.inference_mode()
def measure_generate(model: transformers.PreTrainedModel, **arguments: Any) -> float:
    """Tokens/s of `generate` alone."""
    ids = torch.arange(100, 100 + PROMPT_TOKENS, device="cuda")[None]
    speeds = []
    for _ in range(ROUNDS + 1):
        seconds = []
        for new_tokens in (1, NEW_TOKENS):
            torch.cuda.synchronize()
            began = time.perf_counter()
            model.generate(
                ids, max_new_tokens=new_tokens, do_sample=False, eos_token_id=None, pad_token_id=0, **arguments
            )
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
        speeds.append((NEW_TOKENS - 1) / (seconds[1] - seconds[0]))
    return statistics.median(speeds[1:])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Measures the engine on an NVIDIA GPU.")
    parser.add_argument("--layers", type=int, default=32, help="fewer for a quick look (default: %(default)s)")
    parser.add_argument("--without-peers", action="store_true", help="measure no `generate`")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("No NVIDIA GPU here: nothing to measure.")
        return
    bandwidth = copy_bandwidth()
    torch.cuda.empty_cache()
    row: dict[str, float] = {"copy_bandwidth_gb_per_s": round(bandwidth / 1e9)}
    print(f"{torch.cuda.get_device_name()}: copies at {bandwidth / 1e9:,.0f} GB/s")
    for name, is_int4 in (("bf16", False), ("int4", True)):
        model = make_model(arguments.layers, is_int4=is_int4)
        if not is_int4 and not arguments.without_peers:
            row["generate_tokens_per_s"] = round(measure_generate(model), 1)
            row["generate_static_tokens_per_s"] = round(measure_generate(model, cache_implementation="static"), 1)
        fuse(model)
        num_bytes = weight_bytes(model)
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        engine = open_engine(model, is_int4=is_int4)
        speeds = measure(engine)
        kv_bytes = engine.plan.max_tokens * 2 * arguments.layers * 4096 * 2
        peak = torch.cuda.max_memory_allocated()
        engine.close()
        row |= {f"{name}_{figure}_tokens_per_s": round(speed, 1) for figure, speed in speeds.items()}
        row[f"{name}_peak_gb"] = round(peak / 1e9, 2)
        alone, together = speeds["one_stream"], speeds[f"{STREAMS}_streams"]
        print(
            f"{name}: one stream {alone:.1f} tokens/s, {alone * num_bytes / bandwidth:.0%} of the copy bandwidth; "
            f"sampled {speeds['one_stream_sampled']:.1f}; reading {speeds['reading']:,.0f}; "
            f"{STREAMS} streams {together:.0f} tokens/s ({together / alone:.1f} x); peak {peak / 1e9:.2f} GB, "
            f"{peak / (before + kv_bytes):.3f} x of weights and cache"
        )
        del engine, model
        torch.cuda.empty_cache()
    if not arguments.without_peers:
        print(f"generate: {row['generate_tokens_per_s']} tokens/s; static {row['generate_static_tokens_per_s']}")
    print(json.dumps({"benchmark": "gpu", "prompt_tokens": PROMPT_TOKENS, "new_tokens": NEW_TOKENS, **row}))


if __name__ == "__main__":
    main()
