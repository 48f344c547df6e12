"""The chunks of one streamed answer to events: text, reasoning, calls, scores, and what it cost.

Everything that a chunk holds was written by another program: what has another type than it should is passed over.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from model_loader.chat_format.splitter import StopStrings, num_held
from model_loader.errors import GenerationFailed
from model_loader.events import Event, FinishReason, ReasoningDelta, Scores, TextDelta, TokenScore, ToolCall

_REASONS: Mapping[str, FinishReason] = {"length": "length", "tool_calls": "tool_calls", "function_call": "tool_calls"}
_CUT = ("abort", "error", "content_filter")
_LARGEST_LOGPROB = 1e6
_THINK_START, _THINK_END = "<think>", "</think>"


class ChunkReader:
    """Reads one answer; feed it every chunk in order, and end it.

    Attributes:
        usage: what the server counted; empty where it does not.
        num_deltas: pieces so far, which for most servers is tokens.
        has_reasoned: whether the model thought before it answered.
        text: the text and reasoning so far.
    """

    def __init__(self, stop: Sequence[str] = (), *, tells_thinking: bool = True) -> None:
        """
        Args:
            stop: texts that end the answer; some servers show them, or know nothing of them.
            tells_thinking: whether `<think>` at the answer's beginning is told apart, as a server without a
                reasoning parser sends it.
        """
        self.usage: Mapping[str, Any] = {}
        self.num_deltas = 0
        self.has_reasoned = False
        self._pieces: list[str] = []
        self._tags = ThinkTags(is_over=not tells_thinking)
        self._stop = StopStrings(stop)
        self._call: _OpenCall | None = None
        self._has_called = False
        self._reason: FinishReason | None = None

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the answer ended; None as long as it has not."""
        return "tool_calls" if self._reason is not None and self._has_called else self._reason

    @property
    def has_matched_stop(self) -> bool:
        """Whether a stop string appeared in the text; nothing after it comes out."""
        return self._stop.has_matched

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def feed(self, chunk: Mapping[str, Any]) -> Iterator[Event]:
        """The events of one chunk.

        Raises:
            GenerationFailed: the server ended the answer for a reason of its own, or a call has no name.
        """
        if isinstance(usage := chunk.get("usage"), dict):
            self.usage = usage
        for choice in _objects(chunk.get("choices")):
            if choice.get("index", 0) != 0:
                continue
            if scores := read_scores(choice.get("logprobs")):
                yield Scores(scores)
            yield from self._delta(choice)
            if isinstance(reason := choice.get("finish_reason"), str) and reason:
                yield from self._finish(reason)

    def end(self) -> Iterator[Event]:
        """The server says that nothing more will come: what was held back for what might have followed."""
        self._reason = self._reason or "stop"
        yield from self._flush()

    def _flush(self) -> Iterator[Event]:
        yield from self._shown(self._tags.flush())
        if held := self._stop.flush():
            yield self._noted(TextDelta(held))
        if self._call is not None:
            self._has_called = True
            call, self._call = self._call, None
            yield call.close()

    def _delta(self, choice: Mapping[str, Any]) -> Iterator[Event]:
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            delta = {"content": choice.get("text")}
        reasoning = _text(delta.get("reasoning_content")) or _text(delta.get("reasoning"))
        content = _text(delta.get("content"))
        self.num_deltas += bool(reasoning) or bool(content)
        if reasoning:
            self._tags.skip()  # the server tells it apart itself
            yield self._noted(ReasoningDelta(reasoning))
        if content:
            yield from self._shown(self._tags.feed(content))
        if self.has_matched_stop:
            self._reason = self._reason or "stop"
            return
        for piece in _objects(delta.get("tool_calls")):
            self.num_deltas += 1
            yield from self._call_piece(piece)

    def _shown(self, deltas: Iterable[TextDelta | ReasoningDelta]) -> Iterator[Event]:
        for delta in deltas:
            if isinstance(delta, ReasoningDelta):
                yield self._noted(delta)
            elif shown := self._stop.feed(delta.text):
                yield self._noted(TextDelta(shown))

    def _noted(self, event: TextDelta | ReasoningDelta) -> Event:
        self._pieces.append(event.text)
        self.has_reasoned = self.has_reasoned or isinstance(event, ReasoningDelta)
        return event

    def _call_piece(self, piece: Mapping[str, Any]) -> Iterator[Event]:
        if self._call is None or self._call.is_other(piece):
            yield from self._flush()
            self._call = _OpenCall(piece)
        self._call.feed(piece)

    def _finish(self, reason: str) -> Iterator[Event]:
        if reason in _CUT:
            raise GenerationFailed(f"The server ended the answer before the model had ({reason}). Ask again.")
        self._reason = "stop" if self.has_matched_stop else _REASONS.get(reason, "stop")
        yield from self._flush()


