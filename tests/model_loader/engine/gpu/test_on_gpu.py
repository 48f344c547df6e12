"""The engine on an NVIDIA GPU: pages, recorded steps and packed weights give what the processor gives in float32."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from model_loader.checkpoint.resolve import resolve_checkpoint
from model_loader.engine.batch_runner import BatchRunner
from model_loader.engine.engine import Engine
from model_loader.engine.gpu.paged_runner import PagedRunner
from model_loader.engine.request import Request, Sampling, Token
from model_loader.engine.runner import Feed
from model_loader.engine.slots import Slot, SlotPlan
from model_loader.loading import gpu_int4, gpu_kernels, gpu_products
from model_loader.loading.load import LoadedModel, load_model
from model_loader.loading.low_bit import Int4Linear, Int8Linear, round_to_int4
from model_loader.loading.placement import Placement
from tests.qwen1_checkpoint import qwen2_model, write_qwen1_checkpoint
from tests.tiny_checkpoint import write_tiny_checkpoint

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

CPU = Placement("cpu", "float32", None, "because this is a test")
PLAN = SlotPlan(8, 16_384, "because this is a test")
DECODED = 9
LIMITS = {"float16": 0.02, "bfloat16": 0.15}
"""So far from float32's may logits be; on a processor they are off by 0.01 and 0.07 in these formats."""
KINDS: dict[str, dict[str, Any]] = {
    "qwen2": {"max_position_embeddings": 2048},
    "qwen3": {},
    "qwen3_moe": {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2},
    "mistral": {"sliding_window": 9},
}


def on_gpu(dtype: str) -> Placement:
    return Placement("cuda:0", dtype, None, "because this is a test")  # type: ignore[arg-type]


def load(folder: str | Path, placement: Placement) -> LoadedModel:
    return load_model(resolve_checkpoint(str(folder)), placement, lambda progress: None)


def prompt_of(length: int) -> tuple[int, ...]:
    return tuple(5 + (7 * place + length) % 390 for place in range(length))


def differences(folder: Path, placement: Placement, lengths: Sequence[int]) -> list[float]:
    """How far the logits of decoded tokens are from float32's, as a share of their size; the largest of each step."""
    prompts = [prompt_of(length) for length in lengths]
    exact = BatchRunner(load(folder, CPU), PLAN)
    expected = [exact.forward([Feed(begin(exact, prompt), prompt, len(prompt))])[0] for prompt in prompts]
    exact.close()
    runner = PagedRunner(load(folder, placement), PLAN)
    try:
        slots = [begin(runner, prompt) for prompt in prompts]
        runner.forward([Feed(slot, prompt[:-DECODED], 0) for slot, prompt in zip(slots, prompts, strict=True)])
        found = []
        for at in range(-DECODED, 0):
            logits = runner.forward([Feed(slot, (prompt[at],), 1) for slot, prompt in zip(slots, prompts, strict=True)])
            rows = [(expected[place][at], logits[place][0].float().cpu()) for place in range(len(prompts))]
            found.append(max(float((got - want).norm() / want.norm()) for want, got in rows))
        return found
    finally:
        runner.close()


def begin(runner: BatchRunner, prompt: tuple[int, ...]) -> Slot:
    slot = runner.take(Request(prompt, Sampling(max_new_tokens=8), frozenset(), str(len(prompt))))
    assert slot is not None
    return slot


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("kind", KINDS)
def test_recorded_steps_over_pages_compute_what_the_processor_does(kind: str, dtype: str, tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / kind, kind=kind, **KINDS[kind])
    found = differences(folder, on_gpu(dtype), (10, 200, 262, 700))
    assert max(found) < LIMITS[dtype], found


