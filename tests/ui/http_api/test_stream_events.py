"""Streams of the API as clients read them: each event is one line of JSON, and nothing is lost or out of order."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder
from openai.types import Completion
from openai.types.chat import ChatCompletionChunk

from model_loader.events import Event, Finished, ReasoningDelta, Scores, TextDelta, TokenScore, ToolCall, Usage
from ui.http_api.answering import _as_events
from ui.http_api.answers import Answer, Head
from ui.http_api.completions import TextCompletions
from ui.http_api.stream import ChatStream

HEAD = Head("chatcmpl-1", 1, "a/model", "fp_1")
USAGE = Usage(3, 2, 1, 0.0, 0.1, 0.1)
NASTY = st.sampled_from(
    ["\n\n", "\r", "\r\n", "data: [DONE]", "\n\ndata: x", "\0", "\u2028", "\x85", '"', "\\", "\ufeff"]
)
TEXT = st.lists(NASTY | st.text(max_size=8), min_size=1, max_size=3).map("".join).filter(bool)
LOGPROB = st.floats(max_value=0.0, allow_nan=False) | st.just(float("-inf"))
SCORES = st.builds(
    TokenScore, st.binary(max_size=4), LOGPROB, st.lists(st.tuples(st.binary(max_size=4), LOGPROB), max_size=2)
)
EVENTS = st.one_of(
    st.builds(TextDelta, TEXT),
    st.builds(ReasoningDelta, TEXT),
    st.builds(ToolCall, TEXT, TEXT),
    st.builds(Scores, st.lists(SCORES, max_size=2)),
)
ANSWERS = st.lists(st.tuples(st.integers(0, 2), EVENTS), max_size=12)


def sent(answer: Answer, events: Sequence[tuple[int, Event]]) -> list[dict[str, Any]]:
    """What a client gets of three answers that all end; it is read by OpenAI's own reader and by its plain form."""
    events = [*events, *((number, Finished("stop", USAGE)) for number in range(3))]
    stream = _as_events(answer.begin())
    stream += "".join(_as_events(answer.feed(number, event)) for number, event in events) + _as_events(answer.end())
    *lines, rest = stream.split("\n\n")
    assert rest == ""
    read = list(SSEDecoder().iter_bytes(iter([stream.encode()])))
    assert [line.removeprefix("data: ") for line in lines] == [event.data for event in read]
    assert all(line.startswith("data: {") and not {"\n", "\r"} & set(line) for line in lines)
    return [json.loads(event.data) for event in read]


def choices_of(chunks: Sequence[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    return [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == number]


@pytest.mark.parametrize("is_legacy", [False, True])
@given(events=ANSWERS)
def test_a_chat_arrives_as_it_was_said_whatever_was_said(is_legacy: bool, events: list[tuple[int, Event]]) -> None:
    chunks = sent(ChatStream(HEAD, 3, is_legacy=is_legacy, has_usage=True), events)
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 9
    for number in range(3):
        said = [event for at, event in events if at == number]
        first, *rest, last = choices_of(chunks, number)
        assert first["delta"] == {"role": "assistant", "content": ""}
        assert (last["delta"], last["finish_reason"]) == ({}, "stop")
        assert all(choice["finish_reason"] is None for choice in rest)
        expected = [event for event in said if not isinstance(event, Scores)]
        assert [told(choice["delta"]) for choice in rest] == expected
        calls = [call for choice in rest for call in choice["delta"].get("tool_calls", [])]
        assert [call["index"] for call in calls] == list(range(len(calls)))
        assert len({call["id"] for call in calls}) == len(calls)
        scored = [token for choice in (*rest, last) for token in (choice.get("logprobs") or {}).get("content", [])]
        tokens = [score.token for event in said if isinstance(event, Scores) for score in event.tokens]
        assert [bytes(score["bytes"]) for score in scored] == tokens


def told(delta: dict[str, Any]) -> Event:
    """The event that a chunk was made of."""
    match delta:
        case {"content": text}:
            return TextDelta(text)
        case {"reasoning_content": text}:
            return ReasoningDelta(text)
        case {"function_call": call} | {"tool_calls": [{"function": call}]}:
            return ToolCall(call["name"], call["arguments"])
    raise AssertionError(delta)


@given(events=ANSWERS, echo=TEXT)
def test_a_text_arrives_as_it_was_written_whatever_was_written(events: list[tuple[int, Event]], echo: str) -> None:
    answer = TextCompletions(HEAD, [echo] * 3, 1, is_streamed=True, has_usage=True, has_answer=True)
    chunks = sent(answer, [(number, event) for number, event in events if isinstance(event, TextDelta | Scores)])
    assert chunks[-1]["usage"]["total_tokens"] == 15
    for chunk in chunks:
        assert chunk.keys() <= Completion.model_fields.keys()
    for number in range(3):
        *rest, last = choices_of(chunks, number)
        assert last["finish_reason"] == "stop"
        assert all(choice["finish_reason"] is None for choice in rest)
        text = "".join(event.text for at, event in events if at == number and isinstance(event, TextDelta))
        assert "".join(choice["text"] for choice in (*rest, last)) == echo + text
