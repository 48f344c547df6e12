"""Reads the answers of a model that was told of tools by ReAct: thought, then a call or the final answer.

    Thought: {thought}\\nAction: {name}\\nAction Input: {arguments}\\nObservation:
    Thought: {thought}\\nFinal Answer: {answer}

The rules are those of QwenLM/Qwen, openai_api.py, `parse_response`. They decide by the whole answer, so a thought is
held back until it is known what it leads to; the final answer then flows. (Of two final answers in one the original
showed the second alone; what has flowed cannot be taken back.)
"""

import json
from collections.abc import Iterator, Sequence

from model_loader.chat_format.answer_reader import AnswerReader, Piece
from model_loader.chat_format.chatml import ChatML
from model_loader.chat_format.detokenizer import Vocabulary
from model_loader.chat_format.splitter import num_held
from model_loader.events import ReasoningDelta, TextDelta, ToolCall

OBSERVATION = "Observation:"
"""Where the model waits for a result: it would make one up if it went on."""
_ACTION = "\nAction:"
_INPUT = "\nAction Input:"
_FINAL = "\nFinal Answer: "
_THOUGHT = "Thought: "


class ReactCallReader(AnswerReader):
    """Reads one answer. The thought before a call is text, as it was in 2023; the one before an answer is reasoning.

    Args:
        allows_calls: whether a call is one, or text.
    """

    def __init__(
        self, chat_format: ChatML, vocabulary: Vocabulary, stop: Sequence[str] = (), *, allows_calls: bool = True
    ) -> None:
        super().__init__(chat_format, vocabulary, (*stop, OBSERVATION))
        self._allows_calls = allows_calls
        self._is_answering = False
        self._written = ""
        """What is not shown yet; it begins with `_ACTION` once a call has begun."""

    def flush(self, *, is_cut: bool = False) -> Iterator[Piece]:
        """The call, if the answer was one; everything else that was held back as text."""
        yield from super().flush(is_cut=is_cut)
        written, self._written = self._written, ""
        call = self._call(written)
        # Arguments may be any text, but what should have been an object and was cut is no use to anybody.
        if call is not None and not (is_cut and _is_broken(call.arguments)):
            self.num_calls += 1
            yield call
        elif written:
            yield TextDelta(written)

    def _say(self, text: str) -> Iterator[Piece]:
        self._written += text
        if not self._is_answering:
            yield from self._read_thought()
        if self._is_answering:
            yield from self._show_answer()

    def _read_thought(self) -> Iterator[Piece]:
        if self._call(self._written) is not None:
            begin = self._written.find(_ACTION)
            thought, self._written = _thought(self._written[:begin]), self._written[begin:]
            if thought:
                yield TextDelta(thought)
            return
        end = self._written.find(_FINAL)
        if end >= 0:
            self._is_answering = True
            if thought := _thought(self._written[:end]):
                yield ReasoningDelta(thought)
            self._written = self._written[end + len(_FINAL) :]

    def _show_answer(self) -> Iterator[Piece]:
        begin = self._written.find(_ACTION) if self._allows_calls else -1
        if begin < 0:
            begin = len(self._written) - (num_held(self._written, (_ACTION,)) if self._allows_calls else 0)
        shown, self._written = self._written[:begin], self._written[begin:]
        if shown:
            yield TextDelta(shown)

    def _call(self, text: str) -> ToolCall | None:
        """The call that a text holds, as far as it goes."""
        begin, middle = text.find(_ACTION), text.find(_INPUT)
        if not self._allows_calls or not 0 <= begin < middle:
            return None
        name = text[begin + len(_ACTION) : middle].strip()
        return ToolCall(name, text[middle + len(_INPUT) :].strip()) if name else None


def _thought(text: str) -> str:
    """What stands behind the first `Thought: `; all of it where that is missing."""
    return text[text.find(_THOUGHT) + len(_THOUGHT) :].strip() if _THOUGHT in text else text.strip()


def _is_broken(arguments: str) -> bool:
    try:
        json.loads(arguments)
    except (ValueError, RecursionError):
        return True
    return False
