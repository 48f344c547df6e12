"""The window of a checkpoint, and the switches of Qwen-1."""

import pytest

from model_loader.checkpoint.context_length import parse_long_context, read_context_length, switch_long_context
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
    with pytest.raises(InvalidSetting, match="use ntk, logn, ntk,logn or none"):
        parse_long_context(value)


def test_later_checkpoints_have_no_such_switch() -> None:
    with pytest.raises(InvalidSetting, match="for the Qwen-1 checkpoints"):
        switch_long_context({"model_type": "qwen3"}, frozenset({"ntk"}))
