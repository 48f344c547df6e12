"""Drawing a token: the same distribution as transformers' processors, one random number per token."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from model_loader.engine import sampling as sampling_module
from model_loader.engine.request import Request, Sampling
from model_loader.engine.sampling import Sampler, draw, logprobs, penalize_repetition, sample, unpack_bits
from model_loader.errors import GenerationFailed

VOCAB = 50


def make_logits(seed: int) -> torch.Tensor:
    return torch.randn(VOCAB, generator=torch.Generator().manual_seed(seed)) * 3


def make_sampler(sampling: Sampling, prompt_ids: tuple[int, ...] = (0,), **request: Any) -> Sampler:
    return Sampler(Request(prompt_ids, sampling, frozenset(), **request))


def next_id(sampler: Sampler, logits: torch.Tensor) -> int:
    (token,) = sample(logits[None], [sampler])
    assert isinstance(token, int)
    return token


def expected_probabilities(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    scores = TemperatureLogitsWarper(sampling.temperature)(None, logits[None])
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(None, scores)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(None, scores)
    if sampling.min_p > 0:
        scores = MinPLogitsWarper(sampling.min_p)(None, scores)
    return torch.softmax(scores[0].double(), dim=-1)


@settings(deadline=None)
@given(
    st.integers(0, 1000),
    st.sampled_from([0.3, 0.7, 1.0, 2.0]),
    st.sampled_from([0.1, 0.5, 0.8, 0.95, 1.0]),
    st.sampled_from([0, 1, 5, 20, 1000]),
    st.sampled_from([0.0, 0.02, 0.3]),
    st.sampled_from([2, 8, 256]),
)
def test_tokens_come_with_the_probabilities_of_transformers(
    seed: int, temperature: float, top_p: float, top_k: int, min_p: float, num_likeliest: int
) -> None:
    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p)
    logits = make_logits(seed)
    expected = expected_probabilities(logits, sampling)
    grid = 2000
    uniforms = [(n + 0.5) / grid for n in range(grid)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling_module, "LIKELIEST", num_likeliest)
        drawn = draw(logits.expand(grid, -1), [sampling] * grid, uniforms)
    found = torch.bincount(drawn, minlength=VOCAB).double() / grid
    assert torch.allclose(found, expected, atol=1.5 / grid)


def test_sequences_with_different_settings_draw_as_each_would_alone() -> None:
    settings = [Sampling(temperature=1.5, top_k=3), Sampling(top_p=0.4), Sampling(temperature=0), Sampling(min_p=0.3)]
    rows = torch.stack([make_logits(seed) for seed in range(4)])
    for seed in range(20):
        together = sample(rows, [make_sampler(each.changed(seed=seed)) for each in settings])
        alone = [next_id(make_sampler(each.changed(seed=seed)), row) for each, row in zip(settings, rows, strict=True)]
        assert together == alone


@given(st.integers(0, 1000), st.sampled_from([0.5, 1.0, 1.1, 2.0]), st.sets(st.integers(0, VOCAB - 1)))
def test_repetition_is_penalized_as_by_transformers(seed: int, penalty: float, ids: set[int]) -> None:
    logits = make_logits(seed)
    expected = logits
    if ids:
        expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([sorted(ids)]), logits[None].clone())[0]
    assert torch.equal(penalize_repetition(logits, torch.tensor(sorted(ids), dtype=torch.long), penalty), expected)


def test_prompt_and_answer_count_as_seen() -> None:
    sampler = make_sampler(Sampling(temperature=0, repetition_penalty=2.0), (3,))
    logits = torch.tensor([0.7, 1.6, 1.9, 3.0, 0.0])
    assert [next_id(sampler, logits) for _ in range(3)] == [2, 1, 3]


def test_presence_counts_once_and_frequency_each_time_in_the_answer_alone() -> None:
    logits = torch.tensor([3.0, 2.0, 1.5, 0.0])
    present = make_sampler(Sampling(temperature=0, presence_penalty=1.2), (0, 1, 2))
    assert [next_id(present, logits) for _ in range(4)] == [0, 1, 0, 0]
    frequent = make_sampler(Sampling(temperature=0, frequency_penalty=0.8), (0, 1, 2))
    assert [next_id(frequent, logits) for _ in range(4)] == [0, 0, 1, 2]


def test_a_bias_moves_its_tokens_only() -> None:
    logits = torch.tensor([3.0, 2.0, 1.0])
    assert next_id(make_sampler(Sampling(temperature=0), logit_bias={2: 5.0}), logits) == 2
    assert next_id(make_sampler(Sampling(temperature=0), logit_bias={0: -100.0}), logits) == 1


def test_a_filter_sees_the_answer_and_decides_what_may_come_next() -> None:
    seen = []

    def only_once(answer_ids: Sequence[int]) -> int:
        seen.append(list(answer_ids))
        return sum(1 << each for each in range(3) if each not in answer_ids)

    sampler = make_sampler(Sampling(temperature=0), token_filter=only_once)
    assert [next_id(sampler, torch.tensor([1.0, 3.0, 2.0, 9.0])) for _ in range(3)] == [1, 2, 0]
    assert seen == [[], [1], [1, 2]]
    (failure,) = sample(torch.zeros(1, 4), [sampler])
    assert isinstance(failure, GenerationFailed)
    assert "grammar" in str(failure)


@pytest.mark.parametrize("vocab_size", [1, 8, 13, 300])
def test_bits_become_booleans_in_the_order_of_the_ids(vocab_size: int) -> None:
    is_set = torch.rand(vocab_size, generator=torch.Generator().manual_seed(0)) < 0.5
    bits = sum(1 << each for each in is_set.nonzero().flatten().tolist())
    assert torch.equal(unpack_bits(bits, vocab_size, is_set.device), is_set)


def test_a_filter_bars_some_ids_or_none_whatever_the_size_of_the_vocabulary() -> None:
    logits = make_logits(3)
    barring = make_sampler(Sampling(), token_filter=lambda _: ~0b101)
    assert torch.isinf(barring.adjust(logits)).nonzero().flatten().tolist() == [0, 2]
    assert torch.equal(barring.adjust(logits)[3:], logits[3:])
    assert make_sampler(Sampling(), token_filter=lambda _: -1).adjust(logits) is logits


def test_a_filter_that_allows_only_ids_beyond_the_vocabulary_allows_none() -> None:
    (failure,) = sample(torch.zeros(1, 4), [make_sampler(Sampling(), token_filter=lambda _: 1 << 4)])
    assert isinstance(failure, GenerationFailed)


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = make_logits(1)
    sampler = make_sampler(Sampling(temperature=0))
    assert {next_id(sampler, logits) for _ in range(5)} == {int(logits.argmax())}


def test_the_same_seed_draws_the_same_tokens_and_none_draws_fresh_ones() -> None:
    def tokens(seed: int | None) -> list[int]:
        sampler = make_sampler(Sampling(temperature=2.0, seed=seed))
        return [next_id(sampler, make_logits(7)) for _ in range(40)]

    assert tokens(5) == tokens(5)
    assert tokens(5) != tokens(6)
    assert tokens(None) != tokens(None)


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1.0 - 2**-53])
def test_every_random_number_draws_a_token(uniform: float) -> None:
    logits = torch.full((1, VOCAB), -torch.inf)
    logits[0, 7] = 1.0
    assert draw(logits, [Sampling()], [uniform]).tolist() == [7]


@pytest.mark.parametrize("bad", [torch.nan, -torch.inf])
def test_invalid_numbers_fail_with_a_remedy_and_others_go_on(bad: float) -> None:
    logits = torch.stack([torch.full((VOCAB,), bad), make_logits(1)])
    failure, token = sample(logits, [make_sampler(Sampling()), make_sampler(Sampling(temperature=0))])
    assert isinstance(failure, GenerationFailed)
    assert "--precision fp32" in str(failure)
    assert token == int(logits[1].argmax())


def test_a_single_invalid_number_is_noticed() -> None:
    logits = make_logits(1)
    logits[3] = torch.nan
    (failure,) = sample(logits[None], [make_sampler(Sampling(temperature=0))])
    assert isinstance(failure, GenerationFailed)


def test_logprobs_are_those_of_the_unchanged_logits() -> None:
    rows = torch.stack([make_logits(1), make_logits(2)])
    expected = torch.log_softmax(rows, dim=-1)
    for row, (token, found) in enumerate(zip((4, 9), logprobs(rows, [4, 9], 3), strict=True)):
        assert found.logprob == pytest.approx(float(expected[row, token]))
        assert [each for each, _ in found.top] == expected[row].topk(3).indices.tolist()
    assert logprobs(rows, [4, 9], 0)[0].top == ()
