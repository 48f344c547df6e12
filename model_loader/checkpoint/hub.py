"""Fetches a checkpoint from the Hugging Face hub, or takes it from the hub client's cache.

Only weights, configuration and tokenizer files are asked for; code and pickles stay where they are.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import huggingface_hub
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from tqdm import tqdm

from model_loader.errors import CheckpointNotFound

if TYPE_CHECKING:
    from model_loader.checkpoint.resolve import ReportBytes

_FILES = ["*.safetensors", "*.json", "*.jinja", "merges.txt", "*.tiktoken"]


def fetch(name: str, report: "ReportBytes") -> Path:
    """The folder of a hub checkpoint, fetched if it is not cached; an interrupted download goes on where it was.

    Raises:
        CheckpointNotFound: no such repository, access not granted, or the hub cannot be reached and nothing is cached.
    """
    try:
        return Path(
            huggingface_hub.snapshot_download(
                name,
                allow_patterns=_FILES,
                ignore_patterns=["*/*"],
                tqdm_class=_reporting_bar(report),
                endpoint=os.environ.get("HF_ENDPOINT"),
            )
        )
    except GatedRepoError:
        raise CheckpointNotFound(
            f"{name} asks for its licence to be accepted: do so on its page at huggingface.co, then run "
            "`hf auth login` and start again."
        ) from None
    except RepositoryNotFoundError:
        raise CheckpointNotFound(
            f"huggingface.co has no model {name!r}. Check the spelling; names look like Qwen/Qwen3-4B."
        ) from None
    except Exception as error:  # besides its own errors the client lets those of its HTTP library through
        raise CheckpointNotFound(
            f"{name} is not in the local cache and huggingface.co cannot be reached ({type(error).__name__}). "
            "Check the connection, or give the path of a folder that holds the checkpoint."
        ) from error


def _reporting_bar(report: "ReportBytes") -> type[tqdm]:
    """A silent progress bar class that passes on bytes; the client draws two bars of them, the one ahead counts."""
    most = 0

    class ReportingBar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._counts_bytes = kwargs.get("unit") == "B"
            super().__init__(*args, **{**kwargs, "disable": False, "file": _Nowhere()})

        def update(self, n: float | None = 1) -> bool | None:
            nonlocal most
            shown = super().update(n)
            if self._counts_bytes and self.total and self.n > most:
                most = int(self.n)
                report(most, int(self.total))
            return shown

    return ReportingBar


class _Nowhere:
    """A text stream that keeps nothing; front ends draw their own progress."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass
