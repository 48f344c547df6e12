"""Qwen-1's window attention, as we read it: through the engine's pieces, slots and company it is the plain formula."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from model_loader.checkpoint.context_length import parse_long_context, switch_long_context
from model_loader.checkpoint.resolve import resolve_checkpoint
from model_loader.engine.engine import Engine
from model_loader.engine.request import Request, Sampling, Token
from model_loader.engine.slots import SlotPlan
from model_loader.loading.load import LoadedModel, load_model
from model_loader.loading.placement import Placement
from model_loader.loading.qwen1 import layer_windows, ntk_alpha
from tests.qwen1_checkpoint import qwen2_model, write_qwen1_checkpoint

CPU = Placement("cpu", "float32", None, "float32 on cpu, because this is a test")
TRAINED = 16
PROMPT = tuple((7 * n * n + 3 * n) % 380 + 5 for n in range(150))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("qwen1") / "Qwen-Tiny"
        write_qwen1_checkpoint(folder, qwen2_model(num_layers=4).state_dict(), seq_length=TRAINED)
        checkpoint = resolve_checkpoint(str(folder))
        config = switch_long_context(checkpoint.config, parse_long_context("ntk,logn,window"))
        return load_model(replace(checkpoint, config=config), CPU, lambda progress: None)


def plain_logprobs(ids: tuple[int, ...]) -> torch.Tensor:
    """How likely each id of a text but the first is after those before it."""
    scores = plain_logits(ids)[:-1].log_softmax(-1)
    return scores.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def plain_logits(ids: tuple[int, ...]) -> torch.Tensor:
    """`(length, vocab)` in float64, by the formulas as they are written."""
    weights = {name: tensor.double() for name, tensor in qwen2_model(num_layers=4).state_dict().items()}
    length, heads, dim = len(ids), 4, 16
    positions = torch.arange(length, dtype=torch.float64)
    hidden = weights["model.embed_tokens.weight"][list(ids)]
    logn = (torch.log(positions + 1) / math.log(TRAINED)).clamp(min=1)
    for layer, window in enumerate(layer_windows(4, TRAINED)):
        alpha = ntk_alpha(min(length, window), TRAINED)
        base = 10_000.0 * alpha ** (dim / (dim - 2))
        angles = positions[:, None] / base ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)
        w = {k.removeprefix(f"model.layers.{layer}."): v for k, v in weights.items() if f"layers.{layer}." in k}
        x = _normed(hidden, w["input_layernorm.weight"])
        q, k, v = (
            functional.linear(x, w[f"self_attn.{n}_proj.weight"], w[f"self_attn.{n}_proj.bias"])
            .view(length, heads, dim)
            .transpose(0, 1)
            for n in "qkv"
        )
        q, k = (each * cos + torch.cat([-each[..., dim // 2 :], each[..., : dim // 2]], -1) * sin for each in (q, k))
        scores = (q * logn[:, None]) @ k.transpose(1, 2) / math.sqrt(dim)
        distance = positions[:, None] - positions[None, :]
        scores = scores.masked_fill((distance < 0) | (distance >= window), -torch.inf)
        mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(length, -1)
        hidden = hidden + mixed @ w["self_attn.o_proj.weight"].T
        x = _normed(hidden, w["post_attention_layernorm.weight"])
        gate = functional.silu(x @ w["mlp.gate_proj.weight"].T) * (x @ w["mlp.up_proj.weight"].T)
        hidden = hidden + gate @ w["mlp.down_proj.weight"].T
    return _normed(hidden, weights["model.norm.weight"]) @ weights["lm_head.weight"].T


def _normed(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * weight


def read(engine: Engine, ids: tuple[int, ...], owner: str) -> torch.Tensor:
    request = Request(ids, Sampling(max_new_tokens=1, temperature=0), frozenset(), owner, has_prompt_logprobs=True)
    (token,) = [item for item in engine.stream(request) if isinstance(item, Token)]
    assert token.prompt_logprobs is not None
    return torch.tensor([each.logprob for each in token.prompt_logprobs], dtype=torch.float64)


def test_the_lower_layers_see_less_far_back() -> None:
    windows = layer_windows(32, 2048)
    assert windows == [2048] * 4 + [4096] * 4 + [8192] * 24
    assert [ntk_alpha(window, 2048) for window in (2048, 4096, 8192)] == [1, 3, 7]


@pytest.mark.parametrize("length", [12, 17, 40, 64, 65, 150])
def test_the_engine_computes_the_plain_formula(loaded: LoadedModel, length: int) -> None:
    engine = Engine(loaded, SlotPlan(4, 10_000, "because this is a test"))
    try:
        found = read(engine, PROMPT[:length], "one")
    finally:
        engine.close()
    torch.testing.assert_close(found, plain_logprobs(PROMPT[:length]), atol=2e-4, rtol=1e-4)


def test_company_and_pieces_change_nothing(loaded: LoadedModel) -> None:
    engine = Engine(loaded, SlotPlan(4, 10_000, "because this is a test"))
    texts = [PROMPT[:length] for length in (20, 60, 150, 100)]
    try:
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda each: read(engine, each[1], str(each[0])), enumerate(texts)))
    finally:
        engine.close()
    for found, text in zip(together, texts, strict=True):
        torch.testing.assert_close(found, plain_logprobs(text), atol=2e-4, rtol=1e-4)


def test_an_answer_goes_on_as_if_read_anew(loaded: LoadedModel) -> None:
    engine = Engine(loaded, SlotPlan(4, 10_000, "because this is a test"))
    try:
        greedy = Sampling(max_new_tokens=6, temperature=0)
        answer = [
            item.id for item in engine.stream(Request(PROMPT[:70], greedy, frozenset(), "a")) if isinstance(item, Token)
        ]
        known = PROMPT[:70]
        for token_id in answer:  # 70 to 76 tokens have the same stretch, so reading anew gives the same
            expected = int(plain_logits(known)[-1].argmax())
            assert token_id == expected
            known = (*known, token_id)
    finally:
        engine.close()
