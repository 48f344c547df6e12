"""The ids of one answer to deltas of reasoning and of text.

Reasoning is told apart by the ids of its markers, so a model that writes `<think>` letter by letter writes text.
"""

from collections.abc import Iterator, Sequence

from model_loader.chat_format.chatml import NO_OPENING, ChatML, Opening
from model_loader.chat_format.detokenizer import Detokenizer, Vocabulary
from model_loader.chat_format.splitter import StopStrings
from model_loader.errors import InvalidSetting
from model_loader.events import ReasoningDelta, TextDelta


class TextReader:
    """Reads one continuation of a text; feed it every id in order, then flush it.

    Attributes:
        has_matched_stop: whether a stop string appeared in the text; nothing after it is shown.

    Raises:
        InvalidSetting: a stop string is empty.
    """

    def __init__(self, chat_format: ChatML, vocabulary: Vocabulary, stop: Sequence[str] = ()) -> None:
        if not all(stop):
            raise InvalidSetting("A stop string is empty; leave it out or give its text.")
        self._format = chat_format
        self._detokenizer = Detokenizer(vocabulary)
        self._stop = StopStrings(stop)

    @property
    def has_matched_stop(self) -> bool:
        return self._stop.has_matched

    def feed(self, token_id: int) -> Iterator[TextDelta | ReasoningDelta]:
        """What this id adds: nothing, or one delta."""
        if token_id not in self._format.stop_ids and (shown := self._stop.feed(self._detokenizer.feed(token_id))):
            yield TextDelta(shown)

    def flush(self) -> Iterator[TextDelta]:
        """What was held back as the possible beginning of a stop string."""
        if held := self._stop.flush():
            yield TextDelta(held)


class AnswerReader(TextReader):
    """Reads one answer, telling reasoning and text apart."""

    def __init__(
        self, chat_format: ChatML, vocabulary: Vocabulary, stop: Sequence[str] = (), opening: Opening = NO_OPENING
    ) -> None:
        super().__init__(chat_format, vocabulary, stop)
        self._is_thinking = _begins_thinking(chat_format, opening)
        # The newlines between a marker and the first word.
        self._drops_newlines = self._is_thinking and not opening.reasoning

    def feed(self, token_id: int) -> Iterator[TextDelta | ReasoningDelta]:
        """What this id adds: nothing, or one delta."""
        if token_id in self._format.stop_ids:
            return
        if token_id in (self._format.think_start_id, self._format.think_end_id):
            self._is_thinking = token_id == self._format.think_start_id
            self._drops_newlines = True
            return
        piece = self._detokenizer.feed(token_id)
        if self._drops_newlines:
            piece = piece.lstrip("\n")
            self._drops_newlines = not piece
        if self._is_thinking:
            if piece:
                yield ReasoningDelta(piece)
        elif shown := self._stop.feed(piece):
            yield TextDelta(shown)


def _begins_thinking(chat_format: ChatML, opening: Opening) -> bool:
    if opening.text or opening.reasoning:
        return not opening.text and chat_format.think_start_id is not None
    return chat_format.starts_thinking and not (opening.thinking is False and chat_format.can_switch_thinking)
