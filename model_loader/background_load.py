"""Loads a model on a thread of its own, so that a front end is there before its model is.

What comes in is a function that opens a `ChatModel` and reports its progress; what goes out is whichever of
`chat_model` and `error` there is by now. It knows nothing of checkpoints.
"""

import logging
import threading
from collections.abc import Callable

from model_loader.chat_model import ChatModel
from model_loader.errors import ModelLoaderError
from model_loader.progress import LoadProgress, ReportProgress

logger = logging.getLogger(__name__)


class BackgroundLoad:
    """A model on its way. All attributes may be read from any thread.

    Attributes:
        progress: the latest `LoadProgress`.
        chat_model: the model, once it is ready.
        error: why there will be none, as a message for the user.
    """

    def __init__(self, open_chat_model: Callable[[ReportProgress], ChatModel]) -> None:
        self.progress = LoadProgress("libraries")
        self.chat_model: ChatModel | None = None
        self.error: str | None = None
        self._open_chat_model = open_chat_model
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._load, name="model-load", daemon=True)

    def start(self) -> None:
        """Begins loading. Call it once, after the front end listens: importing torch takes the interpreter's time."""
        self._thread.start()

    def wait(self, timeout_s: float | None = None) -> ChatModel | None:
        """Blocks until the load has ended or the time is over; returns the model if there is one."""
        self._thread.join(timeout_s)
        return self.chat_model

    def close(self) -> None:
        """Closes the model now, or as soon as it has been loaded."""
        self._is_closed.set()
        if self.chat_model is not None:
            self.chat_model.close()

    def _load(self) -> None:
        try:
            chat_model = self._open_chat_model(self._report)
        except ModelLoaderError as error:
            self.error = str(error)
        except Exception:
            logger.exception("The model could not be loaded")
            self.error = "The model could not be loaded; the program's log says why."
        else:
            self.chat_model = chat_model
            self._report(LoadProgress("ready", 1.0))
            if self._is_closed.is_set():
                chat_model.close()

    def _report(self, progress: LoadProgress) -> None:
        self.progress = progress
