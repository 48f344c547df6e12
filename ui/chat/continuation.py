"""A text that a model continues: one thread reads the model's events and lengthens it.

What comes in is a text; what goes out is the same text with more at its end, growing until it has ended, was stopped
or has failed. It knows no conversation and no widgets.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence

from model_loader.chat_source import ChatSource
from model_loader.engine.request import Sampling
from model_loader.errors import ModelLoaderError
from model_loader.events import Finished, FinishReason, TextDelta, Usage
from ui.chat.audience import Audience
from ui.chat.fault import log_fault

logger = logging.getLogger(__name__)

_ALONE_S = 10.0


class Continuation:
    """One continuation. Any thread may read it, stop it and wait for it.

    Args:
        stop: texts that end it.
        is_watched: whether somebody looks at it; it ends when nobody has for some seconds.

    Attributes:
        usage: what it cost, once the model has ended it.
        finish_reason: why the model ended it; None while it runs and after a stop.
        error: why it failed, as a sentence for the user.
        error_class: name of the error's class in `model_loader.errors`.
        fault_id: names the entry in the log when the fault is ours.
    """

    def __init__(
        self,
        chat_model: ChatSource,
        text: str,
        sampling: Sampling,
        stop: Sequence[str] = (),
        is_watched: Callable[[], bool] = lambda: True,
    ) -> None:
        self.usage: Usage | None = None
        self.finish_reason: FinishReason | None = None
        self.error = self.error_class = ""
        self.fault_id: str | None = None
        self._chat_model = chat_model
        self._beginning = text
        self._sampling = sampling
        self._audience = Audience(is_watched, _ALONE_S)
        self._stop = stop
        self._pieces: list[str] = []
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="continuation", daemon=True)

    def start(self) -> None:
        """Begins. Call it once."""
        self._thread.start()

    @property
    def text(self) -> str:
        """The text as far as it is written."""
        return self._beginning + "".join(self._pieces)

    @property
    def num_tokens(self) -> int:
        """What it has cost: measured once it has ended, until then a token for each piece."""
        return len(self._pieces) if self.usage is None else self.usage.computed_tokens

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return not self._thread.is_alive()

    def wait(self, timeout_s: float) -> bool:
        """Waits until nothing more will come; False when the time is over first."""
        self._thread.join(timeout_s)
        return self.has_ended

    def stop(self) -> None:
        """Ends it with what it has; within a quarter second and a step of the model."""
        self._is_stopped.set()

    def _run(self) -> None:
        try:
            stream = self._chat_model.complete(self._beginning, self._sampling, stop=self._stop)
            with contextlib.closing(stream) as events:
                for event in events:
                    if isinstance(event, TextDelta):
                        self._pieces.append(event.text)
                    elif isinstance(event, Finished):
                        self.usage, self.finish_reason = event.usage, event.reason
                    if self._is_stopped.is_set() or self._audience.has_left():
                        return
        except ModelLoaderError as error:
            self.error, self.error_class = str(error), type(error).__name__
        except Exception as error:
            self.fault_id = log_fault(logger, "Continuation failed", error)
