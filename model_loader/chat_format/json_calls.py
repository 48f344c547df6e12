"""Reads the calls of tools that a model writes as JSON between `<tool_call>` and `</tool_call>`.

Text goes on as it comes; a call comes when it is whole. What turns out to be no call is text, so nothing that the model
wrote is lost.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from model_loader.chat_format.answer_reader import AnswerReader, Piece
from model_loader.chat_format.chatml import NO_OPENING, ChatML, Opening
from model_loader.chat_format.detokenizer import Vocabulary
from model_loader.chat_format.splitter import MarkerSplitter
from model_loader.events import ToolCall

CALL_START = "<tool_call>"
CALL_END = "</tool_call>"
_SPACE = " \t\r\n"


class JsonCallReader(AnswerReader):
    """Reads one answer, telling reasoning, text and calls apart: by the ids of the markers where there are any.

    Stop strings are looked for in the text alone. The one newline that the template puts before a call belongs to
    neither, and newlines behind a call to nothing.

    Args:
        is_parallel: whether the answer goes on after its first call.
    """

    def __init__(
        self,
        chat_format: ChatML,
        vocabulary: Vocabulary,
        stop: Sequence[str] = (),
        opening: Opening = NO_OPENING,
        *,
        is_parallel: bool = True,
    ) -> None:
        super().__init__(chat_format, vocabulary, stop, opening)
        self._is_parallel = is_parallel
        self._start_id = chat_format.marker_id(CALL_START)
        self._end_id = chat_format.marker_id(CALL_END)
        has_ids = self._start_id is not None and self._end_id is not None
        self._splitter = None if has_ids else MarkerSplitter((CALL_START, CALL_END))
        self._call: str | None = None
        self._newline = ""
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
            yield from super()._show(self._newline)
        self._newline = ""
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
        text = self._newline + text
        self._newline = "\n" if text.endswith("\n") else ""
        yield from super()._show(text.removesuffix("\n"))

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
        call = parse_call(written)
        if call is None:
            yield from self._read(f"{CALL_START}{written}{marker}")
            return
        self.num_calls += 1
        self._newline = ""
        self._is_behind_call = True
        yield call


def parse_call(text: str) -> ToolCall | None:
    """The call that a JSON object describes; None if it is not one. Arguments that are left out are an empty object."""
    try:
        fields = _fields(text)
    except (ValueError, RecursionError):
        return None
    name, _ = fields.get("name", (None, ""))
    arguments, written = fields.get("arguments", ({}, "{}"))
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        return None
    return ToolCall(name, written)


def _fields(text: str) -> dict[str, tuple[Any, str]]:
    """The members of a JSON object: each value, and how it is written.

    Raises:
        ValueError: it is no object, or not JSON.
    """
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    fields: dict[str, tuple[Any, str]] = {}
    at = _expect(text, 0, "{")
    while text[at : at + 1] != "}":
        key, end = decoder.raw_decode(text, at)
        if not isinstance(key, str):
            raise ValueError("a key is no string")
        start = _expect(text, end, ":")
        value, end = decoder.raw_decode(text, start)
        fields[key] = (value, text[start:end])
        at = _skip(text, end)
        if text[at : at + 1] != "}":
            at = _expect(text, at, ",")
            if text[at : at + 1] == "}":
                raise ValueError("a comma too many")
    if text[at + 1 :].strip(_SPACE):
        raise ValueError("something follows the object")
    return fields


def _expect(text: str, at: int, character: str) -> int:
    """The place of what follows a character, with the space around it skipped."""
    at = _skip(text, at)
    if text[at : at + 1] != character:
        raise ValueError(f"{character} is missing at {at}")
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _SPACE:
        at += 1
    return at


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
