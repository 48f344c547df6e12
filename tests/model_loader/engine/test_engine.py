"""The engine's promises: right tokens, an end for every stream, cancelling by closing, errors at the reader."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model_loader.checkpoint.resolve import resolve_checkpoint
from model_loader.engine import engine as engine_module
from model_loader.engine import runner
from model_loader.engine.engine import Engine
from model_loader.engine.pace import Pace
from model_loader.engine.request import Request, Sampling, Token
from model_loader.engine.slots import SlotPlan
from model_loader.errors import EngineStopped, GenerationFailed, InvalidSetting
from model_loader.events import Waiting
from model_loader.loading.load import LoadedModel, load_model
from model_loader.loading.placement import Placement
from tests.tiny_checkpoint import write_tiny_checkpoint

CPU = Placement("cpu", "float32", None, "float32 on cpu, because this is a test")
GREEDY = Sampling(max_new_tokens=24, temperature=0)
ENDLESS = Sampling(max_new_tokens=100_000, temperature=1.0, seed=1)
FOUR_AT_ONCE = SlotPlan(4, 500_000, "because this is a test")
ONE_AT_ONCE = SlotPlan(1, 500_000, "because this is a test")
PROMPT = tuple(range(5, 45))
OTHER = Request(PROMPT[::-1], Sampling(max_new_tokens=2, temperature=0), frozenset())


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def loaded(tiny_folder: Path) -> LoadedModel:
    return load_model(resolve_checkpoint(str(tiny_folder)), CPU, lambda progress: None)


@pytest.fixture
def engine(loaded: LoadedModel) -> Iterator[Engine]:
    engine = Engine(loaded, FOUR_AT_ONCE)
    yield engine
    engine.close()


@pytest.fixture
def narrow_engine(loaded: LoadedModel) -> Iterator[Engine]:
    """One request at a time."""
    engine = Engine(loaded, ONE_AT_ONCE)
    yield engine
    engine.close()


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many prompt tokens a step reads."""
    return lambda size: monkeypatch.setattr(Pace, "chunk_tokens", lambda self, *numbers: size)


def tokens(engine: Engine, request: Request) -> list[Token]:
    return [item for item in engine.stream(request) if isinstance(item, Token)]


def first_token(stream: Iterator[Token | Waiting]) -> Token:
    return next(item for item in stream if isinstance(item, Token))


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "qwen2_moe", "mistral"])
def test_greedy_tokens_are_those_of_generate(kind: str, tmp_path: Path) -> None:
    changes = {"moe_intermediate_size": 32, "num_experts": 4} if "moe" in kind else {}
    checkpoint = resolve_checkpoint(str(write_tiny_checkpoint(tmp_path / kind, kind=kind, **changes)))
    loaded = load_model(checkpoint, CPU, lambda progress: None)
    expected = loaded.model.generate(
        torch.tensor([PROMPT]), max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=0
    )[0, len(PROMPT) :]
    engine = Engine(loaded)
    found = tokens(engine, Request(PROMPT, GREEDY, frozenset()))
    engine.close()
    assert [token.id for token in found] == expected.tolist()


def test_a_prompt_read_in_pieces_gives_the_same_tokens(engine: Engine, small_pieces: Callable[[int], None]) -> None:
    whole = [token.id for token in tokens(engine, Request(PROMPT, GREEDY, frozenset()))]
    for size in (1, 7):
        small_pieces(size)
        found = tokens(engine, Request(PROMPT, GREEDY, frozenset(), owner=f"reads in {size}"))
        assert [token.id for token in found] == whole
        assert found[-1].usage.cached_prompt_tokens == 0


def test_a_stream_ends_with_one_finish_reason_and_its_usage(engine: Engine) -> None:
    found = tokens(engine, Request(PROMPT, GREEDY, frozenset()))
    assert [token.finish_reason for token in found] == [None] * 23 + ["length"]
    usage = found[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_prompt_tokens) == (40, 24, 0)
    assert 0 <= usage.queue_s <= usage.first_token_s
    assert usage.decode_s > 0
    assert usage.tokens_per_s == pytest.approx(23 / usage.decode_s)


def test_a_stop_id_is_the_last_token(engine: Engine) -> None:
    third = tokens(engine, Request(PROMPT, GREEDY, frozenset()))[2].id
    found = tokens(engine, Request(PROMPT, GREEDY, frozenset({third})))
    assert found[-1].id == third
    assert found[-1].finish_reason == "stop"
    assert len(found) <= 3


def test_the_same_seed_gives_the_same_answer_also_after_others(engine: Engine) -> None:
    request = Request(PROMPT, Sampling(max_new_tokens=24, temperature=1.5, seed=3), frozenset())
    first = [token.id for token in tokens(engine, request)]
    other = Request(PROMPT, Sampling(max_new_tokens=24, temperature=1.5, seed=4), frozenset())
    assert [token.id for token in tokens(engine, other)] != first
    assert [token.id for token in tokens(engine, request)] == first


