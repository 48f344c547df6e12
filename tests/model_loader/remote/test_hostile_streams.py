"""Whatever a server sends, cut wherever the network likes: an answer or one of the documented errors, and an end."""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model_loader.errors import GenerationFailed, ModelLoaderError, ServerIncompatible, ServerUnreachable
from model_loader.events import Event, Finished, ReasoningDelta, Scores, TextDelta, ToolCall
from model_loader.remote.answer import RemoteAnswer
from model_loader.remote.chunk_reader import ChunkReader
from model_loader.remote.failures import Asked, Refused, explain
from model_loader.remote.options import RemoteOptions
from model_loader.remote.server_sent_events import EventDecoder, EventTooLong
from model_loader.remote.token_counter import TokenCounter

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=6)
    | st.sampled_from(["\ud800", "<think>", "</think>", "END", "stop", "tool_calls", "abort", "context length 5"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def objects(**fields: Any) -> st.SearchStrategy[Any]:
    """Objects in which any of these fields may be missing or hold anything."""
    return JSON | st.fixed_dictionaries({}, optional={name: given_ | JSON for name, given_ in fields.items()})


TOKENS = st.lists(objects(token=JSON, bytes=JSON, logprob=JSON, top_logprobs=st.lists(JSON)), max_size=2)
CALL = objects(index=st.integers(0, 1), id=JSON, function=objects(name=JSON, arguments=JSON))
DELTA = objects(content=JSON, reasoning_content=JSON, reasoning=JSON, tool_calls=st.lists(CALL, max_size=2))
CHOICE = objects(
    index=st.just(0), delta=DELTA, text=JSON, finish_reason=JSON,
    logprobs=objects(content=TOKENS, tokens=JSON, token_logprobs=st.lists(JSON), top_logprobs=st.lists(JSON)),
)  # fmt: skip
USAGE = objects(prompt_tokens=JSON, completion_tokens=JSON, prompt_tokens_details=objects(cached_tokens=JSON))
ERROR = objects(message=JSON, code=JSON, type=JSON, param=JSON, loc=st.lists(JSON), n_ctx=JSON, n_prompt_tokens=JSON)
CHUNK = objects(choices=st.lists(CHOICE, max_size=2), usage=USAGE) | objects(error=ERROR)
EVENT = CHUNK.map(lambda chunk: b"data: " + json.dumps(chunk).encode() + b"\n\n")
STREAM = st.lists(
    EVENT | st.binary(max_size=8) | st.sampled_from([b"data: [DONE]\n\n", b"error: {}\n\n", b"data: " + b"[" * 9999]),
    max_size=6,
).map(b"".join)
GOOD = b"".join(
    b"data: " + json.dumps({"choices": [{"index": 0, **choice}]}, ensure_ascii=False).encode() + b"\r\n\r\n"
    for choice in (
        {"delta": {"content": "<think>嗯</think>你好 👩‍🔬 E"}},
        {"delta": {"content": "N", "tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]}},
        {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"é": 1}'}}]}, "finish_reason": "stop"},
    )
)


class NoConnection:
    """A server that counts no tokens."""

    def ask(self, *_asked: Any, **_how: Any) -> Any:
        raise ServerUnreachable("It is away.")


COUNTER = TokenCounter(NoConnection(), RemoteOptions("http://127.0.0.1:1/v1"), "a/model")  # type: ignore[arg-type]


def read(stream: bytes, cuts: list[int]) -> list[Event]:
    """The events of an answer that arrives in pieces."""
    decoder = EventDecoder()
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]

    def received() -> Iterator[str]:
        for start, end in pairwise(places):
            yield from decoder.feed(stream[start:end])
        yield from decoder.flush()

    answer = RemoteAnswer("here", ChunkReader(["END"]), {"prompt": "Hi"}, COUNTER)
    return [*answer.read(received()), answer.finished()]


def outcome(stream: bytes, cuts: list[int]) -> Any:
    """The events, or the sentence that the user reads in their place."""
    try:
        return [one for one in read(stream, cuts) if not isinstance(one, Finished)]
    except Refused as refused:
        error = explain(refused.refusal, Asked("here", "a/model", 5, 100, ("secret",)))
        assert isinstance(error, ModelLoaderError)
        return str(error)
    except (GenerationFailed, ServerIncompatible) as error:
        return str(error)
    except EventTooLong:
        return "too long"


@given(STREAM, st.lists(st.integers(0, 400), max_size=6))
@example(b'data: {"choices": [{"logprobs": {"content": [{"logprob": 1%s}]}}]}\n\n' % (b"0" * 400), [])
@example(b'data: {"usage": {"prompt_tokens": 1%s}}\n\ndata: [DONE]\n\n' % (b"0" * 400), [])
def test_any_stream_ends_in_an_answer_or_in_a_sentence_wherever_it_is_cut(stream: bytes, cuts: list[int]) -> None:
    told = outcome(stream, [])
    assert outcome(stream, cuts) == told
    for event in told if isinstance(told, list) else ():
        assert isinstance(event, TextDelta | ReasoningDelta | ToolCall | Scores)
        for text in vars_of(event):
            assert text.encode() is not None  # no half characters
        assert not isinstance(event, TextDelta | ReasoningDelta) or event.text


def vars_of(event: Event) -> list[str]:
    match event:
        case TextDelta(text) | ReasoningDelta(text):
            return [text]
        case ToolCall(name, arguments):
            return [name, arguments]
    return []


@given(st.data())
def test_a_good_stream_that_is_damaged_in_one_place_is_no_other_kind_of_fault(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GOOD)))
    size = data.draw(st.integers(0, 40))
    damaged = GOOD[:at] + data.draw(st.binary(max_size=8)) + GOOD[at + size :]
    assert outcome(damaged, [at]) == outcome(damaged, [])


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_good_stream_is_read_whole_in_pieces_of_any_size(size: int) -> None:
    events = read(GOOD, list(range(0, len(GOOD), size)))
    assert [event.text for event in events if isinstance(event, ReasoningDelta)] == ["嗯"]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "你好 👩‍🔬 EN"
    assert [event for event in events if isinstance(event, ToolCall)] == [ToolCall("f", '{"é": 1}')]
    assert isinstance(events[-1], Finished)
