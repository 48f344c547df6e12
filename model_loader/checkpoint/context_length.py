"""How long a prompt a checkpoint can read, and the ways of Qwen-1 to read more than it was trained on.

Pure: a configuration and options in, numbers and a changed configuration out.
"""

from collections.abc import Mapping
from typing import Any, Literal

from model_loader.errors import CheckpointUnsupported, InvalidSetting

LongContext = Literal["ntk", "logn"]
_SWITCHES: Mapping[LongContext, str] = {"ntk": "use_dynamic_ntk", "logn": "use_logn_attn"}
_QWEN1 = "qwen"


def read_context_length(config: Mapping[str, Any]) -> int:
    """The longest sequence that a model reads well, prompt and answer together, in tokens.

    Qwen-1 without dynamic NTK is held to its training length.

    Raises:
        CheckpointUnsupported: the configuration gives none.
    """
    names = ["max_position_embeddings", "n_positions", "seq_length"]
    if config.get("model_type") == _QWEN1 and not config.get("use_dynamic_ntk"):
        names.insert(0, "seq_length")
    for name in names:
        length = config.get(name)
        if isinstance(length, int) and not isinstance(length, bool) and length > 0:
            return length
    raise CheckpointUnsupported(
        f"config.json gives max_position_embeddings {config.get(names[0])!r}; a text model has a positive number. Use "
        "the checkpoint of a text model, such as -c Qwen/Qwen3-4B."
    )


def parse_long_context(value: str) -> frozenset[LongContext]:
    """The methods that `--long-context` names: "ntk", "logn", both with a comma, or "none".

    Raises:
        InvalidSetting: it names anything else.
    """
    names = frozenset() if value == "none" else frozenset(value.split(","))
    if not names <= _SWITCHES.keys():
        raise InvalidSetting(f"--long-context is {value!r}; use ntk, logn, ntk,logn or none.")
    return names  # type: ignore[return-value]


def switch_long_context(config: Mapping[str, Any], methods: frozenset[LongContext]) -> dict[str, Any]:
    """A Qwen-1 configuration with exactly these methods on.

    Raises:
        InvalidSetting: the checkpoint is not of Qwen-1; later ones bring what they need in their configuration.
    """
    if config.get("model_type") != _QWEN1:
        raise InvalidSetting(
            "--long-context is for the Qwen-1 checkpoints of 2023; this one extends its window by its own "
            "configuration. Leave the flag out."
        )
    return {**config, **{switch: method in methods for method, switch in _SWITCHES.items()}}
