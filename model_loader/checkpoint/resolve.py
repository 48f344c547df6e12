"""A folder, a hub name or "builtin" to a `Checkpoint`: where its files are and what they say about themselves.

Hub names are fetched by `hub` or taken from a cache. What the files say is read as data; whether this machine can run
them is decided elsewhere.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_loader import builtin
from model_loader.checkpoint.catalog import nearest_names
from model_loader.checkpoint.context_length import read_context_length, text_section
from model_loader.checkpoint.hub import ANY_HUB, Fetched, HubOptions, fetch
from model_loader.checkpoint.hub_files import ReportBytes
from model_loader.checkpoint.preflight import check_checkpoint
from model_loader.checkpoint.quantization import Gptq, read_gptq, read_method
from model_loader.checkpoint.safetensors_header import Weights, list_weights
from model_loader.errors import CheckpointDamaged, CheckpointNotFound

BUILTIN_NAME = "builtin"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

_MAX_JSON_BYTES = 20_000_000

_QWEN1_TEMPLATE = "<|im_start|>system\\nYou are a helpful assistant.<|im_end|>"
"""Qwen-1 brings code instead of a template (`make_context`); this is the part of it that we read."""


@dataclass(frozen=True)
class Checkpoint:
    """One model on this machine's disk.

    Attributes:
        name: what the user asked for.
        folder: where its files are.
        source: the hub it was fetched from, and why from that one; "" for a local folder.
        config: `config.json`.
        generation_config: `generation_config.json`, empty where there is none.
        chat_template: its Jinja source, read for facts and never run; empty where there is none.
        weights: what its safetensors files hold.
        gptq: how its weights are quantized by GPTQ; None when they are not.
        foreign_method: the method that another library quantized them with; None when none did.
    """

    name: str
    folder: Path
    config: Mapping[str, Any] = field(repr=False)
    generation_config: Mapping[str, Any] = field(repr=False)
    chat_template: str = field(repr=False)
    weights: Weights = field(repr=False)
    source: str = ""
    gptq: Gptq | None = None
    foreign_method: str | None = None

    @property
    def context_length(self) -> int:
        """The longest sequence the model was made for, in tokens."""
        return read_context_length(self.config)

    @property
    def max_prompt_tokens(self) -> int:
        """The longest prompt it should be given; Qwen-1 names one in its generation config."""
        window = self.generation_config.get("max_window_size")
        return min(self.context_length, window) if isinstance(window, int) and window > 0 else self.context_length

    @property
    def revision(self) -> str:
        """The commit that was fetched, as the hub's cache names its folder; "" for any other folder."""
        return self.folder.name if self.folder.parent.name == "snapshots" else ""

    @property
    def template_hash(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of the chat template."""
        return hashlib.sha256(self.chat_template.encode()).hexdigest()[:12]

    @property
    def is_qwen1(self) -> bool:
        """Whether it has the layout and the vocabulary of 2023."""
        return self.config.get("model_type") == "qwen"


def resolve_checkpoint(
    name_or_folder: str, report: ReportBytes = lambda done, total: None, hub: HubOptions = ANY_HUB
) -> Checkpoint:
    """Finds a checkpoint, fetching it first if it lies on a hub, and reads its small files.

    Raises:
        CheckpointNotFound: no such folder or repository, or no hub can be reached.
        NotEnoughDisk: the download does not fit.
        CheckpointDamaged: a file is missing or unreadable.
        CheckpointUnsupported: it has no safetensors weights, no fast tokenizer, or a kind we cannot run yet.
    """
    found = _find(name_or_folder, report, hub)
    folder = found.folder
    config = _read_json_object(folder / "config.json")
    _refuse_unsupported(folder, config)
    weights = list_weights(folder)
    gptq, foreign_method = _read_quantization(name_or_folder, folder, config, weights)
    generation_file = folder / "generation_config.json"
    generation_config = _read_json_object(generation_file) if generation_file.exists() else {}
    check_checkpoint(folder, config, generation_config, weights)
    return Checkpoint(
        name=name_or_folder,
        folder=folder,
        config=config,
        generation_config=generation_config,
        chat_template=_QWEN1_TEMPLATE if config.get("model_type") == "qwen" else _read_chat_template(folder),
        weights=weights,
        source=found.source,
        gptq=gptq,
        foreign_method=foreign_method,
    )


def _find(name: str, report: ReportBytes, hub: HubOptions) -> Fetched:
    if name == BUILTIN_NAME:
        return Fetched(builtin.CHECKPOINT_FOLDER, "")
    folder = os.path.expanduser(name)  # os.path answers False where pathlib raises: too long a name, a NUL
    if name and os.path.isdir(folder):
        return Fetched(Path(folder), "")
    if name and os.path.exists(folder):
        raise CheckpointNotFound(f"{name!r} is a file; -c takes the folder that holds config.json.")
    if not _HUB_NAME.fullmatch(name):
        raise CheckpointNotFound(
            f"There is no folder {name!r}. -c takes a folder with config.json in it, a hub name such as "
            f"Qwen/Qwen3-4B, or {BUILTIN_NAME}.{_guess(name)}"
        )
    return fetch(name, hub, report)


def _guess(name: str) -> str:
    names = nearest_names(name, 1) if name else []
    return f" Did you mean {names[0]}?" if names else ""


def _read_json_object(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no ordinary file")  # reading a pipe would wait for ever
        if path.exists() and path.stat().st_size > _MAX_JSON_BYTES:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointDamaged(
            f"{path.parent} has no {path.name}; give the folder that holds it, or fetch it again."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointDamaged(f"{path} cannot be read as JSON ({error}). Fetch the checkpoint again.") from None
    if not isinstance(value, dict):
        raise CheckpointDamaged(f"{path} holds a {type(value).__name__}, not an object. Fetch the checkpoint again.")
    return value


def _refuse_unsupported(folder: Path, config: Mapping[str, Any]) -> None:
    read_context_length(config)
    vocabulary = "qwen.tiktoken" if config.get("model_type") == "qwen" else "tokenizer.json"
    if not (folder / vocabulary).is_file():
        raise CheckpointDamaged(f"{folder} has no {vocabulary}; fetch the checkpoint again, with its tokenizer.")


def _read_quantization(
    name: str, folder: Path, config: Mapping[str, Any], weights: Weights
) -> tuple[Gptq | None, str | None]:
    """From `config.json`, or from the file beside it that AutoGPTQ wrote in 2023."""
    file = folder / "quantize_config.json"
    section = config.get("quantization_config") or text_section(config).get("quantization_config")
    section = section or (_read_json_object(file) if file.is_file() else None)
    if section is None:
        return None, None
    method = read_method(name, section)
    if method != "gptq":
        return None, method
    quantized = {each.removesuffix(".qweight") for each in weights.names if each.endswith(".qweight")}
    stores_biases = all(f"{layer}.bias" in weights.names for layer in quantized)
    return read_gptq(name, section, stores_biases=stores_biases), None


def _read_chat_template(folder: Path) -> str:
    template_file = folder / "chat_template.jinja"
    if template_file.is_file():
        if template_file.stat().st_size > _MAX_JSON_BYTES:
            raise CheckpointDamaged(f"{template_file} is too large for a template. Fetch the checkpoint again.")
        return template_file.read_text(encoding="utf-8", errors="replace")
    tokenizer_config = folder / "tokenizer_config.json"
    template = _read_json_object(tokenizer_config).get("chat_template") if tokenizer_config.is_file() else None
    return template if isinstance(template, str) else ""
