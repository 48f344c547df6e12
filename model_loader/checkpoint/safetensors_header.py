"""The size of a checkpoint's weights, read from the headers of its safetensors files; no weight is touched.

Format: https://github.com/huggingface/safetensors (8 bytes of little-endian header length, then a JSON header).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_loader.errors import CheckpointDamaged, CheckpointUnsupported

_MAX_HEADER_BYTES = 100_000_000
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Weights:
    """What weights there are.

    Attributes:
        num_parameters: elements of all tensors.
        num_bytes: bytes of all tensors as they are stored.
        names: of all tensors.
        shapes: of all tensors, by name.
    """

    num_parameters: int
    num_bytes: int
    names: frozenset[str]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def list_weights(folder: Path) -> Weights:
    """Adds up the tensors of a folder's safetensors files: those of its index, or every one where it has none.

    Raises:
        CheckpointUnsupported: there are only pickled weights.
        CheckpointDamaged: there are no weights at all, a file is cut short, or a git-lfs pointer lies in its place.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        if any(folder.glob("*.gguf")):
            raise CheckpointUnsupported(
                f"{folder} holds GGUF files, which are for llama.cpp. Use a checkpoint in the safetensors format."
            )
        if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
            raise CheckpointUnsupported(
                f"{folder} holds pickled weights only, which can run code when they are opened. Use a checkpoint in "
                "the safetensors format."
            )
        raise CheckpointDamaged(f"{folder} holds no *.safetensors file; fetch the checkpoint again.")
    files = _indexed(folder) or files
    tensors = {name: tensor for file in files for name, tensor in _read_tensors(file).items()}
    return Weights(
        num_parameters=sum(math.prod(tensor["shape"]) for tensor in tensors.values()),
        num_bytes=sum(tensor["data_offsets"][1] - tensor["data_offsets"][0] for tensor in tensors.values()),
        names=frozenset(tensors),
        shapes={name: tuple(tensor["shape"]) for name, tensor in tensors.items()},
    )


def _indexed(folder: Path) -> list[Path]:
    """The files that the index names, all of them in this folder and present; [] without an index."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return []
    try:
        if index.stat().st_size > _MAX_HEADER_BYTES:
            raise ValueError(f"it has {index.stat().st_size:,} bytes")
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointDamaged(
            f"{index} cannot be read ({type(error).__name__}: {error}). Fetch the checkpoint again."
        ) from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointUnsupported(
                f"{index} names {name!r:.80}, which is no safetensors file of its own folder; that is refused. Fetch "
                "the checkpoint from its makers."
            )
        if not (folder / name).is_file():
            raise CheckpointDamaged(f"{folder} has no {name}, which its index names. Fetch the checkpoint again.")
    return [folder / name for name in names]


def _read_tensors(file: Path) -> dict[str, dict[str, Any]]:
    try:
        with file.open("rb") as stream:
            start = stream.read(8)
            header_bytes = int.from_bytes(start, "little")
            if start + stream.read(len(_LFS_POINTER) - 8) == _LFS_POINTER:
                raise CheckpointDamaged(f"{file} is a git-lfs pointer, not the weights. Run: git lfs pull")
            if len(start) < 8 or header_bytes > _MAX_HEADER_BYTES:
                raise ValueError("it has no header")
            stream.seek(8)
            header = json.loads(stream.read(header_bytes))
            tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
            for name, entry in tensors.items():
                shape, place = entry["shape"], entry["data_offsets"]
                if not (_are_counts(shape) and _are_counts(place) and len(place) == 2):
                    raise ValueError(f"its header gives {name[:80]!r} no shape or place")
            data_end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
            expected, found = 8 + header_bytes + data_end, file.stat().st_size
            if found != expected:
                raise ValueError(f"it has {found:,} bytes where its header says {expected:,}")
            return tensors
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointDamaged(
            f"{file} is not a whole safetensors file: {error}. Fetch the checkpoint again."
        ) from None


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int and each >= 0 for each in value)
