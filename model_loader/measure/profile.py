"""What generating costs on this machine: the two tables of the Qwen-7B README of 2023, by its method and ours.

The method of 2023: one run without a warm-up, the checkpoint's sampling, a prompt of one token said again and again,
and the speed is new tokens over the whole time. Ours: the first pass is warm, the time to the first token stands
apart, and the speed is that of the tokens after it. Source: QwenLM/Qwen, profile.py.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import get_args

from model_loader.checkpoint.hub import HubOptions
from model_loader.checkpoint.resolve import Checkpoint, resolve_checkpoint
from model_loader.defaults import default_sampling
from model_loader.engine.engine import Engine
from model_loader.engine.request import Request, Sampling, Token
from model_loader.engine.slots import SlotPlan
from model_loader.errors import InvalidSetting, NotEnoughMemory
from model_loader.events import Usage
from model_loader.loading.hardware import PeakMemory, give_back_memory, measure_bandwidth, probe_hardware
from model_loader.loading.load import LoadedModel, load_model
from model_loader.loading.placement import LoadOptions, Precision, choose_placement, weight_bytes

SHORT, LONG = 2048, 8192
QUICK_SHORT, QUICK_LONG = 64, 256
_WORD = "我"
_SEED = 1024

FIGURES_2023 = {
    "bf16": {"short_tokens_per_s": 30.53, "long_tokens_per_s": 28.51, "encode_gib": 18.99, "generate_gib": 24.40},
    "int4": {"short_tokens_per_s": 45.60, "long_tokens_per_s": 33.83, "encode_gib": 10.20, "generate_gib": 15.61},
}
"""Qwen-7B-Chat on an A100-SXM4-80G with torch 2.0.1, as its README printed them."""

ReportShare = Callable[[str, float], None]
"""Told what is being measured and which share of it is done."""


@dataclass(frozen=True, slots=True)
class Generation:
    """Tokens generated from one, both methods.

    Attributes:
        num_tokens: how many.
        tokens_per_s: ours, after the first.
        tokens_per_s_2023: new tokens over the whole time, on a cold model, with the checkpoint's sampling.
        first_token_s: seconds to the first one.
        bandwidth_share: our speed against what reading weights and cache once a token would allow.
    """

    num_tokens: int
    tokens_per_s: float
    tokens_per_s_2023: float
    first_token_s: float
    bandwidth_share: float


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """One precision.

    Attributes:
        precision: as `--precision` takes it.
        placement: the sentence that says where the model was.
        short, long: two lengths of generation.
        encode_tokens: tokens of the prompt whose reading is measured.
        encode_bytes, generate_bytes: peak memory reading them, and generating the longer text.
    """

    precision: str
    placement: str
    short: Generation
    long: Generation
    encode_tokens: int
    encode_bytes: int
    generate_bytes: int


def measure_profile(
    name: str, options: LoadOptions, hub: HubOptions, report: ReportShare, *, is_quick: bool
) -> Iterator[ProfileRow]:
    """One row after the other, for each precision that fits.

    Raises:
        ModelLoaderError: as resolving and loading say, or no precision fits.
    """
    checkpoint = resolve_checkpoint(name, hub=hub)
    short, long = (QUICK_SHORT, QUICK_LONG) if is_quick else (SHORT, LONG)
    long = min(long, checkpoint.context_length - 1)
    short = min(short, long // 4)
    num_rows = 0
    for precision in _precisions(checkpoint, options):
        try:
            placement = choose_placement(checkpoint, probe_hardware(), LoadOptions(precision, options.cpu_only))
        except (NotEnoughMemory, InvalidSetting) as error:
            last_error = error
            continue
        report(f"{precision}: loading", 0.0)
        peak = PeakMemory(placement.device)
        loaded = load_model(checkpoint, placement, lambda progress: None)
        yield _measure_row(precision, loaded, peak, short, long, report)
        num_rows += 1
        del loaded
        give_back_memory()
    if not num_rows:
        raise last_error


def _precisions(checkpoint: Checkpoint, options: LoadOptions) -> tuple[Precision, ...]:
    if options.precision != "auto":
        return (options.precision,)
    if checkpoint.gptq is not None:
        return ("int4",) if checkpoint.gptq.bits == 4 else ("int8",)
    return tuple(each for each in get_args(Precision) if each not in ("auto", "fp16"))


def _measure_row(
    precision: Precision, loaded: LoadedModel, peak: PeakMemory, short: int, long: int, report: ReportShare
) -> ProfileRow:
    word = loaded.tokenizer.encode(_WORD, add_special_tokens=False).ids[0]
    engine = Engine(loaded, SlotPlan(1, max(short, long) + 2, "for one request at a time"))
    try:
        bandwidth = measure_bandwidth(loaded.input_device)
        give_back_memory()
        peak.reset()  # what stays is counted all the same
        generations = []
        for num_tokens in (short, long):
            cold = _generate(engine, word, num_tokens, _sampling_2023(loaded), report, f"{precision}: as in 2023")
            warm = _generate(engine, word, num_tokens, Sampling(temperature=0.0), report, f"{precision}: ours")
            generations.append(_generation(loaded, num_tokens, cold, warm, bandwidth))
        on_short, on_long = generations
        generate_bytes = peak.read()
    finally:
        engine.close()
    peak.reset()
    engine = Engine(loaded, SlotPlan(1, short + 2, "for one request at a time"))
    try:
        request = Request((word,) * short, Sampling(max_new_tokens=1, temperature=0.0), frozenset())
        _run(engine, request, lambda share: report(f"{precision}: reading {short:,} tokens", share))
        encode_bytes = peak.read()
    finally:
        engine.close()
    return ProfileRow(precision, loaded.placement.reason, on_short, on_long, short, encode_bytes, generate_bytes)


def _sampling_2023(loaded: LoadedModel) -> Sampling:
    return default_sampling(loaded.checkpoint).changed(seed=_SEED)


def _generate(engine: Engine, word: int, num_tokens: int, sampling: Sampling, report: ReportShare, what: str) -> Usage:
    """Generates exactly so many tokens: no id ends the answer."""
    request = Request((word,), sampling.changed(max_new_tokens=num_tokens), frozenset())
    return _run(engine, request, lambda share: report(f"{what}, {num_tokens:,} tokens", share))


def _run(engine: Engine, request: Request, report: Callable[[float], None]) -> Usage:
    num_tokens = 0
    with closing(engine.stream(request)) as items:
        for item in items:
            if isinstance(item, Token):
                num_tokens += 1
                report(num_tokens / request.sampling.max_new_tokens)
                if item.finish_reason is not None:
                    return item.usage
    raise RuntimeError("the engine's stream ended without a finish reason")


def _generation(loaded: LoadedModel, num_tokens: int, cold: Usage, warm: Usage, bandwidth: float) -> Generation:
    whole_s = cold.first_token_s - cold.queue_s + cold.decode_s
    placement = loaded.placement
    num_bytes = weight_bytes(loaded.checkpoint, placement.dtype, placement.quantization)
    num_bytes += loaded.kv_bytes_per_token * num_tokens // 2  # the cache is half full on average
    speed = warm.tokens_per_s or num_tokens / (warm.first_token_s + warm.decode_s)
    return Generation(
        num_tokens=num_tokens,
        tokens_per_s=speed,
        tokens_per_s_2023=num_tokens / whole_s,
        first_token_s=warm.first_token_s,
        bandwidth_share=speed * num_bytes / bandwidth,
    )
