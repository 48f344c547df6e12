"""Sampling settings: every value is in its range or refused by name."""

import math

import pytest

from model_loader.engine.request import SAMPLING_RANGES, Request, Sampling
from model_loader.errors import InvalidSetting


@pytest.mark.parametrize("name", SAMPLING_RANGES)
def test_both_ends_of_a_range_are_allowed(name: str) -> None:
    for value in (SAMPLING_RANGES[name].low, SAMPLING_RANGES[name].high):
        assert getattr(Sampling(**{name: value}), name) == value


@pytest.mark.parametrize("name", SAMPLING_RANGES)
@pytest.mark.parametrize("value", [-3, 2**70, math.nan, math.inf, "0.7", True, [], {}])
def test_a_value_that_is_no_number_in_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidSetting, match=f"{name} is .*; give a"):
        Sampling(**{name: value})


@pytest.mark.parametrize("name", ["max_new_tokens", "top_k", "seed"])
def test_a_count_is_a_whole_number(name: str) -> None:
    with pytest.raises(InvalidSetting, match="whole number"):
        Sampling(**{name: 1.5})


def test_only_the_seed_may_be_left_open() -> None:
    assert Sampling(seed=None).seed is None
    with pytest.raises(InvalidSetting, match="temperature is None"):
        Sampling(temperature=None)  # type: ignore[arg-type]


def test_changed_settings_are_checked_again() -> None:
    assert Sampling().changed(top_k=5) == Sampling(top_k=5)
    with pytest.raises(InvalidSetting, match="top_p is 2"):
        Sampling().changed(top_p=2)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"prompt_ids": ()}, "empty"),
        ({"logit_bias": {5: 101}}, "logit_bias of token 5 is 101"),
        ({"top_logprobs": 21}, "top_logprobs is 21"),
        ({"top_logprobs": 1.0}, "whole number"),
    ],
)
def test_a_request_is_checked_when_it_is_built(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidSetting, match=complaint):
        Request(**{"prompt_ids": (1,), "sampling": Sampling(), "stop_ids": frozenset(), **changes})  # type: ignore[arg-type]
