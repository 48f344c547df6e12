"""Looks at one answer while it is written: is it still in its language, and does it still say anything new?

What comes in are a model's events, in the answer's own thread; what goes out is whether to stop, and facts that are
kept with the message. The two watches read what is new; an answer that goes on after a loop has to loop anew.
"""

from typing import Any

from model_loader.events import Event, ReasoningDelta, TextDelta
from ui.chat.loop_watch import LoopWatch
from ui.chat.message import StoredMessage
from ui.chat.script_watch import ScriptWatch
from ui.chat.settings import Settings


class AnswerWatch:
    """Watches one answer.

    Args:
        begun: what there is of it already.
    """

    def __init__(self, settings: Settings, begun: StoredMessage) -> None:
        watches_loops = settings.stops_loops is not False
        self._text = LoopWatch() if watches_loops else None
        self._reasoning = LoopWatch() if watches_loops else None
        self._script = ScriptWatch(settings.language) if settings.language else None
        self._language = settings.language or ""
        self._text_before, self._reasoning_before = len(begun.text), len(begun.reasoning)
        if self._script is not None:
            self._script.feed(begun.text)

    def take(self, event: Event) -> bool:
        """Reads one event; returns whether the answer only repeats itself from now on."""
        watch = None
        if isinstance(event, TextDelta):
            watch = self._text
            if self._script is not None:
                self._script.feed(event.text)
        elif isinstance(event, ReasoningDelta):
            watch = self._reasoning
        if watch is None or not isinstance(event, TextDelta | ReasoningDelta):
            return False
        watch.feed(event.text)
        return watch.loops_at is not None

    def facts(self) -> dict[str, Any]:
        """What it has seen, as facts of a `StoredMessage`."""
        facts: dict[str, Any] = {}
        if self._text is not None and self._text.loops_at is not None:
            facts["loops_at"] = self._text_before + self._text.loops_at
        elif self._reasoning is not None and self._reasoning.loops_at is not None:
            facts |= {"loops_at": self._reasoning_before + self._reasoning.loops_at, "loops_in_reasoning": True}
        if self._script is not None:
            self._script.finish()
            if self._script.drifted_at is not None:
                facts |= {"drifted_from": self._language, "drifted_at": self._script.drifted_at}
        return facts


def good_part(message: StoredMessage) -> tuple[str, str]:
    """Text and reasoning of an answer up to where it began to loop or left its language."""
    if message.loops_at:
        if message.loops_in_reasoning:
            return "", message.reasoning[: message.loops_at]
        return message.text[: message.loops_at], message.reasoning
    if message.drifted_from:
        good = message.text[: message.drifted_at]
        return (good, message.reasoning) if good.strip() else ("", "")
    return message.text, message.reasoning
