"""What the user asks of the chat in the terminal; its defaults are the ones that the command line quotes."""

from dataclasses import dataclass
from pathlib import Path

from model_loader.engine.request import Sampling


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How the chat begins.

    Attributes:
        seed: set before every answer, so that the same questions get the same answers; 1234 in the demo of 2023.
        system: the system prompt; None takes the model's own, "" sends none.
        history: the file that keeps conversations; None keeps them in memory.

    Raises:
        InvalidSetting: the seed is out of range.
    """

    seed: int = 1234
    system: str | None = None
    history: Path | None = None

    def __post_init__(self) -> None:
        Sampling(seed=self.seed)
