"""Reads the calls of tools that a model writes between `<tool_call>` and `</tool_call>`.

Text goes on as it comes; a call comes when it is whole. What turns out to be no call is text, so nothing that the model
wrote is lost. How a call is written is a parser's matter: `json_calls` and `xml_calls` have one each.
"""

from collections.abc import Callable, Iterator, Sequence

from model_loader.chat_format.answer_reader import AnswerReader, Piece
from model_loader.chat_format.chatml import NO_OPENING, ChatML, Opening
from model_loader.chat_format.detokenizer import Vocabulary
from model_loader.chat_format.splitter import MarkerSplitter
from model_loader.events import ToolCall

CALL_START = "<tool_call>"
CALL_END = "</tool_call>"


class CallReader(AnswerReader):
    """Reads one answer, telling reasoning, text and calls apart: by the ids of the markers where there are any.

    Stop strings are looked for in the text alone. The newlines that the template puts before a call belong to neither,
    and newlines behind a call to nothing.

    Args:
        parse: the call that is written between the markers; None if it is none.
        num_newlines: how many the template puts before a call.
        is_parallel: whether the answer goes on after its first call.
    """

    def __init__(
        self,
        chat_format: ChatML,
        vocabulary: Vocabulary,
        parse: Callable[[str], ToolCall | None],
        stop: Sequence[str] = (),
        opening: Opening = NO_OPENING,
        *,
        num_newlines: int = 1,
        is_parallel: bool = True,
    ) -> None:
        super().__init__(chat_format, vocabulary, stop, opening)
        self._parse = parse
        self._num_newlines = num_newlines
        self._is_parallel = is_parallel
        self._start_id = chat_format.marker_id(CALL_START)
        self._end_id = chat_format.marker_id(CALL_END)
        has_ids = self._start_id is not None and self._end_id is not None
        self._splitter = None if has_ids else MarkerSplitter((CALL_START, CALL_END))
        self._call: str | None = None
        self._newlines = ""
        self._is_behind_call = False

    @property
    def is_over(self) -> bool:
        """Whether nothing that follows belongs to the answer."""
        return super().is_over or (self.num_calls > 0 and not self._is_parallel)

    def feed(self, token_id: int) -> Iterator[Piece]:
        """What this id adds: often one delta, sometimes nothing, a call with the last of its ids."""
        if self._splitter is not None or self._is_thinking or token_id in self._format.stop_ids:
            yield from super().feed(token_id)
        elif token_id in (self._start_id, self._end_id):
            yield from self._mark(CALL_START if token_id == self._start_id else CALL_END)
        elif self._call is not None:
            self._call += self._detokenizer.feed(token_id)
        else:
            yield from super().feed(token_id)

    def flush(self, *, is_cut: bool = False) -> Iterator[Piece]:
        """A last call whose end marker is missing, if it is whole; everything else as text."""
        if self._splitter is not None and not self.is_over:
            yield from self._read(self._splitter.flush())
        if self._call is not None:
            yield from self._end_call("")
        if not self._is_behind_call:
            yield from super()._show(self._newlines)
        self._newlines = ""
        yield from super().flush(is_cut=is_cut)

    def _show(self, text: str) -> Iterator[Piece]:
        for piece in [text] if self._splitter is None else self._splitter.feed(text):
            if self.is_over:
                return
            if self._splitter is not None and piece in (CALL_START, CALL_END):
                yield from self._mark(piece)
            else:
                yield from self._read(piece)

    def _read(self, text: str) -> Iterator[Piece]:
        if self._call is not None:
            self._call += text
            return
        if self._is_behind_call:
            text = text.lstrip("\n")
        if not text:
            return
        self._is_behind_call = False
        text = self._newlines + text
        num_held = min(len(text) - len(text.rstrip("\n")), self._num_newlines)
        self._newlines = "\n" * num_held
        yield from super()._show(text[: len(text) - num_held])

    def _mark(self, marker: str) -> Iterator[Piece]:
        if self._call is not None:
            yield from self._end_call(CALL_END if marker == CALL_END else "")
        elif marker == CALL_END:
            yield from self._read(marker)
            return
        if marker == CALL_START:
            yield from self._say(self._stop.flush())
            self._call = ""

    def _end_call(self, marker: str) -> Iterator[Piece]:
        written, self._call = self._call or "", None
        call = self._parse(written)
        if call is None:
            yield from self._read(f"{CALL_START}{written}{marker}")
            return
        self.num_calls += 1
        self._newlines = ""
        self._is_behind_call = True
        yield call
