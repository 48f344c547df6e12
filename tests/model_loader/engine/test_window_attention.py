"""Qwen-1's window attention, as we read it: through the engine's pieces, slots and company it is the plain formula."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from model_loader.checkpoint.context_length import parse_long_context, switch_long_context
from model_loader.checkpoint.resolve import resolve_checkpoint
from model_loader.engine.engine import Engine
from model_loader.engine.request import Request, Sampling, Token
from model_loader.engine.slots import SlotPlan
from model_loader.loading.load import LoadedModel, load_model
from model_loader.loading.placement import Placement
from model_loader.loading.qwen1 import layer_windows, ntk_alpha
from tests.qwen1_checkpoint import qwen2_model, write_qwen1_checkpoint
from tests.qwen1_reference import reference_logits, reference_logprobs

CPU = Placement("cpu", "float32", None, "float32 on cpu, because this is a test")
TRAINED = 16
WEIGHTS = qwen2_model(num_layers=4).state_dict()
PROMPT = tuple((7 * n * n + 3 * n) % 380 + 5 for n in range(150))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("qwen1") / "Qwen-Tiny"
        write_qwen1_checkpoint(folder, WEIGHTS, seq_length=TRAINED)
        checkpoint = resolve_checkpoint(str(folder))
        config = switch_long_context(checkpoint.config, parse_long_context("ntk,logn,window"))
        return load_model(replace(checkpoint, config=config), CPU, lambda progress: None)


def logprobs_of(ids: tuple[int, ...]) -> torch.Tensor:
    return reference_logprobs(WEIGHTS, ids, TRAINED)


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
    torch.testing.assert_close(found, logprobs_of(PROMPT[:length]), atol=2e-4, rtol=1e-4)


def test_company_and_pieces_change_nothing(loaded: LoadedModel) -> None:
    engine = Engine(loaded, SlotPlan(4, 10_000, "because this is a test"))
    texts = [PROMPT[:length] for length in (20, 60, 150, 100)]
    try:
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda each: read(engine, each[1], str(each[0])), enumerate(texts)))
    finally:
        engine.close()
    for found, text in zip(together, texts, strict=True):
        torch.testing.assert_close(found, logprobs_of(text), atol=2e-4, rtol=1e-4)


def test_an_answer_goes_on_as_if_read_anew(loaded: LoadedModel) -> None:
    engine = Engine(loaded, SlotPlan(4, 10_000, "because this is a test"))
    try:
        greedy = Sampling(max_new_tokens=6, temperature=0)
        answer = [
            item.id for item in engine.stream(Request(PROMPT[:70], greedy, frozenset(), "a")) if isinstance(item, Token)
        ]
        known = PROMPT[:70]
        for token_id in answer:  # 70 to 76 tokens have the same stretch, so reading anew gives the same
            expected = int(reference_logits(WEIGHTS, known, TRAINED)[-1].argmax())
            assert token_id == expected
            known = (*known, token_id)
    finally:
        engine.close()