@pytest.mark.parametrize("dtype", LIMITS)
def test_qwen1_does_too(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = write_qwen1_checkpoint(tmp_path / "Qwen-Tiny-Chat", qwen2_model().state_dict())
    found = differences(folder, on_gpu(dtype), (10, 70, 140))
    assert max(found) < LIMITS[dtype], found


@pytest.mark.parametrize(("precision", "limit"), [("int8", 0.05), ("int4", 0.5)])
def test_packed_weights_do_within_their_rounding(precision: str, limit: float) -> None:
    placement = Placement("cuda:0", "bfloat16", precision, "because this is a test")  # type: ignore[arg-type]
    found = differences(Path("builtin"), placement, (20, 300))
    assert max(found) < limit, found
    assert not any(math.isnan(each) for each in found)


def test_the_kernels_of_our_own_run() -> None:
    assert gpu_kernels.are_available(torch.device("cuda:0"))


@pytest.mark.parametrize("group_size", [32, 64, 128, 256])
@pytest.mark.parametrize("rows", [1, 2, 4, 5, 33, 64, 65, 300])
def test_four_bits_give_the_product_of_the_weights_they_stand_for(rows: int, group_size: int) -> None:
    torch.manual_seed(rows)
    q = torch.randint(0, 16, (192, 512), device="cuda")
    scales, zeros = (torch.randn(192, 512 // group_size, device="cuda").bfloat16().float() for _ in range(2))
    groups = (q.view(192, -1, group_size) - 8) * scales[..., None] + zeros[..., None]
    x = torch.randn(rows, 512, device="cuda", dtype=torch.bfloat16)
    expected = x.float() @ groups.view(192, 512).T
    found = Int4Linear(q, scales, zeros)(x).float()
    assert float((found - expected).norm() / expected.norm()) < 0.01


@pytest.mark.parametrize("rows", [1, 5, 33, 65])
@pytest.mark.parametrize("out_features", [192, 200])
def test_eight_bits_too(rows: int, out_features: int) -> None:
    torch.manual_seed(rows)
    weight = torch.randn(out_features, 512, device="cuda", dtype=torch.bfloat16)
    x = torch.randn(rows, 512, device="cuda", dtype=torch.bfloat16)
    expected = x.float() @ weight.float().T
    found = Int8Linear(weight)(x).float()
    assert float((found - expected).norm() / expected.norm()) < 0.02


@pytest.mark.parametrize("kind", ["bfloat16", "int8", "int4"])
@pytest.mark.parametrize("in_features", [512, 1408])
def test_norm_gate_and_residual_are_computed_with_the_product_of_one_row(kind: str, in_features: int) -> None:
    torch.manual_seed(in_features)
    weight = torch.randn(200, in_features, device="cuda", dtype=torch.bfloat16) / 20
    bias, residual, x = (torch.randn(1, size, device="cuda", dtype=torch.bfloat16) for size in (200, 100, in_features))
    factors = torch.rand(in_features, device="cuda").bfloat16() + 0.5
    identity = torch.eye(in_features, device="cuda", dtype=torch.bfloat16)
    normed = functional.rms_norm(x.float(), (in_features,), factors.float(), 1e-6)
    around: dict[str, Any] = {"norm": factors, "epsilon": 1e-6, "residual": residual, "is_gated": True}
    if kind == "bfloat16":
        found = gpu_products.row_product(x, weight, bias[0], **around)
    elif kind == "int8":
        eight = Int8Linear(weight[:192])
        weight, bias, around["residual"] = eight(identity).T, bias[:, :192], residual[:, :96]
        found = gpu_products.row_product(x, eight.q, bias[0], scales=eight.scales, **around)
    else:
        four = Int4Linear(*round_to_int4(weight[:192]))
        weight, bias, around["residual"] = four(identity).T, bias[:, :192], residual[:, :96]
        found = gpu_int4.rows_product(x, four.packed, four.scales_and_zeros, four.group_size, bias[0], **around)
    gate, up = (normed @ weight.float().T + bias.float()).chunk(2, dim=-1)
    expected = functional.silu(gate) * up + around["residual"].float()
    assert float((found.float() - expected).norm() / expected.norm()) < 0.01


def test_the_guide_answers_many_at_once_as_alone() -> None:
    engine = Engine(load("builtin", on_gpu("bfloat16")))
    assert isinstance(engine._runner, PagedRunner)
    assert engine._runner._records

    def answer(place: int, owner: str, top_logprobs: int | None = None) -> list[Token]:
        request = Request(
            prompt_of(30 + 40 * place), Sampling(max_new_tokens=40, temperature=0), frozenset(), owner,
            top_logprobs=top_logprobs,
        )  # fmt: skip
        return [item for item in engine.stream(request) if isinstance(item, Token)]

    try:
        alone = [answer(place, f"alone {place}", 2) for place in range(8)]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda place: answer(place, f"together {place}"), range(8)))
    finally:
        engine.close()
    for first, second in zip(alone, together, strict=True):
        differs = next((at for at, (a, b) in enumerate(zip(first, second, strict=True)) if a.id != b.id), None)
        if differs is not None:  # only where rounding decides
            logprob = first[differs].logprob
            assert logprob is not None
            (_, likeliest), (_, next_likeliest) = logprob.top
            assert likeliest - next_likeliest < 0.2


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_new_tokens=30, temperature=0),
        Sampling(max_new_tokens=30, temperature=0.8, top_k=20, top_p=0.8, seed=3),
        Sampling(max_new_tokens=30, temperature=0.8, top_p=0.9, seed=3),
        Sampling(max_new_tokens=30, temperature=2.0, seed=3),
    ],
)
def test_a_step_that_is_begun_ahead_changes_no_answer(sampling: Sampling) -> None:
    engine = Engine(load("builtin", on_gpu("bfloat16")))
    try:
        requests = [
            Request(prompt_of(50), sampling, frozenset(), owner, top_logprobs=number)
            for owner, number in (("ahead", None), ("waits", 0))  # whoever wants probabilities gets no step ahead
        ]
        ahead, waits = ([item.id for item in engine.stream(request) if isinstance(item, Token)] for request in requests)
    finally:
        engine.close()
    assert ahead == waits
