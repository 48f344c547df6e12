"""Calls in JSON between markers: found by ids, whole or not at all, nothing lost."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from model_loader.chat_format.call_reader import CallReader
from model_loader.chat_format.chatml import ChatML, Opening
from model_loader.chat_format.detokenizer import Vocabulary
from model_loader.chat_format.json_calls import parse_call
from model_loader.events import ReasoningDelta, TextDelta, ToolCall
from tests.tiny_checkpoint import make_tokenizer

TOKENIZER = make_tokenizer()
FORMAT = ChatML(TOKENIZER)
VOCABULARY = Vocabulary(TOKENIZER)
CALL = '<tool_call>\n{"name": "clock", "arguments": {"city": "北京"}}\n</tool_call>'
CLOCK = ToolCall("clock", '{"city": "北京"}')


def without_markers() -> Tokenizer:
    """The tokenizer of a checkpoint whose markers are text."""
    description = json.loads(TOKENIZER.to_str())
    description["added_tokens"] = [each for each in description["added_tokens"] if "tool" not in each["content"]]
    return Tokenizer.from_str(json.dumps(description))


BY_TEXT = ChatML(without_markers())
BY_TEXT_VOCABULARY = Vocabulary(without_markers())


def events_of(
    text: str, *, stop: tuple[str, ...] = (), is_parallel: bool = True, by_text: bool = False, opening: str = ""
) -> list[object]:
    """What is read of an answer; deltas that follow one another are joined."""
    chat_format, vocabulary = (BY_TEXT, BY_TEXT_VOCABULARY) if by_text else (FORMAT, VOCABULARY)
    reader = CallReader(chat_format, vocabulary, parse_call, stop, Opening(opening), is_parallel=is_parallel)
    ids = chat_format.encode_text(text) if by_text else TOKENIZER.encode(text).ids
    events: list[object] = []
    for token_id in ids:
        events += reader.feed(token_id)
        if reader.is_over:
            break
    events += reader.flush()
    return joined(events)


def joined(events: list[object]) -> list[object]:
    result: list[object] = []
    for event in events:
        if isinstance(event, TextDelta | ReasoningDelta):
            assert event.text, "no delta is empty"
            if result and type(result[-1]) is type(event):
                event = type(event)(result.pop().text + event.text)  # type: ignore[attr-defined]
        result.append(event)
    return result


@pytest.fixture(params=[False, True], ids=["ids", "text"])
def by_text(request: pytest.FixtureRequest) -> bool:
    """Whether the markers are text."""
    return bool(request.param)


def test_a_call_comes_behind_the_text_before_it(by_text: bool) -> None:
    assert events_of(f"I look.\n{CALL}", by_text=by_text) == [TextDelta("I look."), CLOCK]


def test_calls_may_be_several(by_text: bool) -> None:
    assert events_of(f"{CALL}\n{CALL}\n\n{CALL}\n", by_text=by_text) == [CLOCK] * 3


def test_the_answer_is_over_with_the_first_call_where_one_is_all(by_text: bool) -> None:
    assert events_of(f"{CALL}\n{CALL} and more", is_parallel=False, by_text=by_text) == [CLOCK]


def test_text_behind_a_call_is_text(by_text: bool) -> None:
    assert events_of(f"{CALL}\nDone.", by_text=by_text) == [CLOCK, TextDelta("Done.")]


@pytest.mark.parametrize(
    "inside",
    ["not JSON", '{"name": "clock", "arguments": {"city": ', '{"name": "clock", "arguments": []}', '{"name": ""}'],
)
def test_a_call_that_is_none_comes_out_as_text(inside: str, by_text: bool) -> None:
    text = f"So:\n<tool_call>\n{inside}\n</tool_call>\n"
    assert events_of(text, by_text=by_text) == [TextDelta(text)]


def test_a_whole_call_needs_no_end_marker(by_text: bool) -> None:
    assert events_of(CALL.removesuffix("</tool_call>"), by_text=by_text) == [CLOCK]
    assert events_of(CALL.replace("\n</tool_call>", f"\n{CALL}"), by_text=by_text) == [CLOCK, CLOCK]


def test_half_a_call_at_the_end_is_text(by_text: bool) -> None:
    assert events_of(f"a\n{CALL[:40]}", by_text=by_text) == [TextDelta(f"a\n{CALL[:40]}")]


def test_an_end_marker_alone_is_text(by_text: bool) -> None:
    assert events_of("a</tool_call>b", by_text=by_text) == [TextDelta("a</tool_call>b")]


def test_no_stop_string_is_looked_for_in_a_call(by_text: bool) -> None:
    events = events_of(f"a\n{CALL}\nb city c", stop=("city",), by_text=by_text)
    assert events == [TextDelta("a"), CLOCK, TextDelta("b ")]


@pytest.mark.parametrize("text", ["", "\n", "a\n", "\n\na\n\n", "a < b", "a\n<tool"])
def test_an_answer_without_calls_is_as_it_was_written(text: str, by_text: bool) -> None:
    assert events_of(text, by_text=by_text) == ([TextDelta(text)] if text else [])


def test_markers_written_letter_by_letter_are_text_where_there_are_ids() -> None:
    reader = CallReader(FORMAT, VOCABULARY, parse_call)
    events = [event for token_id in FORMAT.encode_text(CALL) for event in reader.feed(token_id)]
    assert joined([*events, *reader.flush()]) == [TextDelta(CALL)]


def test_no_more_than_a_newline_is_held_back_from_text() -> None:
    reader = CallReader(FORMAT, VOCABULARY, parse_call)
    written = shown = ""
    for token_id in FORMAT.encode_text("a\n\nb < c\n"):
        written += VOCABULARY.token_bytes(token_id).decode()
        shown += "".join(event.text for event in reader.feed(token_id) if isinstance(event, TextDelta))
        assert shown == written.removesuffix("\n")


def test_thinking_comes_before_calls() -> None:
    events = events_of(f"<think>\nThe clock.\n</think>\n\n{CALL}")
    assert events == [ReasoningDelta("The clock.\n"), CLOCK]


def test_a_call_that_is_only_thought_of_is_none() -> None:
    events = events_of(f"<think>{CALL}</think>no")
    assert events == [ReasoningDelta(CALL), TextDelta("no")]


def test_markers_of_reasoning_inside_a_call_stay_in_it() -> None:
    call = '<tool_call>\n{"name": "say", "arguments": {"text": "<think>"}}\n</tool_call>'
    assert events_of(call) == [ToolCall("say", '{"text": "<think>"}')]


def test_an_answer_that_has_begun_may_go_on_with_a_call() -> None:
    assert events_of(f" look.\n{CALL}", opening="I") == [TextDelta(" look."), CLOCK]


@pytest.mark.parametrize("by_text", [False, True], ids=["ids", "text"])
@given(st.lists(st.sampled_from(["<tool_call>", "</tool_call>", "\n", '{"name": "f"}', "x", "<tool"]), max_size=12))
def test_whatever_is_written_comes_out_as_text_or_as_a_call(by_text: bool, pieces: list[str]) -> None:
    events = events_of("".join(pieces), by_text=by_text)
    calls = [event for event in events if isinstance(event, ToolCall)]
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert all(call == ToolCall("f", "{}") for call in calls)
    lost = "".join(pieces).replace("\n", "")
    shown = text.replace("\n", "")
    assert len(lost) - len(shown) >= len(calls) * len('<tool_call>{"name": "f"}')
    assert len(lost) - len(shown) <= len(calls) * len('<tool_call>{"name": "f"}</tool_call>')


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ('{"name": "f", "arguments": {}}', ToolCall("f", "{}")),
        (' {"arguments" : {"a":1.50, "b": "}\\""} , "name":"f" } \n', ToolCall("f", '{"a":1.50, "b": "}\\""}')),
        ('{"name": "f"}', ToolCall("f", "{}")),
        ('{"name": "f", "arguments": {}, "id": 1}', ToolCall("f", "{}")),
        ('{"name": 1, "arguments": {}}', None),
        ('{"name": "f", "arguments": "{}"}', None),
        ('{"name": "f", "arguments": {"a": NaN}}', None),
        ('{"name": "f", "arguments": {}},', None),
        ('{"name": "f", "arguments": {},}', None),
        ('{"name": "f" "arguments": {}}', None),
        ('{"name": "f", "arguments": {"a": "\n"}}', None),
        ('{"name": "f", "arguments": ' + "[" * 100_000 + "}", None),
        ('["name", "f"]', None),
        ("{", None),
        ("", None),
    ],
)
def test_arguments_are_kept_as_they_are_written(text: str, call: ToolCall | None) -> None:
    assert parse_call(text) == call
