"""The size of a checkpoint's weights, read from the headers of its safetensors files; no weight is touched.

Format: https://github.com/huggingface/safetensors (8 bytes of little-endian header length, then a JSON header).
"""

import json
import math
from dataclasses import dataclass
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
    """

    num_parameters: int
    num_bytes: int
    names: frozenset[str]


def list_weights(folder: Path) -> Weights:
    """Adds up the tensors of every safetensors file in a folder.

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
    tensors = {name: tensor for file in files for name, tensor in _read_tensors(file).items()}
    return Weights(
        num_parameters=sum(math.prod(tensor["shape"]) for tensor in tensors.values()),
        num_bytes=sum(tensor["data_offsets"][1] - tensor["data_offsets"][0] for tensor in tensors.values()),
        names=frozenset(tensors),
    )


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
            data_end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
            expected, found = 8 + header_bytes + data_end, file.stat().st_size
            if found != expected:
                raise ValueError(f"it has {found:,} bytes where its header says {expected:,}")
            return tensors
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointDamaged(
            f"{file} is not a whole safetensors file: {error}. Fetch the checkpoint again."
        ) from None
