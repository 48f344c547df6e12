"""The GPU's way to compute, on the processor: pages, static shapes and reuse, with a plain attention as the kernel."""

import gc
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from model_loader.checkpoint.resolve import resolve_checkpoint
from model_loader.engine.batch_runner import BatchRunner
from model_loader.engine.engine import Engine
from model_loader.engine.gpu import paged_attention
from model_loader.engine.gpu.paged_runner import PagedRunner
from model_loader.engine.gpu.pages import PAGE_TOKENS, Pages
from model_loader.engine.request import Request, Sampling, Token
from model_loader.engine.runner import Feed
from model_loader.engine.sampling import Sampler
from model_loader.engine.slots import SlotPlan
from model_loader.errors import ContextLengthExceeded
from model_loader.loading.load import LoadedModel, load_model
from model_loader.loading.placement import Placement
from tests.qwen1_checkpoint import qwen2_model, write_qwen1_checkpoint
from tests.tiny_checkpoint import write_tiny_checkpoint

CPU = Placement("cpu", "float32", None, "float32 on cpu, because this is a test")
PLAN = SlotPlan(8, 8 * PAGE_TOKENS, "because this is a test")
KINDS: dict[str, dict[str, Any]] = {
    "qwen2": {"max_position_embeddings": 2048},
    "qwen3": {},
    "qwen3_moe": {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2},
    "mistral": {"sliding_window": 9},
}


def plain_varlen_attn(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cu_seq_q: torch.Tensor, cu_seq_k: torch.Tensor,
    max_q: int, max_k: int, *, scale: float, window_size: tuple[int, int], enable_gqa: bool,
    seqused_k: torch.Tensor, block_table: torch.Tensor, num_splits: int,
) -> torch.Tensor:  # fmt: skip
    """What torch's documentation says of `varlen_attn`, one sequence after the other."""
    assert cu_seq_k.shape == cu_seq_q.shape
    assert num_splits == 1
    output = torch.empty_like(query)
    for row, (first, end) in enumerate(zip(cu_seq_q[:-1].tolist(), cu_seq_q[1:].tolist(), strict=True)):
        length = int(seqused_k[row])
        assert end - first <= max_q
        assert length <= max_k
        keys, values = (each[block_table[row].long()].flatten(0, 1)[:length].transpose(0, 1) for each in (key, value))
        last = torch.arange(length - (end - first), length)[:, None]
        places = torch.arange(length)
        is_seen = places <= last
        if window_size[0] >= 0:
            is_seen &= places >= last - window_size[0]
        part = functional.scaled_dot_product_attention(
            query[first:end].transpose(0, 1)[None],
            keys[None],
            values[None],
            is_seen,
            scale=scale,
            enable_gqa=enable_gqa,
        )
        output[first:end] = part[0].transpose(0, 1)
    return output


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paged_attention, "varlen_attn", plain_varlen_attn)
    monkeypatch.setattr(PagedRunner, "supports", staticmethod(lambda loaded: True))


def load(folder: Path) -> LoadedModel:
    return load_model(resolve_checkpoint(str(folder)), CPU, lambda progress: None)


def open_engine(loaded: LoadedModel, *, is_static: bool, plan: SlotPlan = PLAN) -> Engine:
    engine = Engine(loaded, plan)
    assert isinstance(engine._runner, PagedRunner)
    engine._runner._records = is_static
    return engine


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load(write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "qwen2", **KINDS["qwen2"]))


@pytest.fixture
def engine(loaded: LoadedModel) -> Iterator[Engine]:
    engine = open_engine(loaded, is_static=True)
    yield engine
    engine.close()


def prompt_of(length: int) -> tuple[int, ...]:
    return tuple(5 + (7 * place + length) % 390 for place in range(length))


def greedy(prompt: tuple[int, ...], new_tokens: int = 12, owner: str = "") -> Request:
    return Request(prompt, Sampling(max_new_tokens=new_tokens, temperature=0), frozenset(), owner)


def tokens(engine: Engine, request: Request) -> list[Token]:
    return [item for item in engine.stream(request) if isinstance(item, Token)]


def ids(engine: Engine, request: Request) -> list[int]:
    return [token.id for token in tokens(engine, request)]


