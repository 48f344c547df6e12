"""An answer made again in the same way, and compared with what came out before; nothing of it is kept."""

import contextlib
import logging
import threading
from collections.abc import Sequence

from model_loader.chat_format.chatml import Opening
from model_loader.chat_format.messages import Message
from model_loader.chat_source import ChatSource
from model_loader.engine.request import Sampling
from model_loader.errors import ModelLoaderError
from model_loader.events import Finished, TextDelta, Usage
from ui.chat.audience import Audience
from ui.chat.fault import log_fault
from ui.chat.message import StoredMessage
from ui.chat.receipt import Receipt, first_difference

logger = logging.getLogger(__name__)


class Reproduction:
    """One run. Any thread may read it, stop it and wait for it.

    Args:
        audience: who wants to know what comes out; when they have left, it ends.

    Attributes:
        error: why it failed, as a sentence for the user; "" if it did not.
        error_class: name of the error's class in `model_loader.errors`.
        fault_id: names the entry in the log when the fault is ours.
    """

    def __init__(
        self,
        chat_model: ChatSource,
        answer: StoredMessage,
        messages: Sequence[Message],
        receipt: Receipt,
        audience: Audience,
    ) -> None:
        self.error = self.error_class = ""
        self.fault_id: str | None = None
        self._chat_model = chat_model
        self._expected = answer.text
        self._is_whole = answer.state == "complete"
        self._messages = messages
        self._receipt = receipt
        self._audience = audience
        self._pieces = [receipt.prefill]
        self._usage: Usage | None = None
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reproduction", daemon=True)

    def start(self) -> None:
        """Begins. Call it once."""
        self._thread.start()

    @property
    def text(self) -> str:
        """What has come out so far."""
        return "".join(self._pieces)

    @property
    def num_tokens(self) -> int:
        """How many it has cost: measured once it has ended, before that a token for each piece."""
        return len(self._pieces) if self._usage is None else self._usage.computed_tokens

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return not self._thread.is_alive()

    @property
    def difference(self) -> int | None:
        """The position of the first character that differs from the answer before; None if there is none.

        An answer that was stopped is compared as far as it goes.
        """
        ours = self.text if self._is_whole else self.text[: len(self._expected)]
        return first_difference(ours, self._expected)

    def stop(self) -> None:
        """Ends it."""
        self._is_stopped.set()

    def _differs(self) -> bool:
        """Whether it is another answer already."""
        return not self._expected.startswith(self.text[: len(self._expected)])

    def _run(self) -> None:
        receipt = self._receipt
        try:
            sampling = Sampling(**receipt.sampling)
            opening = Opening(receipt.prefill, thinking=receipt.thinking)
            messages = self._chat_model.fit(self._messages, sampling, opening).messages
            stream = self._chat_model.stream(messages, sampling, stop=tuple(receipt.stop), opening=opening)
            with contextlib.closing(stream) as events:
                for event in events:
                    if isinstance(event, TextDelta):
                        self._pieces.append(event.text)
                    elif isinstance(event, Finished):
                        self._usage = event.usage
                    if self._is_stopped.is_set() or self._audience.has_left() or self._differs():
                        return
        except ModelLoaderError as error:
            self.error, self.error_class = str(error), type(error).__name__
        except Exception as error:
            self.fault_id = log_fault(logger, "Reproduction failed", error)
