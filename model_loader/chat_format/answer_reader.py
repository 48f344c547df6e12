"""The ids of one answer to deltas of reasoning and of text.

Reasoning is told apart by the ids of its markers, so a model that writes `<think>` letter by letter writes text. The
dialects in which models call tools read on from here.
"""

from collections.abc import Iterator, Sequence

from model_loader.chat_format.chatml import NO_OPENING, ChatML, Opening
from model_loader.chat_format.detokenizer import Detokenizer, Vocabulary
from model_loader.chat_format.splitter import StopStrings
from model_loader.errors import InvalidSetting
from model_loader.events import ReasoningDelta, TextDelta, ToolCall

Piece = TextDelta | ReasoningDelta | ToolCall


class TextReader:
    """Reads one continuation of a text; feed it every id in order, then flush it.

    Attributes:
        num_calls: how many calls of tools it has found.
        scores_end: whether the token that ends it has a score like the others. A text's has: who scores texts counts
            on one for every token.

    Raises:
        InvalidSetting: a stop string is empty.
    """

    scores_end = True

    def __init__(self, chat_format: ChatML, vocabulary: Vocabulary, stop: Sequence[str] = ()) -> None:
        if not all(stop):
            raise InvalidSetting("A stop string is empty; leave it out or give its text.")
        self.num_calls = 0
        self._format = chat_format
        self._detokenizer = Detokenizer(vocabulary)
        self._stop = StopStrings(stop)

    @property
    def is_over(self) -> bool:
        """Whether nothing that follows belongs to the answer: a stop string appeared."""
        return self._stop.has_matched

    def feed(self, token_id: int) -> Iterator[Piece]:
        """What this id adds: often one delta, sometimes nothing."""
        if token_id not in self._format.stop_ids:
            yield from self._show(self._detokenizer.feed(token_id))

    def flush(self, *, is_cut: bool = False) -> Iterator[Piece]:
        """What was held back, because it might have become something else.

        Args:
            is_cut: whether the answer ended because it grew too long.
        """
        yield from self._say(self._stop.flush())

    def _show(self, text: str) -> Iterator[Piece]:
        """Text of the answer, as the model writes it."""
        yield from self._say(self._stop.feed(text))

    def _say(self, text: str) -> Iterator[Piece]:
        """Text that holds no stop string."""
        if text:
            yield TextDelta(text)


class AnswerReader(TextReader):
    """Reads one answer, telling reasoning and text apart."""

    scores_end = False

    def __init__(
        self, chat_format: ChatML, vocabulary: Vocabulary, stop: Sequence[str] = (), opening: Opening = NO_OPENING
    ) -> None:
        super().__init__(chat_format, vocabulary, stop)
        self._is_thinking = chat_format.begins_thinking(opening)
        # The newlines between a marker and the first word.
        self._drops_newlines = self._is_thinking and not opening.reasoning

    def feed(self, token_id: int) -> Iterator[Piece]:
        """What this id adds: often one delta, sometimes nothing."""
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
        if not self._is_thinking:
            yield from self._show(piece)
        elif piece:
            yield ReasoningDelta(piece)