class _OpenCall:
    """A tool call on its way."""

    def __init__(self, piece: Mapping[str, Any]) -> None:
        self._index = piece.get("index")
        self._id = _text(piece.get("id"))
        self._name = ""
        self._arguments: list[str] = []

    def is_other(self, piece: Mapping[str, Any]) -> bool:
        """Whether a piece belongs to another call; some servers give every call the same index."""
        call_id = _text(piece.get("id"))
        return piece.get("index") != self._index or bool(call_id and self._id and call_id != self._id)

    def feed(self, piece: Mapping[str, Any]) -> None:
        function = piece.get("function")
        if isinstance(function, dict):
            self._name = self._name or _text(function.get("name"))
            self._arguments.append(_text(function.get("arguments")))

    def close(self) -> ToolCall:
        if not self._name:
            raise GenerationFailed("The server sent a tool call without a name. Ask again.")
        return ToolCall(self._name, "".join(self._arguments) or "{}")


class ThinkTags:
    """Tells reasoning in `<think>` tags at the beginning of a text apart, holding back only what may be a tag.

    Attributes:
        is_over: whether everything further is text.
    """

    def __init__(self, *, is_over: bool = False) -> None:
        self.is_over = is_over
        self._is_inside = False
        self._drops_newlines = False
        self._held = ""

    def feed(self, text: str) -> Iterator[TextDelta | ReasoningDelta]:
        """What this piece adds: text, reasoning, both or nothing."""
        text = self._held + text
        self._held = ""
        if not self.is_over and not self._is_inside:
            begun = text.lstrip()
            if begun.startswith(_THINK_START):
                self._is_inside = self._drops_newlines = True
                text = begun.removeprefix(_THINK_START)
            elif _THINK_START.startswith(begun):
                self._held = text
                return
            else:
                self.is_over = True
        if self._is_inside:
            thought, tag, text = text.partition(_THINK_END)
            if not tag:
                kept = num_held(thought, (_THINK_END,))
                self._held = thought[len(thought) - kept :]
                thought = thought[: len(thought) - kept]
            if thought := self._trimmed(thought):
                yield ReasoningDelta(thought)
            if not tag:
                return
            self._is_inside = False
            self.is_over = self._drops_newlines = True
        if text := self._trimmed(text):
            yield TextDelta(text)

    def skip(self) -> None:
        """There are no tags, because the reasoning has come another way."""
        self.is_over = self._drops_newlines = True

    def flush(self) -> Iterator[TextDelta | ReasoningDelta]:
        """What was held back and turned out to be no tag."""
        held, self._held = self._held, ""
        if held:
            yield ReasoningDelta(held) if self._is_inside else TextDelta(held)

    def _trimmed(self, text: str) -> str:
        """Without the newlines between a tag and the first word."""
        if self._drops_newlines:
            text = text.lstrip("\n")
            self._drops_newlines = not text
        return text


def read_scores(logprobs: Any) -> tuple[TokenScore, ...]:
    """The scores in a chunk, in the form of chats or of completions; empty where there are none."""
    if not isinstance(logprobs, dict):
        return ()
    if "content" in logprobs:
        return tuple(_chat_score(each) for each in _objects(logprobs["content"]))
    tokens, values = _list(logprobs.get("tokens")), _list(logprobs.get("token_logprobs"))
    tops = _list(logprobs.get("top_logprobs"))
    tops += [None] * (len(tokens) - len(tops))
    return tuple(
        TokenScore(_text(token).encode(), _number(value), _likeliest(top.items() if isinstance(top, dict) else ()))
        for token, value, top in zip(tokens, values, tops, strict=False)
    )


def _chat_score(entry: Mapping[str, Any]) -> TokenScore:
    top = [(_token_bytes(each), each.get("logprob")) for each in _objects(entry.get("top_logprobs"))]
    return TokenScore(_token_bytes(entry), _number(entry.get("logprob")), _likeliest(top))


def _token_bytes(entry: Mapping[str, Any]) -> bytes:
    values = entry.get("bytes")
    if isinstance(values, list) and all(isinstance(each, int) and 0 <= each < 256 for each in values):
        return bytes(values)
    return _text(entry.get("token")).encode()


def _likeliest(pairs: Any) -> tuple[tuple[bytes, float], ...]:
    known = [(_bytes(token), number) for token, value in pairs if (number := _number(value)) is not None]
    return tuple(sorted(known, key=lambda pair: -pair[1]))


def _bytes(token: Any) -> bytes:
    return token if isinstance(token, bytes) else _text(token).encode()


def _text(value: Any) -> str:
    """A text without half surrogate pairs; "" for anything else."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    """A logarithm of a probability; None for anything else, whole numbers that no float holds among it."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if abs(value) <= _LARGEST_LOGPROB or value == -math.inf else None


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else []


def _objects(value: Any) -> Sequence[Mapping[str, Any]]:
    return [each for each in _list(value) if isinstance(each, dict)]
