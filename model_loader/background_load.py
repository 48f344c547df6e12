"""Loads a model on a thread of its own, so that a front end is there before its model, and exchanges it later.

What comes in are functions that open a `ChatSource` and report their progress; what goes out is whichever of
`chat_model` and `error` there is by now. It knows nothing of checkpoints.
"""

import logging
import threading
from collections.abc import Callable

from model_loader.chat_source import ChatSource
from model_loader.errors import InvalidSetting, ModelLoaderError
from model_loader.progress import LoadProgress, ReportProgress

logger = logging.getLogger(__name__)

OpenChatModel = Callable[[ReportProgress], ChatSource]


class BackgroundLoad:
    """A model on its way. All attributes may be read from any thread.

    Attributes:
        progress: the latest `LoadProgress`.
        chat_model: the model, once it is ready.
        error: why there will be none, as a message for the user.
        error_class: name of the class of either in `model_loader.errors`; "" if it is none of them.
        notice: why the model is not the one that was asked for last, as a message for the user; None if it is.
    """

    def __init__(self, open_chat_model: OpenChatModel) -> None:
        self.progress = LoadProgress("libraries")
        self.chat_model: ChatSource | None = None
        self.error: str | None = None
        self.error_class = ""
        self.notice: str | None = None
        self._open_chat_model = open_chat_model
        self._is_closed = threading.Event()
        self._lock = threading.Lock()
        self._thread = self._make_thread(self._load)

    def start(self) -> None:
        """Begins loading. Call it once, after the front end listens: importing torch takes the interpreter's time."""
        self._thread.start()

    def switch(self, open_chat_model: OpenChatModel) -> None:
        """Frees the model and loads another in its place; the old one comes back if that fails. Returns at once.

        Raises:
            InvalidSetting: a model is still being loaded.
        """
        with self._lock:
            if self._is_closed.is_set() or self._thread.ident is None or self._thread.is_alive():
                raise InvalidSetting("A model is still being loaded. Wait until it is ready, then choose another.")
            self.progress = LoadProgress("libraries")
            self.error = self.notice = None
            self.error_class = ""
            old, self.chat_model = [self.chat_model], None
            self._thread = self._make_thread(lambda: self._replace(old, open_chat_model))
            self._thread.start()

    def wait(self, timeout_s: float | None = None) -> ChatSource | None:
        """Blocks until the load has ended or the time is over; returns the model if there is one."""
        self._thread.join(timeout_s)
        return self.chat_model

    def close(self) -> None:
        """Closes the model now, or as soon as it has been loaded."""
        self._is_closed.set()
        if self.chat_model is not None:
            self.chat_model.close()

    def _replace(self, held: list[ChatSource | None], open_chat_model: OpenChatModel) -> None:
        """`held` has the model before, alone: nobody may hold its weights any more when the next ones come."""
        from model_loader.loading.hardware import give_back_memory  # imports torch

        old = held.pop()
        if old is not None:
            old.close()
        del old
        give_back_memory()
        chat_model, error = self._try(open_chat_model)
        if error is None:
            self._open_chat_model = open_chat_model
            self._hand_over(chat_model)
            return
        self._load()
        self.notice = error

    def _load(self) -> None:
        chat_model, error = self._try(self._open_chat_model)
        if error is None:
            self._hand_over(chat_model)
        else:
            self.error = error

    def _try(self, open_chat_model: OpenChatModel) -> tuple[ChatSource | None, str | None]:
        """The model, or why there is none."""
        try:
            return open_chat_model(self._report), None
        except ModelLoaderError as error:
            self.error_class = type(error).__name__
            return None, str(error)
        except Exception:
            self.error_class = ""
            logger.exception("The model could not be loaded")
            return None, "The model could not be loaded; the program's log says why."

    def _hand_over(self, chat_model: ChatSource | None) -> None:
        self._report(LoadProgress("ready", 1.0))
        self.chat_model = chat_model
        if self._is_closed.is_set() and chat_model is not None:
            chat_model.close()

    def _report(self, progress: LoadProgress) -> None:
        self.progress = progress

    @staticmethod
    def _make_thread(target: Callable[[], None]) -> threading.Thread:
        return threading.Thread(target=target, name="model-load", daemon=True)
