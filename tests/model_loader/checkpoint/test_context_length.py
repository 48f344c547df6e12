"""The window of a checkpoint, and the switches of Qwen-1."""

import pytest

from model_loader.checkpoint.context_length import (
    explain_context_length,
    parse_long_context,
    read_context_length,
    set_context_length,
    switch_long_context,
)
from model_loader.errors import CheckpointUnsupported, InvalidSetting

QWEN1 = {"model_type": "qwen", "seq_length": 2048, "max_position_embeddings": 8192, "use_dynamic_ntk": True}


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 40_960}, 40_960),
        (QWEN1, 8192),
        (QWEN1 | {"use_dynamic_ntk": False}, 2048),
        ({"model_type": "qwen", "n_positions": 6144, "use_dynamic_ntk": True}, 6144),
    ],
)
def test_the_window_is_what_the_model_reads_well(config: dict[str, object], length: int) -> None:
    assert read_context_length(config) == length


def test_a_configuration_without_a_window_is_refused() -> None:
    with pytest.raises(CheckpointUnsupported, match="max_position_embeddings None"):
        read_context_length({"vision_config": {}})


@pytest.mark.parametrize(
    ("value", "methods"), [("ntk,logn", {"ntk", "logn"}), ("ntk", {"ntk"}), ("logn", {"logn"}), ("none", set())]
)
def test_the_switches_are_set_as_asked(value: str, methods: set[str]) -> None:
    switched = switch_long_context(QWEN1, parse_long_context(value))
    assert (switched["use_dynamic_ntk"], switched["use_logn_attn"]) == ("ntk" in methods, "logn" in methods)
    assert QWEN1["use_dynamic_ntk"] is True


@pytest.mark.parametrize("value", ["", "yarn", "ntk,", "ntk, logn", "none,ntk"])
def test_an_unknown_method_is_refused(value: str) -> None:
    with pytest.raises(InvalidSetting, match="use ntk, logn and window with commas, or none"):
        parse_long_context(value)


def test_later_checkpoints_have_no_such_switch() -> None:
    with pytest.raises(InvalidSetting, match="for the Qwen-1 checkpoints"):
        switch_long_context({"model_type": "qwen3"}, frozenset({"ntk"}))


def test_windows_go_with_ntk() -> None:
    switched = switch_long_context(QWEN1, parse_long_context("ntk,logn,window"))
    assert switched["use_window_attn"] is True
    with pytest.raises(InvalidSetting, match="window without ntk"):
        parse_long_context("logn,window")


QWEN2 = {"model_type": "qwen2", "max_position_embeddings": 32_768, "rope_theta": 1_000_000.0}
QWEN3 = {"model_type": "qwen3", "max_position_embeddings": 40_960, "rope_theta": 1_000_000}


def test_a_shorter_window_changes_nothing_else() -> None:
    assert set_context_length(QWEN2, 4096) == QWEN2 | {"max_position_embeddings": 4096}
    assert read_context_length(set_context_length(QWEN1, 3000)) == 3000


def test_a_longer_window_is_reached_by_yarn() -> None:
    longer = set_context_length(QWEN2, 65_536)
    assert longer["max_position_embeddings"] == read_context_length(longer) == 65_536
    assert longer["rope_parameters"] == {
        "rope_type": "yarn",
        "rope_theta": 1_000_000.0,
        "factor": 2.0,
        "original_max_position_embeddings": 32_768,
    }
    assert explain_context_length(longer) == "YaRN extends 32,768 by 2"


def test_qwen3_is_extended_from_what_it_was_trained_on() -> None:
    assert set_context_length(QWEN3, 131_072)["rope_parameters"]["factor"] == 4.0


def test_the_language_part_of_a_larger_configuration_is_meant() -> None:
    config = {
        "model_type": "qwen3_5",
        "text_config": {"model_type": "qwen3_5_text", "max_position_embeddings": 262_144},
    }
    assert read_context_length(config) == 262_144
    shorter = set_context_length(config, 8192)
    assert read_context_length(shorter) == 8192
    with pytest.raises(InvalidSetting, match="at most 262,144"):
        set_context_length(config, 300_000)


@pytest.mark.parametrize(
    ("config", "length", "complaint"),
    [
        (QWEN2, 200_000, "at most 131,072"),
        (QWEN2, 12, "at least 256"),
        (QWEN1, 40_000, "at most 32,768"),
        (QWEN1 | {"use_dynamic_ntk": False}, 4096, "at most 2,048 tokens without NTK; add --long-context ntk,logn"),
        ({"model_type": "llama", "max_position_embeddings": 4096}, 8192, "at most 4,096"),
    ],
)
def test_a_window_out_of_reach_is_refused(config: dict[str, object], length: int, complaint: str) -> None:
    with pytest.raises(InvalidSetting, match=complaint):
        set_context_length(config, length)


def test_what_extends_the_window_is_said() -> None:
    assert explain_context_length(QWEN2) == ""
    said = explain_context_length(switch_long_context(QWEN1, parse_long_context("ntk,logn,window")))
    assert said.startswith("trained with 2,048, beyond that dynamic NTK, LogN, window attention (our reading")