@pytest.mark.parametrize("is_static", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_pages_and_static_shapes_give_the_tokens_of_generate(kind: str, is_static: bool, tmp_path: Path) -> None:
    loaded = load(write_tiny_checkpoint(tmp_path / kind, kind=kind, **KINDS[kind]))
    prompts = [prompt_of(length) for length in (1, 17, 250, 300)]  # the third grows into a second page
    expected = [
        loaded.model.generate(
            torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0
        )[0, len(prompt) :].tolist()
        for prompt in prompts
    ]
    engine = open_engine(loaded, is_static=is_static)
    try:
        with ThreadPoolExecutor(len(prompts)) as pool:
            requests = [greedy(prompt, owner=str(place)) for place, prompt in enumerate(prompts)]
            assert list(pool.map(lambda request: ids(engine, request), requests)) == expected
    finally:
        engine.close()


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_new_tokens=20, temperature=0.9, top_k=20, top_p=0.8, seed=1),
        Sampling(max_new_tokens=20, temperature=0.9, top_k=100, min_p=0.01, seed=2),
        Sampling(max_new_tokens=20, temperature=2.0, top_p=0.99, seed=3),  # more tokens than are looked at first
        Sampling(max_new_tokens=20, temperature=2.0, seed=4),
        Sampling(max_new_tokens=20, temperature=2.0, top_k=400, seed=6),
        Sampling(max_new_tokens=20, temperature=0.9, top_k=20, repetition_penalty=1.2, seed=5),
    ],
)
def test_recorded_draws_are_those_of_the_plain_way(loaded: LoadedModel, sampling: Sampling) -> None:
    """Beside them greedy ones, longer and shorter, so that rows end and steps that were begun ahead are left."""

    def answers(engine: Engine) -> list[list[int]]:
        requests = [Request(prompt_of(20 + 9 * place), sampling, frozenset(), f"drawn {place}") for place in range(3)]
        requests += [greedy(prompt_of(30 + place), length, f"greedy {place}") for place, length in enumerate((5, 31))]
        with ThreadPoolExecutor(len(requests)) as pool:
            return list(pool.map(lambda request: ids(engine, request), requests))

    found = []
    for is_static in (False, True):
        engine = open_engine(loaded, is_static=is_static)
        try:
            found.append(answers(engine))
        finally:
            engine.close()
    assert found[0] == found[1]


def test_a_piece_of_one_token_is_told_from_an_answer(loaded: LoadedModel) -> None:
    found = []
    for kind in (BatchRunner, PagedRunner):
        runner = kind(loaded, PLAN)
        runner._records = True  # type: ignore[attr-defined]
        slots = [runner.take(greedy(prompt_of(9 + place), owner=str(place))) for place in range(2)]
        runner.forward([Feed(slot, prompt_of(5), 0) for slot in slots])
        unwanted, wanted = runner.forward([Feed(slots[0], (6,), 0), Feed(slots[1], (7,), 1)])
        assert not len(unwanted)
        request = greedy(prompt_of(9))
        (token,) = runner.sample([wanted[-1]], [Sampler(request)], looks_ahead=False)
        found.append((wanted, token))
        runner.close()
    assert torch.allclose(found[0][0], found[1][0], atol=1e-4)
    assert found[0][1] == found[1][1] == int(found[0][0].argmax())


def test_a_step_begun_ahead_is_not_taken_for_another_place(loaded: LoadedModel) -> None:
    """The same token behind a shorter beginning of the same slot: an answer was stopped and is asked for anew."""
    runner = PagedRunner(loaded, PLAN)
    runner._records = True
    try:
        request = greedy(prompt_of(40), 20)
        slot = runner.take(request)
        (logits,) = runner.forward([Feed(slot, request.prompt_ids, 1)])
        (drawn,) = runner.sample([logits[-1]], [Sampler(request)], looks_ahead=True)
        assert isinstance(drawn, int)
        assert runner._ahead is not None
        runner.release(slot, is_kept=True)
        again = greedy((*request.prompt_ids[:30], drawn), 20)
        slot = runner.take(again)
        assert slot is not None
        assert len(slot.ids) == 30
        (found,) = runner.forward([Feed(slot, (drawn,), 1)])
    finally:
        runner.close()
    expected = loaded.model(torch.tensor([again.prompt_ids]))["logits"][0, -1]
    assert torch.allclose(found[0], expected, atol=1e-4)


