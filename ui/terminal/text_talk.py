"""A text that a base model continues: what `Talk` means where nobody was taught to chat.

An entry is a beginning; the empty entry goes on with the text that there is. Nothing of it is kept when the program
ends. It writes to no terminal.
"""

from collections.abc import Sequence

from model_loader.chat_source import ChatSource
from ui.chat.continuation import Continuation
from ui.chat.conversation import Settings
from ui.chat.refusal import Refused
from ui.terminal.talk import Ending, Running, moved_seed

_PATIENCE_S = 2.0
_LOOK_S = 0.02


class RunningText:
    """A continuation on its way."""

    def __init__(self, continuation: Continuation, beginning: str) -> None:
        self.reasoning = ""
        self.beginning = beginning
        self._continuation = continuation
        self._is_stopped = False
        self._kept: str | None = None

    @property
    def whole_text(self) -> str:
        """Beginning and continuation."""
        return self._continuation.text if self._kept is None else self._kept

    @property
    def text(self) -> str:
        """The continuation alone, as far as it is written."""
        return self.whole_text[len(self.beginning) :]

    @property
    def status(self) -> str:
        """That it is read, until something is written."""
        return "" if self.text else "Reading"

    @property
    def ending(self) -> Ending:
        """How it ended."""
        one = self._continuation
        if one.error or one.fault_id:
            return Ending("failed", error=one.error, fault_id=one.fault_id)
        if one.finish_reason is None:
            return Ending("stopped")
        return Ending("complete", one.usage, one.finish_reason)

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended; one that does not come back is left behind."""
        return self._kept is not None or self._continuation.wait(timeout_s)

    def stop(self) -> None:
        """Ends it with what it has."""
        self._continuation.stop()
        if not self._continuation.wait(_PATIENCE_S):
            self._kept = self._continuation.text


class TextTalk:
    """One text after another with a base model."""

    label = "Text> "
    is_markdown = False

    def __init__(self, chat_model: ChatSource, settings: Settings) -> None:
        self.chat_model = chat_model
        self.settings = settings
        self._steps: list[RunningText] = []
        self._num_tries = 0

    def ask(self, text: str) -> Running:
        """Continues a text, or the one that there is. Raises `Refused`: there is none."""
        beginning = text or self._text
        if not beginning:
            raise Refused("empty")
        self._num_tries = 0
        return self._continue(beginning, self.settings)

    def regenerate(self) -> Running:
        """Continues in another way. Raises `Refused`: nothing was continued."""
        last = self._take_last()
        self._num_tries += 1
        return self._continue(last.beginning, moved_seed(self.settings, self._num_tries))

    def undo(self) -> str:
        """Takes the last continuation back; returns where it began. Raises `Refused`: nothing was continued."""
        return self._take_last().beginning

    def last_question(self) -> str:
        """The text as it is. Raises `Refused`: there is none."""
        if not self._steps:
            raise Refused("nothing_to_repeat")
        return self._text

    def revise(self, text: str) -> Running:
        """Continues what has become of the text."""
        return self.ask(text)

    def clear(self) -> None:
        """Forgets the text."""
        self._steps.clear()

    def turns(self) -> Sequence[tuple[str, str]]:
        """The text, if there is one."""
        return [("Text", self._text)] if self._steps else []

    def last_answer(self) -> str:
        """What the model wrote last."""
        return self._steps[-1].text if self._steps else ""

    def cost(self) -> str:
        """What the last continuation took. Raises `Refused`: nothing was continued."""
        usage = self._steps[-1].ending.usage if self._steps else None
        if usage is None:
            raise Refused("nothing_to_repeat")
        return f"The last text had {usage.prompt_tokens:,} tokens, and {usage.completion_tokens:,} more were written."

    def close(self, timeout_s: float) -> None:
        """Ends what runs."""
        if self._steps:
            self._steps[-1].stop()

    @property
    def _text(self) -> str:
        return self._steps[-1].whole_text if self._steps else ""

    def _take_last(self) -> RunningText:
        if not self._steps:
            raise Refused("nothing_to_repeat")
        return self._steps.pop()

    def _continue(self, beginning: str, settings: Settings) -> Running:
        sampling = self.chat_model.default_sampling.changed(**settings.sampling)
        continuation = Continuation(self.chat_model, beginning, sampling, settings.stop)
        running = RunningText(continuation, beginning)
        self._steps.append(running)
        continuation.start()
        return running
