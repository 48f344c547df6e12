"""A folder, a hub name or "builtin" to a `Checkpoint`: where its files are and what they say about themselves.

Hub names are fetched with huggingface_hub (safetensors, JSON and tokenizer files only, never code or pickles) or taken
from its cache. What the files say is read as data; whether this machine can run them is decided elsewhere.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_loader import builtin
from model_loader.checkpoint.safetensors_header import WeightsSize, measure_weights
from model_loader.errors import CheckpointDamaged, CheckpointNotFound, CheckpointUnsupported

BUILTIN_NAME = "builtin"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

ReportBytes = Callable[[int, int], None]
"""Told how many bytes of how many have been fetched."""


@dataclass(frozen=True)
class Checkpoint:
    """One model on this machine's disk.

    Attributes:
        name: what the user asked for.
        folder: where its files are.
        config: `config.json`.
        generation_config: `generation_config.json`, empty where there is none.
        chat_template: its Jinja source, read for facts and never run; empty where there is none.
        weights: how many parameters and bytes its safetensors files hold.
    """

    name: str
    folder: Path
    config: Mapping[str, Any] = field(repr=False)
    generation_config: Mapping[str, Any] = field(repr=False)
    chat_template: str = field(repr=False)
    weights: WeightsSize

    @property
    def context_length(self) -> int:
        """The longest sequence the model was made for, in tokens."""
        return int(self.config["max_position_embeddings"])

    @property
    def tokenizer_file(self) -> Path:
        """The fast tokenizer's file."""
        return self.folder / "tokenizer.json"


def resolve_checkpoint(name_or_folder: str, report: ReportBytes = lambda done, total: None) -> Checkpoint:
    """Finds a checkpoint, fetching it first if it lies on the hub, and reads its small files.

    Raises:
        CheckpointNotFound: no such folder or repository, or the hub cannot be reached.
        CheckpointDamaged: a file is missing or unreadable.
        CheckpointUnsupported: it has no safetensors weights, no fast tokenizer, or a kind we cannot run yet.
    """
    folder = _find_folder(name_or_folder, report)
    config = _read_json_object(folder / "config.json")
    _refuse_unsupported(name_or_folder, folder, config)
    generation_file = folder / "generation_config.json"
    return Checkpoint(
        name=name_or_folder,
        folder=folder,
        config=config,
        generation_config=_read_json_object(generation_file) if generation_file.exists() else {},
        chat_template=_read_chat_template(folder),
        weights=measure_weights(folder),
    )


def _find_folder(name: str, report: ReportBytes) -> Path:
    if name == BUILTIN_NAME:
        return builtin.CHECKPOINT_FOLDER
    folder = os.path.expanduser(name)  # os.path answers False where pathlib raises: too long a name, a NUL
    if name and os.path.isdir(folder):
        return Path(folder)
    if name and os.path.exists(folder):
        raise CheckpointNotFound(f"{name!r} is a file; -c takes the folder that holds config.json.")
    if not _HUB_NAME.fullmatch(name):
        raise CheckpointNotFound(
            f"There is no folder {name!r}. -c takes a folder with config.json in it, a hub name such as "
            f"Qwen/Qwen3-4B, or {BUILTIN_NAME}."
        )
    from model_loader.checkpoint.hub import fetch  # the hub client costs 0.3 s that a local folder need not wait for

    return fetch(name, report)


def _read_json_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointDamaged(
            f"{path.parent} has no {path.name}; give the folder that holds it, or fetch it again."
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointDamaged(f"{path} cannot be read as JSON ({error}). Fetch the checkpoint again.") from None
    if not isinstance(value, dict):
        raise CheckpointDamaged(f"{path} holds a {type(value).__name__}, not an object. Fetch the checkpoint again.")
    return value


def _refuse_unsupported(name: str, folder: Path, config: Mapping[str, Any]) -> None:
    if config.get("model_type") == "qwen":
        raise CheckpointUnsupported(
            f"{name} is a Qwen-1 checkpoint of 2023 (model_type 'qwen'), which this version cannot load yet. "
            "Use a newer one, such as -c Qwen/Qwen3-4B."
        )
    if "quantization_config" in config:
        method = dict(config["quantization_config"] or {}).get("quant_method", "unknown")
        raise CheckpointUnsupported(
            f"{name} is quantized ({method}), which this version cannot load yet. Use the checkpoint of the same "
            "name without a quantization suffix."
        )
    window = config.get("max_position_embeddings")
    if not isinstance(window, int) or window < 1:
        raise CheckpointUnsupported(
            f"{folder / 'config.json'} gives max_position_embeddings {window!r}; a text model has a positive number. "
            "Use the checkpoint of a text model, such as -c Qwen/Qwen3-4B."
        )
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointDamaged(f"{folder} has no tokenizer.json; fetch the checkpoint again, with its tokenizer.")


def _read_chat_template(folder: Path) -> str:
    template_file = folder / "chat_template.jinja"
    if template_file.is_file():
        return template_file.read_text(encoding="utf-8", errors="replace")
    tokenizer_config = folder / "tokenizer_config.json"
    template = _read_json_object(tokenizer_config).get("chat_template") if tokenizer_config.is_file() else None
    return template if isinstance(template, str) else ""
