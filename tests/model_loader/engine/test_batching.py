"""Many requests in one step: each answers as it would alone, whatever the architecture and whoever is beside it."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from model_loader.checkpoint.resolve import resolve_checkpoint
from model_loader.engine import engine as engine_module
from model_loader.engine.batch_runner import BatchRunner
from model_loader.engine.engine import Engine
from model_loader.engine.request import Request, Sampling, Token
from model_loader.engine.runner import Feed
from model_loader.engine.slots import SlotPlan
from model_loader.errors import ContextLengthExceeded, EngineStopped, GenerationFailed
from model_loader.events import Waiting
from model_loader.loading.load import LoadedModel, load_model
from model_loader.loading.placement import Placement
from tests.qwen1_checkpoint import qwen2_model, write_qwen1_checkpoint
from tests.tiny_checkpoint import write_tiny_checkpoint

CPU = Placement("cpu", "float32", None, "float32 on cpu, because this is a test")
PLAN = SlotPlan(4, 100_000, "because this is a test")
MOE = {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": True}
RECURRENT = MOE | {
    "shared_expert_intermediate_size": 32, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_key_head_dim": 16, "linear_value_head_dim": 16, "num_hidden_layers": 4,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "qwen3": {},
    "qwen3_moe": MOE,
    "mistral": {"sliding_window": 9},
    "qwen3_next": RECURRENT,
}
LENGTHS = (1, 3, 17, 40, 64, 65)


def prompt_of(length: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(random.Random(length + 1000 * seed).choices(range(5, 400), k=length))


def tokens(engine: Engine, request: Request) -> list[Token]:
    return [item for item in engine.stream(request) if isinstance(item, Token)]


def ids(engine: Engine, request: Request) -> list[int]:
    return [token.id for token in tokens(engine, request)]


def together(engine: Engine, requests: list[Request]) -> list[list[int]]:
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(lambda request: ids(engine, request), requests))


def greedy(prompt: tuple[int, ...], new_tokens: int = 24, **request: Any) -> Request:
    return Request(prompt, Sampling(max_new_tokens=new_tokens, temperature=0), frozenset(), **request)


def load(folder: Path) -> LoadedModel:
    return load_model(resolve_checkpoint(str(folder)), CPU, lambda progress: None)


@pytest.fixture(scope="module")
def loaded(tiny_folder: Path) -> LoadedModel:
    return load(tiny_folder)


@pytest.fixture
def engine(loaded: LoadedModel) -> Iterator[Engine]:
    engine = Engine(loaded, PLAN)
    yield engine
    engine.close()


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_answers_in_company_as_generate_does_alone(kind: str, tmp_path: Path) -> None:
    loaded = load(write_tiny_checkpoint(tmp_path / kind, kind=kind, **KINDS[kind]))
    prompts = [prompt_of(length) for length in LENGTHS]
    expected = []
    for prompt in prompts:
        output = loaded.model.generate(
            torch.tensor([prompt]), max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        expected.append(output[0, len(prompt) :].tolist())
    engine = Engine(loaded, PLAN)
    try:
        assert engine.plan.num_slots == (1 if kind == "qwen3_next" else 4)
        assert together(engine, [greedy(prompt, owner=str(at)) for at, prompt in enumerate(prompts)]) == expected
    finally:
        engine.close()


def test_qwen1_requests_keep_their_own_stretch_in_company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    loaded = load(write_qwen1_checkpoint(tmp_path / "Qwen-Tiny-Chat", qwen2_model().state_dict()))
    prompts = [prompt_of(length) for length in (20, 70, 140, 60)]  # below and beyond the training length of 64
    expected = []
    for prompt in prompts:
        known = list(prompt)
        for _ in range(8):
            alpha = loaded.rope_alpha(len(prompt))
            with torch.inference_mode():
                logits = loaded.model(input_ids=torch.tensor([known]), rope_alpha=alpha).logits[0, -1]
            known.append(int(logits.argmax()))
        expected.append(known[len(prompt) :])
    assert len({loaded.rope_alpha(len(prompt)) for prompt in prompts}) > 1
    engine = Engine(loaded, PLAN)
    try:
        assert together(engine, [greedy(prompt, 8, owner=str(at)) for at, prompt in enumerate(prompts)]) == expected
    finally:
        engine.close()


def test_sampled_answers_do_not_depend_on_the_company(engine: Engine) -> None:
    requests = [
        Request(prompt_of(10 + seed), Sampling(max_new_tokens=30, temperature=0.5 + seed / 5, top_p=0.9, top_k=seed,
                repetition_penalty=1.1, seed=seed), frozenset(), owner=str(seed))
        for seed in range(8)
    ]  # fmt: skip
    alone = [ids(engine, request) for request in requests]
    assert together(engine, requests) == alone


def test_the_next_turn_reads_only_what_is_new_and_answers_the_same(engine: Engine) -> None:
    first = greedy(prompt_of(60), owner="a")
    answer = ids(engine, first)
    turn = (*first.prompt_ids, *answer, *prompt_of(9, 1))
    reused = tokens(engine, greedy(turn, owner="a"))
    fresh = tokens(engine, greedy(turn, owner="b"))
    assert [token.id for token in reused] == [token.id for token in fresh]
    # The last sampled token was never read.
    assert (reused[-1].usage.cached_prompt_tokens, fresh[-1].usage.cached_prompt_tokens) == (60 + 24 - 1, 0)


def test_a_recurrent_model_goes_on_from_a_turns_end_only(tmp_path: Path) -> None:
    engine = Engine(load(write_tiny_checkpoint(tmp_path / "next", kind="qwen3_next", **RECURRENT)), PLAN)
    try:
        first = greedy(prompt_of(30), owner="a")
        answer = ids(engine, first)
        turn = (*first.prompt_ids, *answer, *prompt_of(9, 1))
        for owner, cached in (("a", 53), ("a", 53), ("b", 0)):  # the same turn again goes on from the same end
            found = tokens(engine, greedy(turn, owner=owner))
            assert found[-1].usage.cached_prompt_tokens == cached
            if cached:
                expected = [token.id for token in found]
        assert [token.id for token in found] == expected
        edited = (*first.prompt_ids[:20], *prompt_of(9, 2))
        assert tokens(engine, greedy(edited, owner="a"))[-1].usage.cached_prompt_tokens == 0
    finally:
        engine.close()


def test_a_recurrent_model_does_not_go_on_from_a_step_that_was_given_up(tmp_path: Path) -> None:
    loaded = load(write_tiny_checkpoint(tmp_path / "next", kind="qwen3_next", **RECURRENT))
    engine = Engine(loaded, PLAN)
    prompt = greedy(prompt_of(30), owner="a")
    held, released = threading.Event(), threading.Event()
    hook = loaded.model.base_model.layers[1].register_forward_pre_hook(lambda *_: held.set() or released.wait(10))
    try:
        stream = engine.stream(prompt)
        next(stream)
        assert held.wait(10)
        stream.close()
        released.set()
        hook.remove()
        again = tokens(engine, prompt)
        assert again[-1].usage.cached_prompt_tokens == 0
        assert [token.id for token in again] == ids(engine, greedy(prompt_of(30), owner="b"))
    finally:
        engine.close()


def test_a_long_prompt_is_read_between_the_steps_of_a_running_answer(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module.Pace, "chunk_tokens", lambda self, *numbers: 4)
    endless = Sampling(max_new_tokens=50_000, temperature=0)
    with closing(engine.stream(Request(prompt_of(5), endless, frozenset(), owner="a"))) as running:
        first = next(item for item in running if isinstance(item, Token))
        found = tokens(engine, greedy(prompt_of(80), new_tokens=1, owner="b"))
        later = [item for item in running_until(running, found[-1]) if isinstance(item, Token)]
    assert first.usage.completion_tokens == 1
    assert len(later) >= 80 / 4 - 1


def running_until(running: Iterator[Token | Waiting], other: Token) -> Iterator[Token | Waiting]:
    """What a running answer had said by the time another's first token came."""
    for item in running:
        yield item
        if isinstance(item, Token) and item.usage.decode_s >= other.usage.first_token_s:
            return


