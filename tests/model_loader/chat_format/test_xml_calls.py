"""Calls in XML between markers: types from the schema, whole or not at all, nothing lost."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_loader.chat_format.call_reader import CallReader
from model_loader.chat_format.chatml import NO_OPENING, ChatML
from model_loader.chat_format.detokenizer import Vocabulary
from model_loader.chat_format.messages import Tool, ToolUse
from model_loader.chat_format.xml_calls import parse_call, written_call
from model_loader.chat_format.xml_tools import XmlTools
from model_loader.events import ReasoningDelta, TextDelta, ToolCall
from tests.model_loader.chat_format.test_json_calls import joined
from tests.tiny_checkpoint import make_tokenizer

TYPES: dict[str, Any] = {
    "text": {"type": "string"},
    "whole": {"type": "integer"},
    "number": {"type": "number"},
    "truth": {"type": "boolean"},
    "object": {"type": "object"},
    "list": {"type": "array"},
    "maybe_text": {"type": ["string", "null"]},
    "maybe_number": {"anyOf": [{"type": "number"}, {"type": "null"}]},
    "choice": {"enum": [1, 2]},
    "word": {"enum": ["1", "2"]},
    "referred": {"$ref": "#/$defs/Point"},
    "loop": {"$ref": "#/properties/loop"},
    "nowhere": {"$ref": "#/not/there"},
    "free": {},
    "odd": True,
}
TOOL = Tool("f", "", {"properties": TYPES, "$defs": {"Point": {"type": "object"}}})
TOKENIZER = make_tokenizer()
FORMAT = ChatML(TOKENIZER)
CALL = "<tool_call>\n<function=f>\n<parameter=whole>\n5\n</parameter>\n</function>\n</tool_call>"
FIVE = ToolCall("f", '{"whole": 5}')


def parsed(**values: str) -> dict[str, Any]:
    """The arguments of a call that is written with these values."""
    parameters = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items())
    call = parse_call(f"\n<function=f>\n{parameters}</function>\n", [TOOL])
    assert call is not None
    assert call.name == "f"
    arguments: dict[str, Any] = json.loads(call.arguments)
    return arguments


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("text", "5", "5"), ("text", "true", "true"), ("text", "null", "null"), ("text", "", ""),
        ("text", "\n a\n\n", "\n a\n\n"), ("text", "北京 \\ \"", "北京 \\ \""),
        ("text", "a\n</parameter>\nb", "a\n</parameter>\nb"), ("text", "</function>", "</function>"),
        ("text", "<parameter=x>", "<parameter=x>"),
        ("whole", "5", 5), ("whole", " 5 ", 5), ("whole", "five", "five"), ("whole", "NaN", "NaN"),
        ("number", "0.5", 0.5), ("number", "1e3", 1000.0),
        ("truth", "true", True), ("truth", "True", True), ("truth", "False", False), ("truth", "None", None),
        ("object", '{"a": [1]}', {"a": [1]}), ("object", "{a}", "{a}"), ("list", "[]", []),
        ("list", "[" * 99_999, "[" * 99_999),
        ("maybe_text", "null", None), ("maybe_text", "None", None), ("maybe_text", "5", "5"),
        ("maybe_number", "null", None), ("maybe_number", "2", 2),
        ("choice", "2", 2), ("word", "2", "2"), ("referred", "{}", {}),
        ("loop", "5", "5"), ("nowhere", "5", "5"), ("free", "5", "5"), ("odd", "5", "5"), ("unknown", "5", "5"),
    ],
)  # fmt: skip
def test_a_value_is_what_the_schema_says(name: str, written: str, value: Any) -> None:
    assert parsed(**{name: written, "text": "and more"} if name != "text" else {name: written})[name] == value


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("<function=f>\n</function>", ToolCall("f", "{}")),
        ("<function=f></function>", ToolCall("f", "{}")),
        ("<function=g><parameter=a>1</parameter><parameter=a>2</parameter></function>", ToolCall("g", '{"a": "2"}')),
        ("<function=f><parameter=object>{\"a\": \"\\ud800\"}</parameter></function>",
         ToolCall("f", '{"object": {"a": "\\ud800"}}')),
        ("<function=>\n</function>", None),
        ("<function=f\n>\n</function>", None),
        ("<function=f>\n", None),
        ("<function=f", None),
        ("<function=f>text</function>", None),
        ("<function=f><parameter=a>1</function>", None),
        ("<function=f><parameter=a>1</parameter>", None),
        ("<function=f></function> and more", None),
        ('{"name": "f", "arguments": {}}', None),
        ("", None),
    ],
)  # fmt: skip
def test_what_is_no_call_is_none(text: str, call: ToolCall | None) -> None:
    assert parse_call(text, [TOOL]) == call


VALUES: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {},
    optional={
        "text": st.text(), "whole": st.integers(), "number": st.floats(allow_nan=False, allow_infinity=False),
        "truth": st.booleans(), "object": st.dictionaries(st.text(), st.integers() | st.text()),
        "list": st.lists(st.none() | st.text()), "maybe_number": st.none() | st.integers(),
    },
)  # fmt: skip


@given(VALUES)
def test_what_the_templates_write_is_read_again(values: dict[str, Any]) -> None:
    written = written_call(ToolCall("f", json.dumps(values)))
    call = parse_call(written, [TOOL])
    assert call is not None
    assert json.loads(call.arguments) == values


@given(
    st.lists(st.sampled_from(["<function=f>", "</function>", "<parameter=a>", "</parameter>", " \n", "x"]), max_size=20)
)
def test_any_text_is_a_call_or_none(pieces: list[str]) -> None:
    call = parse_call("".join(pieces), [TOOL])
    assert call is None or set(json.loads(call.arguments)) <= {"a"}


@pytest.mark.parametrize("piece", ["</parameter>", "<parameter=a>", "</parameter> ", "\n", "<function=f>"])
def test_a_long_broken_call_is_read_in_linear_time(piece: str) -> None:
    assert parse_call("<function=f><parameter=a>" + piece * 50_000, [TOOL]) is None


def events_of(text: str, *, is_parallel: bool = True) -> list[object]:
    dialect = XmlTools(FORMAT, Vocabulary(TOKENIZER), "")
    reader = dialect.reader([], ToolUse((TOOL,), is_parallel=is_parallel), ["STOP"], NO_OPENING)
    assert isinstance(reader, CallReader)
    events: list[object] = []
    for token_id in TOKENIZER.encode(text).ids:
        events += reader.feed(token_id)
        if reader.is_over:
            break
    return joined([*events, *reader.flush()])


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (f"I look.\n\n{CALL}", [TextDelta("I look."), FIVE]),
        (f"I look.\n\n\n{CALL}\n{CALL}\n", [TextDelta("I look.\n"), FIVE, FIVE]),
        (f"<think>\n{CALL}\n</think>\n\n{CALL}", [ReasoningDelta(f"{CALL}\n"), FIVE]),
        (CALL.removesuffix("</tool_call>"), [FIVE]),
        (CALL.replace("whole", "text").replace("5", "STOP"), [ToolCall("f", '{"text": "STOP"}')]),
        ("a\n\nb\n\n", [TextDelta("a\n\nb\n\n")]),
        ("a STOP b", [TextDelta("a ")]),
        (f"a\n\n{CALL[:50]}", [TextDelta(f"a\n\n{CALL[:50]}")]),
        ("<tool_call>\n{}\n</tool_call>", [TextDelta("<tool_call>\n{}\n</tool_call>")]),
        ("<function=f>\n</function>", [TextDelta("<function=f>\n</function>")]),
    ],
)
def test_answers_are_told_apart_into_text_and_calls(text: str, events: list[object]) -> None:
    assert events_of(text) == events


def test_the_answer_is_over_with_the_first_call_where_one_is_all() -> None:
    assert events_of(f"{CALL}\n{CALL}", is_parallel=False) == [FIVE]
