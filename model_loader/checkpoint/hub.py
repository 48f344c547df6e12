"""Chooses the hub that a name is fetched from, and turns to the other one when the first cannot be reached.

What is particular to a hub and its client stands in `huggingface` and `modelscope`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from model_loader.checkpoint.hub_files import ReportBytes
from model_loader.errors import HubUnreachable, InvalidSetting

Hub = Literal["auto", "huggingface", "modelscope"]
_TITLES: Mapping[Hub, str] = {"huggingface": "Hugging Face", "modelscope": "ModelScope"}


@dataclass(frozen=True, slots=True)
class HubOptions:
    """Where names of checkpoints are looked up.

    Attributes:
        hub: one hub, or "auto" for whichever can be reached.
        revision: branch, tag or commit; None for the hub's default.

    Raises:
        InvalidSetting: the hub is none of those, or the revision cannot be one.
    """

    hub: Hub = "auto"
    revision: str | None = None

    def __post_init__(self) -> None:
        if self.hub not in get_args(Hub):
            raise InvalidSetting(f"--hub is {self.hub!r}; use one of {', '.join(get_args(Hub))}.")
        if self.revision is not None and (not self.revision or self.revision.startswith("-") or ".." in self.revision):
            raise InvalidSetting(f"--revision is {self.revision!r}; give a branch, a tag or a commit, such as main.")


ANY_HUB = HubOptions()
"""Whichever hub can be reached, the newest revision."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A checkpoint that now lies on this machine.

    Attributes:
        folder: where.
        source: which hub it is from, and why from that one if another was asked first.
    """

    folder: Path
    source: str


def fetch(name: str, options: HubOptions, report: ReportBytes) -> Fetched:
    """The folder of a hub checkpoint, fetched if it is not cached.

    A cut connection is taken up again where it broke; after an end in between, whole files are not fetched again.
    With `HF_HUB_OFFLINE=1` caches alone are looked into and nothing goes over the network.

    Raises:
        CheckpointNotFound: no such repository or revision, or access is not granted.
        HubUnreachable: no hub that may be asked can be reached, and no cache holds the whole checkpoint.
        NotEnoughDisk: the download does not fit.
    """
    is_offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
    failures: list[HubUnreachable] = []
    for hub in _in_order(options.hub):
        try:
            folder = _download(hub, name, options.revision, report, is_offline=is_offline)
        except HubUnreachable as error:
            failures.append(error)
        else:
            return Fetched(folder, _TITLES[hub] + (f", because {failures[0]}" if failures else ""))
    raise HubUnreachable(
        f"{name} is not whole in the local cache: {'; '.join(map(str, failures))}. Check the connection and start "
        "again (files that have arrived are kept), or give the path of a folder that holds the checkpoint."
    ) from failures[-1]


def _download(hub: Hub, name: str, revision: str | None, report: ReportBytes, *, is_offline: bool) -> Path:
    if hub == "modelscope":
        from model_loader.checkpoint import modelscope

        return modelscope.download(name, revision, report, is_offline=is_offline)
    from model_loader.checkpoint import huggingface  # its client costs 0.3 s that a local folder need not wait for

    return huggingface.download(name, revision, report, is_offline=is_offline)


def _in_order(hub: Hub) -> tuple[Hub, ...]:
    if hub != "auto":
        return (hub,)
    is_studio = os.environ.get("MODELSCOPE_ENVIRONMENT") == "studio"
    return ("modelscope", "huggingface") if is_studio else ("huggingface", "modelscope")
