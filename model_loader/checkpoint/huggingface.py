"""Fetches a checkpoint from the Hugging Face hub or a mirror of it, or takes it from the client's cache."""

import errno
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm import tqdm

from model_loader.checkpoint.catalog import spelling_advice
from model_loader.checkpoint.hub_files import UNWANTED_FILES, WANTED_FILES, ReportBytes, check_room
from model_loader.errors import CheckpointDamaged, CheckpointNotFound, HubUnreachable, NotEnoughDisk


def download(name: str, revision: str | None, report: ReportBytes, *, is_offline: bool) -> Path:
    """The folder of a repository; only what is not cached goes over the network, and what did is verified.

    Args:
        name: "owner/repository".
        revision: branch, tag or commit; None for main.
        report: told of the bytes as they arrive.
        is_offline: look into the cache only.

    Raises:
        CheckpointNotFound: no such repository or revision, or access is not granted.
        CheckpointDamaged: what arrived is not what the hub describes.
        HubUnreachable: the hub does not answer, and the cache does not hold all of it.
        NotEnoughDisk: it does not fit.
    """
    endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    host = urlsplit(endpoint).netloc or endpoint
    files: dict[str, Any] = {
        "revision": revision,
        "allow_patterns": WANTED_FILES,
        "ignore_patterns": UNWANTED_FILES,
        "endpoint": endpoint,
    }
    try:
        if is_offline:
            return Path(huggingface_hub.snapshot_download(name, **files, local_files_only=True))
        missing = _missing_bytes(name, files)
        if missing:
            check_room(name, Path(constants.HF_HUB_CACHE), missing)
        folder = Path(huggingface_hub.snapshot_download(name, **files, tqdm_class=_reporting_bar(report)))
        if missing:
            _verify(name, folder, endpoint)
        return folder
    except GatedRepoError:
        raise CheckpointNotFound(
            f"{name} asks for its licence to be accepted: do so on its page at {host}, then run `hf auth login` and "
            "start again."
        ) from None
    except RepositoryNotFoundError:
        raise CheckpointNotFound(
            f"{host} has no model {name!r} that you may see. {spelling_advice(name)} Run `hf auth login` if it is "
            "private."
        ) from None
    except RevisionNotFoundError:
        raise CheckpointNotFound(
            f"{name} has no revision {revision!r} at {host}. Leave --revision out for the newest."
        ) from None
    except LocalEntryNotFoundError:
        found = "no connection is to be made (HF_HUB_OFFLINE)" if is_offline else f"{host} cannot be reached"
        raise HubUnreachable(found) from None
    except (CheckpointDamaged, NotEnoughDisk):
        raise
    except Exception as error:  # besides its own errors the client lets those of its HTTP library through
        raise _explained(name, host, error) from error


def _explained(name: str, host: str, error: Exception) -> Exception:
    """What to tell the user of an error that the client has no class of its own for."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return NotEnoughDisk(
            f"The disk is full: {name} could not be fetched into {constants.HF_HUB_CACHE}. Make room there, or "
            "set HF_HOME to a folder on a roomier disk."
        )
    if "onsistency check" in str(error):
        return CheckpointDamaged(
            f"{host} sent a file of {name} with another size than it names; nothing of it was kept. Start again, "
            "or use --hub modelscope."
        )
    return HubUnreachable(f"{host} cannot be reached ({type(error).__name__})")


def _missing_bytes(name: str, files: dict[str, Any]) -> int:
    """How much is still to be fetched; 0 as well when the hub does not answer and the cache has to do."""
    try:
        plan = huggingface_hub.snapshot_download(
            name, **files, dry_run=True, tqdm_class=_reporting_bar(lambda done, total: None)
        )
    except (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError):
        raise
    except (huggingface_hub.errors.DryRunError, HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled):
        return 0
    return sum(file.file_size or 0 for file in plan if file.will_download)


def _verify(name: str, folder: Path, endpoint: str) -> None:
    """Compares the checksums of what lies in the cache with the hub's.

    Raises:
        CheckpointDamaged: they differ; the files that do are removed, so that they are fetched again.
    """
    api = huggingface_hub.HfApi(endpoint=endpoint)
    result = api.verify_repo_checksums(name, revision=folder.name, cache_dir=constants.HF_HUB_CACHE)
    if not result.mismatches:
        return
    for mismatch in result.mismatches:
        file = folder / mismatch["path"]
        file.resolve().unlink(missing_ok=True)
        file.unlink(missing_ok=True)
    names = ", ".join(mismatch["path"] for mismatch in result.mismatches)
    raise CheckpointDamaged(
        f"{names} of {name} arrived with other checksums than {urlsplit(endpoint).netloc} names and was removed. "
        "Start again to fetch it anew."
    )


def _reporting_bar(report: ReportBytes) -> type[tqdm]:
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
