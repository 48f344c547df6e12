"""Tells a terminal how a load is getting on: a line per stage and per tenth of it, and how it ended."""

from collections.abc import Callable
from typing import Any

from model_loader.background_load import BackgroundLoad
from model_loader.chat_source import ChatSource
from model_loader.progress import LoadProgress

_STAGES = {
    "libraries": "Starting torch and transformers",
    "download": "Fetching the checkpoint",
    "weights": "Reading weights",
    "warm_up": "Computing a first token",
    "server": "Asking the server what it has",
}


class LoadPrinter:
    """Prints what is new since the last look; call `poll` a few times a second until it returns True."""

    def __init__(self, load: BackgroundLoad, write: Callable[[str], Any] = print) -> None:
        self._load = load
        self._write = write
        self._last = ""
        self._told: object = None

    def poll(self) -> bool:
        """Whether the load has ended, well or not."""
        chat_model, error = self._load.chat_model, self._load.error
        if chat_model is None and error is None:
            self._told = None
            self._say(_line(self._load.progress))
            return False
        if self._told is None:
            self._told = chat_model or error
            for line in _ending(chat_model, error, self._load.notice):
                self._say(line)
        return True

    def _say(self, line: str) -> None:
        if line and line != self._last:
            self._last = line
            self._write(line)


def _ending(chat_model: ChatSource | None, error: str | None, notice: str | None) -> list[str]:
    if chat_model is None:
        return [f"No model: {error}"]
    window = f"Reads {chat_model.context_length:,} tokens"
    return [
        *([f"Back to the model before: {notice}"] if notice else []),
        *([f"Fetched from {chat_model.checkpoint.source}."] if chat_model.checkpoint.source else []),
        f"Ready: {chat_model.name} in {chat_model.placement.reason}.",
        f"{window} ({chat_model.window_reason})." if chat_model.window_reason else f"{window}.",
        f"Serves {chat_model.capacity}.",
    ]


def _line(progress: LoadProgress) -> str:
    stage = _STAGES.get(progress.stage, "")
    if progress.fraction is None or not stage:
        return stage and f"{stage} ..."
    tenths = int(progress.fraction * 10) * 10
    detail = f" ({progress.detail})" if progress.detail and tenths else ""
    return f"{stage}: {tenths} %{detail}"
