"""How far the loading of a model has come, as a value that any thread may read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal["libraries", "download", "weights", "warm_up", "server", "ready"]


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """One moment of a load.

    Attributes:
        stage: importing torch and transformers, fetching files, reading weights, a first token; or asking a server
            elsewhere; done.
        fraction: done share of this stage, 0 to 1; None where it cannot be known.
        detail: what is being done, in a few words and figures ("3.1 of 8.0 GB"); may be empty.
    """

    stage: Stage
    fraction: float | None = None
    detail: str = ""


ReportProgress = Callable[[LoadProgress], None]
