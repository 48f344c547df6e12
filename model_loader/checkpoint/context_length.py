"""How long a text a checkpoint can read, and the ways to read more than it was trained on.

Pure: a configuration and options in, numbers and a changed configuration out. Qwen-1 stretches its rotary base with the
prompt (NTK), scales queries by the logarithm of their position (LogN) and may look through windows; Qwen2, 2.5 and 3
take YaRN. NTK and LogN: QwenLM/Qwen, README and modeling_qwen.py (2023); YaRN: arXiv 2309.00071.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

from model_loader.errors import CheckpointUnsupported, InvalidSetting

LongContext = Literal["ntk", "logn", "window"]
_SWITCHES: Mapping[LongContext, str] = {
    "ntk": "use_dynamic_ntk",
    "logn": "use_logn_attn",
    "window": "use_window_attn",
}
_TITLES: Mapping[LongContext, str] = {
    "ntk": "dynamic NTK",
    "logn": "LogN",
    "window": "window attention (our reading of a published description)",
}
_QWEN1 = "qwen"
_QWEN1_LONGEST = 32_768
"""The original's table of LogN factors ends here."""
_YARN_KINDS = ("qwen2", "qwen2_moe", "qwen3", "qwen3_moe")
_MAX_YARN_FACTOR = 4.0
"""The Qwen team's model cards go no further."""
_SHORTEST = 256
_QWEN3_WINDOWS: Mapping[int, int] = {40_960: 32_768}
"""Qwen3's configuration counts a long answer in: what it was trained on is less."""


def read_context_length(config: Mapping[str, Any]) -> int:
    """The longest sequence that a model reads well, prompt and answer together, in tokens.

    Qwen-1 without dynamic NTK is held to its training length.

    Raises:
        CheckpointUnsupported: the configuration gives none.
    """
    names = ["max_position_embeddings", "n_positions", "seq_length"]
    text = text_section(config)
    lengths = [text.get(name) for name in names]
    given = [each for each in lengths if isinstance(each, int) and not isinstance(each, bool) and each > 0]
    if given:
        trained = config.get("seq_length")
        if _is_qwen1(config) and not config.get("use_dynamic_ntk") and isinstance(trained, int):
            return min(given[0], trained)
        return given[0]
    raise CheckpointUnsupported(
        f"config.json gives max_position_embeddings {config.get(names[0])!r}; a text model has a positive number. Use "
        "the checkpoint of a text model, such as -c Qwen/Qwen3-4B."
    )


def text_section(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a configuration that describes the language model; Qwen3.5 keeps it beside the part for pictures."""
    text = config.get("text_config")
    return text if isinstance(text, Mapping) else config


def parse_long_context(value: str) -> frozenset[LongContext]:
    """The methods that `--long-context` names: "ntk", "logn" and "window" with commas, or "none".

    Raises:
        InvalidSetting: it names anything else, or windows without NTK.
    """
    names = frozenset() if value == "none" else frozenset(value.split(","))
    if not names <= _SWITCHES.keys():
        raise InvalidSetting(f"--long-context is {value!r}; use ntk, logn and window with commas, or none.")
    if "window" in names and "ntk" not in names:
        raise InvalidSetting("--long-context names window without ntk, of which each window has its own. Add ntk.")
    return names  # type: ignore[return-value]


def switch_long_context(config: Mapping[str, Any], methods: frozenset[LongContext]) -> dict[str, Any]:
    """A Qwen-1 configuration with exactly these methods on.

    Raises:
        InvalidSetting: the checkpoint is not of Qwen-1; later ones bring what they need in their configuration.
    """
    if not _is_qwen1(config):
        raise InvalidSetting(
            "--long-context is for the Qwen-1 checkpoints of 2023; later ones extend their window by YaRN: use "
            "--context-length instead."
        )
    return {**config, **{switch: method in methods for method, switch in _SWITCHES.items()}}


def set_context_length(config: Mapping[str, Any], length: int) -> dict[str, Any]:
    """A configuration whose window is `length` tokens: shorter to save memory, or longer by the means of its family.

    Raises:
        InvalidSetting: the model cannot read so much; the message names the longest.
    """
    if length < _SHORTEST:
        raise InvalidSetting(f"--context-length is {length}; give at least {_SHORTEST} tokens.")
    text = text_section(config)
    now = read_context_length(config)
    if _is_qwen1(config):
        longest = _QWEN1_LONGEST if config.get("use_dynamic_ntk") else now
        how = "" if config.get("use_dynamic_ntk") else " without NTK; add --long-context ntk,logn"
        _check_longest(length, longest, how)
        return {**config, "max_position_embeddings": length}
    changes: dict[str, Any] = {"max_position_embeddings": length}
    if length > now:
        kind = text.get("model_type", config.get("model_type"))
        original = _original_length(text, now)
        _check_longest(length, int(original * _MAX_YARN_FACTOR) if kind in _YARN_KINDS else now, "")
        changes["rope_parameters"] = {
            "rope_type": "yarn",
            "rope_theta": _rope_theta(text),
            "factor": math.ceil(100 * length / original) / 100,
            "original_max_position_embeddings": original,
        }
    if text is config:
        return {**config, **changes}
    return {**config, "text_config": {**text, **changes}}


def explain_context_length(config: Mapping[str, Any]) -> str:
    """What extends a model's window, in a few words; "" when nothing does."""
    text = text_section(config)
    if _is_qwen1(config):
        methods = [_TITLES[method] for method, switch in _SWITCHES.items() if config.get(switch)]
        trained = config.get("seq_length", 2048)
        return f"trained with {trained:,}, beyond that {', '.join(methods)}" if methods else ""
    rope = _rope(text)
    if rope.get("rope_type", rope.get("type")) == "yarn":
        return f"YaRN extends {rope.get('original_max_position_embeddings', 0):,} by {rope.get('factor', 1):g}"
    return ""


def _original_length(text: Mapping[str, Any], now: int) -> int:
    given = _rope(text).get("original_max_position_embeddings")
    return int(given) if isinstance(given, int) and given > 0 else _QWEN3_WINDOWS.get(now, now)


def _rope(text: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rotary settings under their name of today or of before."""
    found = text.get("rope_parameters") or text.get("rope_scaling") or {}
    return found if isinstance(found, Mapping) else {}


def _rope_theta(text: Mapping[str, Any]) -> float:
    return float(_rope(text).get("rope_theta", text.get("rope_theta", 10_000.0)))


def _check_longest(length: int, longest: int, how: str) -> None:
    if length > longest:
        raise InvalidSetting(
            f"--context-length is {length:,}; this checkpoint reads at most {longest:,} tokens{how}. Give less, or "
            "leave the flag out."
        )


def _is_qwen1(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") == _QWEN1