def test_attention_that_is_wrong_for_two_sequences_is_not_used(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nonsense(query: torch.Tensor, *args: Any, **arguments: Any) -> torch.Tensor:
        output = plain_varlen_attn(query, *args, **arguments)
        return output if len(args[2]) == 2 else output.roll(1, dims=0)

    monkeypatch.setattr(paged_attention, "varlen_attn", nonsense)
    engine = Engine(loaded, PLAN)
    try:
        assert type(engine._runner) is BatchRunner
    finally:
        engine.close()


def test_qwen1_keeps_each_rows_stretch_in_a_static_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    loaded = load(write_qwen1_checkpoint(tmp_path / "Qwen-Tiny-Chat", qwen2_model().state_dict()))
    requests = [greedy(prompt_of(length), 8, str(length)) for length in (20, 70, 140)]
    engine = Engine(loaded, PLAN)
    engine._runner._records = False  # type: ignore[attr-defined]
    alone = [ids(engine, request) for request in requests]
    engine.close()
    engine = open_engine(loaded, is_static=True)
    try:
        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(lambda request: ids(engine, request), requests)) == alone
    finally:
        engine.close()


def test_a_next_turn_grows_into_more_pages_and_answers_the_same(engine: Engine) -> None:
    first = greedy(prompt_of(200), owner="a")
    turn = (*first.prompt_ids, *ids(engine, first), *prompt_of(300))
    reused, fresh = tokens(engine, greedy(turn, owner="a")), tokens(engine, greedy(turn, owner="b"))
    assert [token.id for token in reused] == [token.id for token in fresh]
    assert (reused[-1].usage.cached_prompt_tokens, fresh[-1].usage.cached_prompt_tokens) == (211, 0)


def test_another_branch_copies_the_pages_it_shares(engine: Engine) -> None:
    long = greedy(prompt_of(600), owner="a")
    ids(engine, long)
    branch = (*long.prompt_ids[:270], *prompt_of(9))
    reused, fresh = tokens(engine, greedy(branch, owner="a")), tokens(engine, greedy(branch, owner="b"))
    assert [token.id for token in reused] == [token.id for token in fresh]
    assert reused[-1].usage.cached_prompt_tokens == 270
    assert tokens(engine, long)[-1].usage.cached_prompt_tokens == 599


def test_every_page_comes_back(loaded: LoadedModel) -> None:
    engine = open_engine(loaded, is_static=True)
    pages = engine._runner._pages  # type: ignore[attr-defined]
    for number in range(12):
        ids(engine, greedy(prompt_of(40 * number + 1), owner=str(number % 5)))
    engine.close()
    assert pages.num_free == 8
    assert sorted(pages.take(8)) == list(range(1, 9))


def test_unused_rows_write_to_the_spare_page_alone(engine: Engine) -> None:
    requests = [greedy(prompt_of(30 + place), 40, str(place)) for place in range(3)]  # three rows in a step of four
    alone = [ids(engine, request) for request in requests]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda request: ids(engine, request), requests)) == alone


def test_pages_are_never_handed_out_twice() -> None:
    pages = Pages(4)
    first, second = pages.take(3), pages.take(1)
    assert sorted(first + second) == [1, 2, 3, 4]
    with pytest.raises(IndexError):
        pages.take(1)
    pages.give_back(first)
    assert pages.num_free == 3


def test_no_part_of_a_page_is_promised(loaded: LoadedModel) -> None:
    engine = open_engine(loaded, is_static=True, plan=SlotPlan(1, 3 * PAGE_TOKENS - 1, "because this is a test"))
    try:
        assert engine.plan.max_tokens == 2 * PAGE_TOKENS
        assert len(ids(engine, greedy(prompt_of(2 * PAGE_TOKENS - 12)))) == 12
        with pytest.raises(ContextLengthExceeded):
            ids(engine, greedy(prompt_of(2 * PAGE_TOKENS)))
    finally:
        engine.close()


def test_a_single_slot_is_enough(loaded: LoadedModel, engine: Engine) -> None:
    alone = open_engine(loaded, is_static=True, plan=SlotPlan(1, 2 * PAGE_TOKENS, "because this is a test"))
    try:
        assert ids(alone, greedy(prompt_of(40))) == ids(engine, greedy(prompt_of(40)))
    finally:
        alone.close()


def test_a_closed_engine_holds_no_memory(tmp_path: Path) -> None:
    loaded = load(write_tiny_checkpoint(tmp_path / "qwen2", **KINDS["qwen2"]))
    engine = open_engine(loaded, is_static=True)
    ids(engine, greedy(prompt_of(30)))
    runner = engine._runner
    assert isinstance(runner, PagedRunner)
    held = [weakref.ref(each) for each in (runner, runner._pages, *runner._recorded.values())]
    gc.collect()
    gc.disable()  # what only the collector frees stays until it happens to come by, gigabytes of it
    try:
        engine.close()
        del engine, runner
        assert [each() for each in held] == [None] * len(held)
    finally:
        gc.enable()
