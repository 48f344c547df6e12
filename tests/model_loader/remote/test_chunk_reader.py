"""Chunks of every kind of server to the same events."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_loader.errors import GenerationFailed
from model_loader.events import Event, ReasoningDelta, Scores, TextDelta, TokenScore, ToolCall
from model_loader.remote.chunk_reader import ChunkReader, ThinkTags, read_scores


def delta(finish: str | None = None, **values: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": values, "finish_reason": finish}]}


def call(index: int, call_id: str | None = None, name: str | None = None, arguments: str = "") -> dict[str, Any]:
    return delta(tool_calls=[{"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}])


def read(*chunks: dict[str, Any], reader: ChunkReader | None = None) -> list[Event]:
    reader = reader or ChunkReader()
    return [event for one in chunks for event in reader.feed(one)] + list(reader.end())


def told(events: list[Event]) -> tuple[str, str]:
    """What was thought, and what was said."""
    thoughts = [event.text for event in events if isinstance(event, ReasoningDelta)]
    return "".join(thoughts), "".join(event.text for event in events if isinstance(event, TextDelta))


def test_text_reasoning_and_empty_pieces() -> None:
    events = read(
        delta(role="assistant", content=""),
        delta(reasoning_content="Hm"),
        delta(reasoning=", well", content=None),
        delta(content="\n\n"),
        delta(content="Yes"),
        delta("stop"),
    )
    assert events == [ReasoningDelta("Hm"), ReasoningDelta(", well"), TextDelta("Yes")]


def test_calls_are_put_together_and_come_one_after_the_other() -> None:
    reader = ChunkReader()
    events = read(
        delta(content="Let me look."),
        call(0, "a", "weather", ""),
        call(0, arguments='{"city": '),
        call(0, arguments='"Hangzhou"}'),
        call(1, "b", "time", "{}"),
        delta("tool_calls"),
        reader=reader,
    )
    assert events == [
        TextDelta("Let me look."),
        ToolCall("weather", '{"city": "Hangzhou"}'),
        ToolCall("time", "{}"),
    ]
    assert reader.finish_reason == "tool_calls"


def test_calls_that_share_an_index_are_told_apart_by_their_ids() -> None:
    events = read(call(0, "a", "one", "{}"), call(0, "b", "two", "{}"), delta("stop"))
    assert events == [ToolCall("one", "{}"), ToolCall("two", "{}")]


def test_a_call_makes_the_reason_whatever_the_server_says_and_needs_a_name() -> None:
    reader = ChunkReader()
    assert read(call(0, "a", "one"), delta("stop"), reader=reader) == [ToolCall("one", "{}")]
    assert reader.finish_reason == "tool_calls"
    with pytest.raises(GenerationFailed, match="without a name"):
        read(call(0, "a", None, "{}"))


def test_a_second_choice_and_wrong_types_are_passed_over() -> None:
    second = {"choices": [{"index": 1, "delta": {"content": "no"}}]}
    strange: list[dict[str, Any]] = [
        {"choices": None}, {"choices": ["x"]}, {"choices": [{"delta": 5}]}, {"usage": "many"}, {},
        delta(content=["x"]), delta(tool_calls="x"), delta(tool_calls=[5]), {"choices": [{"logprobs": 3}]},
        {"choices": [{"finish_reason": 7}]},
    ]  # fmt: skip
    reader = ChunkReader()
    assert read(second, *strange, delta(content="yes"), reader=reader) == [TextDelta("yes")]
    assert reader.usage == {}


@pytest.mark.parametrize(
    ("said", "reason"),
    [("stop", "stop"), ("length", "length"), ("eos", "stop"), ("function_call", "tool_calls"), (None, None)],
)
def test_reasons(said: str | None, reason: str | None) -> None:
    reader = ChunkReader()
    list(reader.feed(delta(said, content="x")))
    assert reader.finish_reason == reason


@pytest.mark.parametrize("said", ["abort", "content_filter", "error"])
def test_a_server_that_breaks_off_for_its_own_reasons_is_an_error(said: str) -> None:
    with pytest.raises(GenerationFailed, match=said):
        read(delta(said))


def test_half_characters_never_come_out() -> None:
    (event,) = read(delta(content="a\ud83d"))
    assert event == TextDelta("a?")


@pytest.mark.parametrize(
    ("text", "thought", "said"),
    [
        ("<think>\nHm.\n</think>\n\nYes.", "Hm.\n", "Yes."),
        ("\n<think></think>Yes.", "", "Yes."),
        ("<think>never ends </thin", "never ends </thin", ""),
        ("Yes, <think>is a tag</think>.", "", "Yes, <think>is a tag</think>."),
        ("<thin ice", "", "<thin ice"),
        ("  <thing>", "", "  <thing>"),
        ("<", "", "<"),
        ("", "", ""),
    ],
)
@given(data=st.data())
def test_tags_at_the_beginning_are_told_apart_wherever_they_are_cut(
    data: st.DataObject, text: str, thought: str, said: str
) -> None:
    tags = ThinkTags()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    places = [0, *cuts, len(text)]
    events: list[Event] = []
    for start, end in pairwise(places):
        events += tags.feed(text[start:end])
    assert told([*events, *tags.flush()]) == (thought, said)
    assert all(event.text for event in events if isinstance(event, TextDelta | ReasoningDelta))


def test_tags_stay_text_where_the_answer_goes_on_or_the_server_tells_reasoning_itself() -> None:
    assert told(read(delta(content="<think>x"), reader=ChunkReader(tells_thinking=False))) == ("", "<think>x")
    assert told(read(delta(reasoning="Hm"), delta(content="<think>x"))) == ("Hm", "<think>x")


def test_scores_of_chats_and_completions() -> None:
    chat = {
        "content": [
            {"token": "\\xe4", "bytes": [228], "logprob": -0.5, "top_logprobs": [
                {"token": "b", "logprob": -2.0, "bytes": None}, {"token": "a", "logprob": -0.5},
            ]}
        ]
    }  # fmt: skip
    assert read_scores(chat) == (TokenScore(b"\xe4", -0.5, ((b"a", -0.5), (b"b", -2.0))),)
    text = {"tokens": ["a", "b"], "token_logprobs": [None, -1], "top_logprobs": [None, {"b": -1, "c": -3}]}
    assert read_scores(text) == (TokenScore(b"a", None), TokenScore(b"b", -1.0, ((b"b", -1.0), (b"c", -3.0))))
    assert read_scores({"content": None}) == read_scores(None) == read_scores([]) == ()


def test_scores_come_before_their_text() -> None:
    one = delta(content="a")
    one["choices"][0]["logprobs"] = {"content": [{"token": "a", "logprob": -1.0}]}
    assert read(one) == [Scores((TokenScore(b"a", -1.0),)), TextDelta("a")]


def test_a_completion_has_text_in_place_of_a_delta() -> None:
    one = {"choices": [{"index": 0, "text": "and so on", "finish_reason": "length"}]}
    assert read(one, reader=ChunkReader(tells_thinking=False)) == [TextDelta("and so on")]
