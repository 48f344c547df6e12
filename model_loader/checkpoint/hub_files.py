"""Which files of a hub's repository are fetched, and whether the disk has room for them; knows no hub."""

import shutil
from collections.abc import Callable
from pathlib import Path

from model_loader.errors import NotEnoughDisk

ReportBytes = Callable[[int, int], None]
"""Told how many bytes of how many have been fetched."""

WANTED_FILES = ["*.safetensors", "*.json", "*.jinja", "merges.txt", "*.tiktoken"]
UNWANTED_FILES = ["*/*"]
"""Folders hold other formats and examples."""

_SPARE_BYTES = 500_000_000
"""What a download leaves free on the disk."""


def check_room(name: str, folder: Path, num_bytes: int) -> None:
    """Refuses a download of so many bytes that the disk under a folder has no room for.

    Raises:
        NotEnoughDisk: it has not.
    """
    while not folder.exists():
        folder = folder.parent
    free_bytes = shutil.disk_usage(folder).free
    if num_bytes and num_bytes + _SPARE_BYTES > free_bytes:
        raise NotEnoughDisk(
            f"{name} needs {num_bytes / 1e9:.1f} GB more on the disk and {folder} has {free_bytes / 1e9:.1f} GB free. "
            "Make room there, or let HF_HOME (Hugging Face) or MODELSCOPE_CACHE (ModelScope) name a folder on a "
            "roomier disk."
        )