def test_an_owner_with_many_requests_does_not_starve_another(loaded: LoadedModel) -> None:
    engine = Engine(loaded, SlotPlan(1, 100_000, "because this is a test"))
    order: list[str] = []
    has_begun = threading.Event()

    def ask(owner: str) -> None:
        has_begun.wait(10)
        tokens(engine, greedy(prompt_of(8), 20, owner=owner))
        order.append(owner)

    try:
        running = engine.stream(Request(prompt_of(5), Sampling(max_new_tokens=50_000), frozenset(), owner="api"))
        next(item for item in running if isinstance(item, Token))
        readers = [threading.Thread(target=ask, args=(owner,)) for owner in ["api"] * 12]
        for reader in readers:
            reader.start()
        has_begun.set()
        wait_until(lambda: engine.num_requests == 13)
        page = threading.Thread(target=ask, args=("page",))
        page.start()
        wait_until(lambda: engine.num_requests == 14)
        running.close()
        for reader in (*readers, page):
            reader.join(30)
    finally:
        engine.close()
    assert order.index("page") <= 1


def test_a_request_that_can_never_fit_is_refused_with_its_numbers(loaded: LoadedModel) -> None:
    engine = Engine(loaded, SlotPlan(2, 128, "because this is a test"))
    try:
        with pytest.raises(ContextLengthExceeded, match=r"100 tokens and 64"):
            tokens(engine, greedy(prompt_of(100), 64))
        assert len(tokens(engine, greedy(prompt_of(100), 20))) == 20
    finally:
        engine.close()


