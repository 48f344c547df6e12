"""Drawing a token: the same distribution as transformers' processors, one random number per token."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from model_loader.engine.request import Sampling
from model_loader.engine.sampling import Sampler, draw, penalize_repetition
from model_loader.errors import GenerationFailed

VOCAB = 50


def make_logits(seed: int) -> torch.Tensor:
    return torch.randn(VOCAB, generator=torch.Generator().manual_seed(seed)) * 3


def expected_probabilities(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    scores = TemperatureLogitsWarper(sampling.temperature)(None, logits[None])
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(None, scores)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(None, scores)
    return torch.softmax(scores[0].double(), dim=-1)


@settings(deadline=None)
@given(
    st.integers(0, 1000),
    st.sampled_from([0.3, 0.7, 1.0, 2.0]),
    st.sampled_from([0.1, 0.5, 0.8, 0.95, 1.0]),
    st.sampled_from([0, 1, 5, 20, 1000]),
)
def test_tokens_come_with_the_probabilities_of_transformers(
    seed: int, temperature: float, top_p: float, top_k: int
) -> None:
    sampling = Sampling(temperature=temperature, top_p=top_p, top_k=top_k)
    logits = make_logits(seed)
    expected = expected_probabilities(logits, sampling)
    grid = 2000
    drawn = torch.tensor([draw(logits, sampling, (n + 0.5) / grid) for n in range(grid)])
    found = torch.bincount(drawn, minlength=VOCAB).double() / grid
    assert torch.allclose(found, expected, atol=1.5 / grid)


@given(st.integers(0, 1000), st.sampled_from([0.5, 1.0, 1.1, 2.0]), st.sets(st.integers(0, VOCAB - 1)))
def test_repetition_is_penalized_as_by_transformers(seed: int, penalty: float, ids: set[int]) -> None:
    logits = make_logits(seed)
    seen = torch.zeros(VOCAB, dtype=torch.bool)
    seen[list(ids)] = True
    expected = logits
    if ids:
        expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([sorted(ids)]), logits[None].clone())[0]
    assert torch.equal(penalize_repetition(logits, seen, penalty), expected)


def test_prompt_and_answer_count_as_seen() -> None:
    sampler = Sampler(Sampling(temperature=0, repetition_penalty=2.0), torch.tensor([3]), 5)
    logits = torch.tensor([0.7, 1.6, 1.9, 3.0, 0.0])
    assert [sampler.next_id(logits) for _ in range(3)] == [2, 1, 3]


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = make_logits(1)
    sampler = Sampler(Sampling(temperature=0), torch.tensor([0]), VOCAB)
    assert {sampler.next_id(logits) for _ in range(5)} == {int(logits.argmax())}


def test_the_same_seed_draws_the_same_tokens_and_none_draws_fresh_ones() -> None:
    def tokens(seed: int | None) -> list[int]:
        sampler = Sampler(Sampling(temperature=2.0, seed=seed), torch.tensor([0]), VOCAB)
        return [sampler.next_id(make_logits(7)) for _ in range(40)]

    assert tokens(5) == tokens(5)
    assert tokens(5) != tokens(6)
    assert tokens(None) != tokens(None)


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1.0 - 2**-53])
def test_every_random_number_draws_a_token(uniform: float) -> None:
    logits = torch.full((VOCAB,), -torch.inf)
    logits[7] = 1.0
    assert draw(logits, Sampling(), uniform) == 7


@pytest.mark.parametrize("bad", [torch.nan, -torch.inf])
def test_invalid_numbers_fail_with_a_remedy(bad: float) -> None:
    sampler = Sampler(Sampling(), torch.tensor([0]), VOCAB)
    with pytest.raises(GenerationFailed, match="--precision fp32"):
        sampler.next_id(torch.full((VOCAB,), bad))
