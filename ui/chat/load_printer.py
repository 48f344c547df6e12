"""Tells a terminal how a load is getting on: a line per stage and per tenth of it, and how it ended."""

from collections.abc import Callable
from typing import Any

from model_loader.background_load import BackgroundLoad
from model_loader.progress import LoadProgress

_STAGES = {
    "libraries": "Starting torch and transformers",
    "download": "Fetching the checkpoint",
    "weights": "Reading weights",
    "warm_up": "Computing a first token",
}


class LoadPrinter:
    """Prints what is new since the last look; call `poll` a few times a second until it returns True."""

    def __init__(self, load: BackgroundLoad, write: Callable[[str], Any] = print) -> None:
        self._load = load
        self._write = write
        self._last = ""
        self._has_ended = False

    def poll(self) -> bool:
        """Whether the load has ended, well or not."""
        if self._has_ended:
            return True
        if self._load.chat_model is not None:
            self._say(f"Ready: {self._load.chat_model.name} in {self._load.chat_model.placement.reason}.")
            self._say(f"Serves {self._load.chat_model.capacity}.")
            self._has_ended = True
        elif self._load.error is not None:
            self._say(f"No model: {self._load.error}")
            self._has_ended = True
        else:
            self._say(_line(self._load.progress))
        return self._has_ended

    def _say(self, line: str) -> None:
        if line and line != self._last:
            self._last = line
            self._write(line)


def _line(progress: LoadProgress) -> str:
    stage = _STAGES.get(progress.stage, "")
    if progress.fraction is None or not stage:
        return stage and f"{stage} ..."
    tenths = int(progress.fraction * 10) * 10
    detail = f" ({progress.detail})" if progress.detail and tenths else ""
    return f"{stage}: {tenths} %{detail}"