def test_closing_the_stream_frees_the_engine(engine: Engine) -> None:
    with closing(engine.stream(Request(PROMPT, ENDLESS, frozenset()))) as stream:
        first_token(stream)
        assert engine.num_requests == 1
    wait_until(lambda: engine.num_requests == 0)
    assert len(tokens(engine, Request(PROMPT, GREEDY, frozenset()))) == 24


def test_closing_while_the_prompt_is_read_frees_the_engine(
    loaded: LoadedModel, engine: Engine, monkeypatch: pytest.MonkeyPatch, small_pieces: Callable[[int], None]
) -> None:
    calls = 0
    forward = loaded.model.forward

    def counting_forward(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        time.sleep(0.05)
        return forward(*args, **kwargs)

    monkeypatch.setattr(loaded.model, "forward", counting_forward)
    small_pieces(1)
    monkeypatch.setattr(engine_module, "WAITING_INTERVAL_S", 0.12)
    stream = engine.stream(Request(PROMPT, GREEDY, frozenset()))
    waiting = next(stream)
    assert isinstance(waiting, Waiting)
    assert (waiting.ahead, waiting.prompt_tokens) == (0, len(PROMPT))
    assert 1 <= waiting.prompt_tokens_read < 10
    stream.close()
    wait_until(lambda: engine.num_requests == 0)
    assert calls < len(PROMPT)


@dataclass
class HeldLayer:
    """Stops the engine's thread inside a step, before a layer computes."""

    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def __call__(self, *unused: object) -> None:
        self.reached.set()
        assert self.released.wait(10)


@contextmanager
def held_layer(layer: torch.nn.Module) -> Iterator[HeldLayer]:
    held = HeldLayer()
    hook = layer.register_forward_pre_hook(held)
    try:
        yield held
    finally:
        held.released.set()
        hook.remove()


def test_a_reader_who_leaves_is_noticed_between_two_layers(loaded: LoadedModel, engine: Engine) -> None:
    computed = []
    _, later, *_ = loaded.model.base_model.layers
    counting = later.register_forward_pre_hook(lambda *_: computed.append(1))
    stream = engine.stream(Request(PROMPT, GREEDY, frozenset()))
    with held_layer(loaded.model.base_model.layers[0]) as held:
        assert isinstance(next(stream), Waiting)
        assert held.reached.wait(10)
        stream.close()
    wait_until(lambda: engine.num_requests == 0)
    assert not computed
    assert len(tokens(engine, Request(PROMPT, GREEDY, frozenset()))) == 24
    counting.remove()


@pytest.mark.parametrize(
    ("plan", "chunk", "layer", "newcomer", "num_read"),
    [
        (FOUR_AT_ONCE, 80, "embed_tokens", OTHER, [[40], [40, 40]]),
        (FOUR_AT_ONCE, 80, "layers.1", OTHER, [[40], [1, 40]]),
        (FOUR_AT_ONCE, 79, "embed_tokens", OTHER, [[40], [1, 40]]),  # it would not be read to its end
        (FOUR_AT_ONCE, 80, "embed_tokens", replace(OTHER, prompt_ids=PROMPT), [[40]]),  # it has to be copied only
        (FOUR_AT_ONCE, 80, "embed_tokens", replace(OTHER, prompt_ids=PROMPT, owner="other"), [[40], [40, 40]]),
        (replace(FOUR_AT_ONCE, max_tokens=100), 80, "embed_tokens", OTHER, [[40], [40]]),
        (ONE_AT_ONCE, 80, "embed_tokens", OTHER, [[40], [40]]),
    ],
)
def test_who_comes_while_a_step_is_young_is_read_in_it(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, plan: SlotPlan, chunk: int, layer: str,
    newcomer: Request, num_read: list[list[int]],
) -> None:  # fmt: skip
    monkeypatch.setattr(Pace, "chunk_tokens", lambda self, *numbers: chunk)
    engine = Engine(loaded, plan)
    steps: list[list[int]] = []
    forward = engine._runner.forward

    def noting_forward(feeds: Sequence[runner.Feed]) -> list[torch.Tensor]:
        steps.append([len(feed.ids) for feed in feeds])
        return forward(feeds)

    monkeypatch.setattr(engine._runner, "forward", noting_forward)
    first_request = replace(OTHER, prompt_ids=PROMPT)
    with ThreadPoolExecutor(2) as pool:
        with held_layer(loaded.model.base_model.get_submodule(layer)) as held:
            first = pool.submit(tokens, engine, first_request)
            assert held.reached.wait(10)
            second = pool.submit(tokens, engine, newcomer)
            wait_until(lambda: engine.num_requests == 2)
        together = [[token.id for token in answer.result()] for answer in (first, second)]
    engine.close()
    assert [step for step in steps if max(step) > 1] == num_read
    alone = Engine(loaded, plan)
    assert together == [[each.id for each in tokens(alone, request)] for request in (first_request, newcomer)]
    alone.close()


def test_how_far_the_reading_has_come_is_told_layer_by_layer(loaded: LoadedModel, engine: Engine) -> None:
    num_layers = len(loaded.model.base_model.layers)
    with (
        closing(engine.stream(Request(PROMPT, GREEDY, frozenset()))) as stream,
        held_layer(loaded.model.base_model.layers[1]),
    ):
        assert next(stream) == Waiting(0, len(PROMPT) // num_layers, len(PROMPT))


def test_a_long_step_whose_layers_go_on_has_not_hung(
    loaded: LoadedModel, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "HANG_S", 0.4)
    monkeypatch.setattr(engine_module, "WAITING_INTERVAL_S", 0.05)
    slow = [layer.register_forward_pre_hook(lambda *_: time.sleep(0.25)) for layer in loaded.model.base_model.layers]
    one = Sampling(max_new_tokens=1, temperature=0)
    try:
        assert len(tokens(engine, Request(PROMPT, one, frozenset()))) == 1
    finally:
        for hook in slow:
            hook.remove()


def test_a_closed_engine_leaves_the_model_as_it_was(loaded: LoadedModel) -> None:
    Engine(loaded, ONE_AT_ONCE).close()
    assert not any(layer._forward_pre_hooks for layer in loaded.model.base_model.layers)


def test_a_reader_who_waits_is_told_its_place(narrow_engine: Engine) -> None:
    with closing(narrow_engine.stream(Request(PROMPT, ENDLESS, frozenset()))) as running:
        first_token(running)
        second = narrow_engine.stream(Request(PROMPT, GREEDY, frozenset()))
        third = narrow_engine.stream(Request(PROMPT, GREEDY, frozenset()))
        assert next(second) == Waiting(1)
        assert next(third) == Waiting(2)
        second.close()
        assert next(third) == Waiting(1)
    assert first_token(third)
    third.close()


def test_an_error_in_the_engine_is_raised_at_its_reader_and_others_go_on(
    loaded: LoadedModel, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(PROMPT, GREEDY, frozenset())
    for error, sentence in ((torch.OutOfMemoryError("x"), "memory ran out"), (KeyError("/secret"), "program's log")):
        with monkeypatch.context() as patch:
            patch.setattr(loaded.model, "forward", lambda *_, error=error, **__: (_ for _ in ()).throw(error))
            with pytest.raises(GenerationFailed, match=sentence) as caught:
                tokens(engine, request)
            assert "secret" not in str(caught.value)
        assert len(tokens(engine, request)) == 24


def test_when_memory_runs_out_what_is_kept_goes_before_anybody_is_refused(
    loaded: LoadedModel, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(PROMPT, GREEDY, frozenset(), "owner")
    expected = [token.id for token in tokens(engine, request)]
    assert engine.num_known(PROMPT, "owner") > 0
    forward, fails = loaded.model.forward, [True]

    def fail_once(*args: Any, **kwargs: Any) -> Any:
        if fails:
            fails.clear()
            raise torch.OutOfMemoryError("x")
        return forward(*args, **kwargs)

    monkeypatch.setattr(loaded.model, "forward", fail_once)
    other = Request((*PROMPT, 7), GREEDY, frozenset(), "other")
    assert len(tokens(engine, other)) == 24
    assert engine.num_known(PROMPT, "owner") == 0
    assert [token.id for token in tokens(engine, request)] == expected


def test_a_failure_in_sampling_gives_no_token_twice(
    loaded: LoadedModel, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(PROMPT, GREEDY, frozenset())
    expected = [token.id for token in tokens(engine, request)]
    draw, fails = runner.sample, [9, 8, 3]  # how many samplings away each failure is

    def fail_together(*args: Any) -> Any:
        fails[:] = [each - 1 for each in fails]
        if 0 in fails and len(args[1]) > 1:
            raise torch.OutOfMemoryError("x")
        return draw(*args)

    monkeypatch.setattr(runner, "sample", fail_together)
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: tokens(engine, request), range(3)))
    assert [[token.id for token in answer] for answer in answers] == [expected] * 3


def test_closing_the_engine_ends_running_and_waiting_readers(loaded: LoadedModel) -> None:
    engine = Engine(loaded, ONE_AT_ONCE)
    ended = []

    def read() -> None:
        try:
            tokens(engine, Request(PROMPT, ENDLESS, frozenset()))
        except EngineStopped:
            ended.append(threading.current_thread())

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    wait_until(lambda: engine.num_requests == 3)
    engine.close()
    for reader in readers:
        reader.join(5)
    assert len(ended) == 3
    with pytest.raises(EngineStopped, match="Start the program again"):
        tokens(engine, Request(PROMPT, GREEDY, frozenset()))


@pytest.mark.parametrize(("ids", "complaint"), [((), "empty"), ((1, 512), "outside 0 to 511"), ((-1,), "outside")])
def test_a_prompt_the_model_cannot_read_is_refused(engine: Engine, ids: tuple[int, ...], complaint: str) -> None:
    with pytest.raises(InvalidSetting, match=complaint):
        tokens(engine, Request(ids, GREEDY, frozenset()))


def test_a_hundred_abandoned_requests_leave_nothing_behind(engine: Engine) -> None:
    for _ in range(100):
        with closing(engine.stream(Request(PROMPT, ENDLESS, frozenset()))) as stream:
            first_token(stream)
    wait_until(lambda: engine.num_requests == 0)
    assert len(tokens(engine, Request(PROMPT, GREEDY, frozenset()))) == 24
