"""Fetches a checkpoint from ModelScope, or takes it from the cache of its client.

The client is optional: `pip install modelscope-hub`. That package is the part of `modelscope` that talks to the hub;
`import modelscope` itself imports torch and takes seconds.
"""

import contextlib
import errno
import importlib
import logging
import threading
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from model_loader.checkpoint.catalog import spelling_advice
from model_loader.checkpoint.hub_files import UNWANTED_FILES, WANTED_FILES, ReportBytes, check_room
from model_loader.errors import CheckpointDamaged, CheckpointNotFound, HubUnreachable, NotEnoughDisk


def download(name: str, revision: str | None, report: ReportBytes, *, is_offline: bool) -> Path:
    """The folder of a repository; the client fetches what is not cached and compares every file's checksum.

    Args:
        name: "owner/repository".
        revision: branch, tag or commit; None for master.
        report: told of the bytes as they arrive.
        is_offline: look into the cache only.

    Raises:
        CheckpointNotFound: no such repository or revision, or access is not granted.
        CheckpointDamaged: what arrived is not what the hub describes.
        HubUnreachable: the client is not installed, or the hub does not answer and the cache does not hold it.
        NotEnoughDisk: it does not fit.
    """
    try:
        hub = importlib.import_module("modelscope_hub")
        compat = importlib.import_module("modelscope_hub.compat")
    except ImportError:
        raise HubUnreachable(
            "ModelScope's client is not installed (run: pip install modelscope-hub, to fetch from there)"
        ) from None
    errors = hub.errors
    config = hub.HubConfig()
    cache, host = Path(config.cache_dir), urlsplit(config.endpoint).netloc
    _be_silent()
    try:
        if is_offline:
            return Path(compat.snapshot_download(name, revision=revision, cache_dir=str(cache), local_files_only=True))
        endpoint = hub.HubApi(config).resolve_endpoint_for_read(name)  # the Chinese or the international site
        host = urlsplit(endpoint).netloc
        total = _wanted_bytes(hub.HubApi(endpoint=endpoint), name, revision)
        check_room(name, cache, total - _cached_bytes(compat, name, revision, cache))
        return Path(
            compat.snapshot_download(
                name,
                revision=revision,
                endpoint=endpoint,
                cache_dir=str(cache),
                allow_patterns=WANTED_FILES,
                ignore_patterns=UNWANTED_FILES,
                progress_callbacks=[_reporting_callback(hub.ProgressCallback, report, total)],
            )
        )
    except errors.CacheNotFound:
        raise HubUnreachable("no connection is to be made (HF_HUB_OFFLINE)") from None
    except errors.NotExistError:
        what = f"no model {name!r}" if revision is None else f"no revision {revision!r} of {name}"
        raise CheckpointNotFound(f"{host} has {what}. {spelling_advice(name)} Or use --hub huggingface.") from None
    except (errors.AuthenticationError, errors.PermissionDeniedError):
        raise CheckpointNotFound(
            f"{name} asks for access to be granted: do so on its page at {host}, then set MODELSCOPE_API_TOKEN and "
            "start again."
        ) from None
    except NotEnoughDisk:
        raise
    except Exception as error:
        raise _translated(error, name, host, cache, errors) from error


def _translated(error: Exception, name: str, host: str, cache: Path, errors: Any) -> Exception:
    """One of our errors for what ended a download."""
    failed = list(getattr(error, "failed_files", {}).items())
    for file, cause in [*failed, ("A file", error)]:
        if isinstance(cause, errors.FileIntegrityError):
            return CheckpointDamaged(
                f"{file} of {name} arrived with another size or checksum than {host} names; nothing of it was kept. "
                "Start again, or use --hub huggingface."
            )
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            return NotEnoughDisk(
                f"The disk is full: {name} could not be fetched into {cache}. Make room there, or set "
                "MODELSCOPE_CACHE to a folder on a roomier disk."
            )
    cause = failed[0][1] if failed else error
    return HubUnreachable(f"{host} cannot be reached ({type(cause).__name__})")


def _wanted_bytes(api: Any, name: str, revision: str | None) -> int:
    """Size of the files that will be asked for."""
    files = api.list_repo_files(name, "model", revision=revision, recursive=False)
    return sum(file.size for file in files if any(fnmatch(file.path, pattern) for pattern in WANTED_FILES))


def _cached_bytes(compat: Any, name: str, revision: str | None, cache: Path) -> int:
    try:
        folder = Path(compat.snapshot_download(name, revision=revision, cache_dir=str(cache), local_files_only=True))
    except Exception:  # nothing is cached
        return 0
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def _reporting_callback(base: type, report: ReportBytes, total: int) -> type:
    """The class that the client makes one of for each file; together they count towards the total."""
    done = most = 0
    lock = threading.Lock()

    class ReportingCallback(base):
        def update(self, size: int) -> None:
            nonlocal done, most
            with lock:
                done += size  # negative when a file begins anew
                if done > most:
                    most = done
                    report(min(most, total), total)

        def end(self) -> None:
            pass

    return ReportingCallback


def _be_silent() -> None:
    """Turns off the client's own bars and its tales of retries: front ends draw their own progress."""
    logging.getLogger("modelscope_hub").setLevel(logging.CRITICAL)
    with contextlib.suppress(ImportError, AttributeError):
        module = importlib.import_module("modelscope_hub._download")
        setattr(module, "tqdm", partial(importlib.import_module("tqdm").tqdm, disable=True))  # noqa: B010