def test_out_of_memory_ends_the_guilty_request_only(
    engine: Engine, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = BatchRunner.forward

    def failing(self: BatchRunner, feeds: list[Feed]) -> list[torch.Tensor]:
        if any(666 in feed.ids or 444 in feed.ids for feed in feeds):
            raise torch.OutOfMemoryError("no room")
        return forward(self, feeds)

    monkeypatch.setattr(BatchRunner, "forward", failing)
    fine = greedy(prompt_of(20), owner="a")
    alone = ids(engine, fine)
    with ThreadPoolExecutor(2) as pool:
        good = pool.submit(ids, engine, fine)
        bad = pool.submit(tokens, engine, greedy((*prompt_of(20), 444), owner="b"))
        assert good.result(30) == alone
        with pytest.raises(GenerationFailed, match="memory ran out"):
            bad.result(30)
    wait_until(lambda: engine.num_requests == 0)


def test_two_hundred_abandoned_requests_leave_slots_and_memory_as_they_were(engine: Engine) -> None:
    probe = greedy(prompt_of(30), owner="probe")
    expected = ids(engine, probe)
    for number in range(200):
        request = Request(prompt_of(50, number), Sampling(max_new_tokens=5_000, seed=1), frozenset(), owner="leaver")
        with closing(engine.stream(request)) as stream:
            if number % 2:
                next(item for item in stream if isinstance(item, Token))
    wait_until(lambda: engine.num_requests == 0)
    slots = engine._runner._slots  # type: ignore[attr-defined]
    assert slots.num_running == 0
    assert slots.num_tokens <= PLAN.max_tokens
    assert ids(engine, probe) == expected


def test_a_step_that_hangs_is_told_to_its_readers(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    forward = BatchRunner.forward

    def hanging(self: BatchRunner, feeds: list[Feed]) -> list[torch.Tensor]:
        release.wait(20)
        return forward(self, feeds)

    assert engine.problem is None
    monkeypatch.setattr(engine_module, "HANG_S", 0.3)
    with monkeypatch.context() as patch:
        patch.setattr(BatchRunner, "forward", hanging)
        with pytest.raises(EngineStopped, match="computed nothing"):
            tokens(engine, greedy(prompt_of(5)))
        assert engine.problem is not None
        release.set()
    wait_until(lambda: engine.num_requests == 0)
    assert engine.problem is None
    assert len(tokens(engine, greedy(prompt_of(5)))) == 24


def test_after_a_cuda_error_every_reader_is_told_and_nobody_is_taken_in(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(loaded, PLAN)
    monkeypatch.setattr(BatchRunner, "forward", lambda self, feeds: raise_(torch.AcceleratorError("CUDA error")))
    for _ in range(2):
        with pytest.raises(EngineStopped, match="cannot go on"):
            tokens(engine, greedy(prompt_of(5)))
    assert engine.problem is not None
    engine.close()


def raise_(error: Exception) -> Any:
    raise error


def test_invalid_numbers_end_their_request_and_are_reported(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = BatchRunner.forward

    def spoilt(self: BatchRunner, feeds: list[Feed]) -> list[torch.Tensor]:
        return [torch.full_like(logits, torch.nan) for logits in forward(self, feeds)]

    with monkeypatch.context() as patch:
        patch.setattr(BatchRunner, "forward", spoilt)
        with pytest.raises(GenerationFailed, match="invalid numbers"):
            tokens(engine, greedy((7,), 1))
        assert "invalid numbers" in (engine.problem or "")
    assert len(tokens(engine, greedy(prompt_of(5)))) == 24
    assert engine.problem is None


def test_logprobs_of_prompt_and_answer_are_those_of_a_plain_forward_pass(
    engine: Engine, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = prompt_of(30)
    reference = load(Path(loaded.checkpoint.folder))
    monkeypatch.setattr(engine_module.Pace, "chunk_tokens", lambda self, *numbers: 7)
    for _ in range(2):  # also when the prompt is known already
        found = tokens(engine, greedy(prompt, 5, top_logprobs=3, has_prompt_logprobs=True))
        with torch.inference_mode():
            whole = torch.tensor([[*prompt, *(token.id for token in found)]])
            expected = reference.model(input_ids=whole).logits[0].log_softmax(-1)
        assert found[0].prompt_logprobs is not None
        assert len(found[0].prompt_logprobs) == 29
        told = [*found[0].prompt_logprobs, *(token.logprob for token in found)]
        for place, logprob in enumerate(told):
            assert logprob is not None
            assert logprob.logprob == pytest.approx(float(expected[place, whole[0, place + 1]]), abs=1e-4)
            assert [each for each, _ in logprob.top] == expected[place].topk(3).indices.tolist()
    assert tokens(engine, greedy(prompt, 1))[0].logprob is None


def test_a_filter_that_breaks_ends_its_own_request_only(engine: Engine) -> None:
    def broken(answer_ids: Any) -> int:
        raise KeyError("/secret")

    fine = greedy(prompt_of(20), owner="a")
    alone = ids(engine, fine)
    with ThreadPoolExecutor(2) as pool:
        good = pool.submit(ids, engine, fine)
        bad = pool.submit(tokens, engine, greedy(prompt_of(20), owner="b", token_filter=broken))
        assert good.result(30) == alone
        with pytest.raises(GenerationFailed, match="program's log"):
            bad.result(30)


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = threading.Event()
    for _ in range(int(timeout_s / 0.005)):
        if condition():
            return
        deadline.wait(0.005)
    raise AssertionError("the condition did not come true in time")
