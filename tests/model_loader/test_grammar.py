"""JSON schemas as filters of tokens: what they allow, that they end, and that none of them can hold anything up."""

import contextlib
import json
import sys
import time
from typing import Any

import pytest

from model_loader.chat_format.chatml import ChatML
from model_loader.chat_format.detokenizer import Vocabulary
from model_loader.chat_format.messages import Tool
from model_loader.errors import InvalidSetting
from model_loader.grammar import Grammar, Grammars
from tests.tiny_checkpoint import make_tokenizer

TOKENIZER = make_tokenizer()
FORMAT = ChatML(TOKENIZER)
VOCAB_SIZE = 512
STOP_IDS = frozenset({TOKENIZER.token_to_id("<|im_end|>"), TOKENIZER.token_to_id("<|endoftext|>")})
GRAMMARS = Grammars(FORMAT, Vocabulary(TOKENIZER), VOCAB_SIZE, STOP_IDS)


def allowed(grammar: Grammar, ids: list[int]) -> set[int]:
    bits = grammar.allowed_bits(ids)
    return {each for each in range(VOCAB_SIZE) if bits >> each & 1}


def follows(grammar: Grammar, ids: list[int]) -> bool:
    """Whether the ids are allowed one after the other, and then the end."""
    return all(each in allowed(grammar, ids[:at]) for at, each in enumerate(ids)) and bool(
        allowed(grammar, ids) & STOP_IDS
    )


def accepts(schema: dict[str, Any], text: str) -> bool:
    return follows(GRAMMARS.of_schema(schema), FORMAT.encode_text(text))


def object_of(**properties: Any) -> dict[str, Any]:
    names = list(properties)
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


PERSON = object_of(name={"type": "string"}, age={"type": "integer", "minimum": 0})


def test_json_of_the_schema_is_allowed_and_nothing_else() -> None:
    assert accepts(PERSON, '{"name": "狐 \\" \\n", "age": 12}')
    for text in ('{"name": "fox"}', '{"age": 12, "name": "fox"}', '{"name": 1, "age": 1}', '{"name": "f", "age": -1}'):
        assert not accepts(PERSON, text)


def test_an_empty_schema_allows_any_object() -> None:
    assert accepts({}, '{"a": [1, null, {"b": "c"}]}')
    assert accepts({}, "{}")
    assert not accepts({}, "[1]")
    assert not accepts({}, '"text"')


def test_behind_the_whole_of_it_only_the_end_is_allowed() -> None:
    grammar = GRAMMARS.of_schema(PERSON)
    assert allowed(grammar, FORMAT.encode_text('{"name": "fox", "age": 12}')) == STOP_IDS


def test_no_added_token_and_no_padding_is_ever_text() -> None:
    grammar = GRAMMARS.of_schema({})
    inside = allowed(grammar, FORMAT.encode_text('{"a": "'))
    assert not inside & FORMAT.added_ids
    assert max(inside) < TOKENIZER.get_vocab_size()


def test_the_spacing_is_fixed_so_that_no_blanks_go_on_for_ever() -> None:
    assert not accepts(PERSON, '{"name":  "fox", "age": 12}')
    assert not accepts(PERSON, '{\n"name": "fox", "age": 12}')


def test_a_schema_that_comes_back_to_itself_and_can_end_is_allowed() -> None:
    tree = {"$defs": {"n": object_of(c={"type": "array", "items": {"$ref": "#/$defs/n"}})}, "$ref": "#/$defs/n"}
    assert accepts(tree, '{"c": [{"c": []}, {"c": [{"c": []}]}]}')


HOSTILE: dict[str, dict[str, Any]] = {
    "nothing but itself": {"$ref": "#"},
    "another file": {"$ref": "file:///etc/passwd"},
    "another host": {"$ref": "http://127.0.0.1:1/x.json"},
    "no such type": {"type": "text"},
    "a type that is a number": object_of(a={"type": 5}),
    "half a pattern": object_of(a={"type": "string", "pattern": "(((((("}),
    "a negative length": object_of(a={"type": "string", "minLength": -5}),
    "not": object_of(a={"not": {"type": "string"}}),
    "a keyword that cannot be enforced": object_of(a={"type": "array", "uniqueItems": True}),
    "nothing is allowed": object_of(a=False),
    "no number": {"const": float("nan")},
    "huge": object_of(a={"enum": ["x" * 100 + str(number) for number in range(2000)]}),
    "deep": json.loads('{"items":' * 400 + "{}" + "}" * 400),
}


@pytest.mark.parametrize("schema", HOSTILE.values(), ids=list(HOSTILE))
def test_a_schema_that_cannot_be_enforced_is_refused_with_one_line(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting, match="The JSON schema") as caught:
        GRAMMARS.of_schema(schema)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


LARGE: dict[str, dict[str, Any]] = {
    "itself, required": object_of(a={"$ref": "#"}),
    "a long string": object_of(a={"type": "string", "maxLength": 100_000}),
    "many items": object_of(a={"type": "array", "items": {"type": "integer"}, "minItems": 1_000_000}),
    "powers of two": {
        "$defs": {
            **{f"d{n}": object_of(a={"$ref": f"#/$defs/d{n + 1}"}, b={"$ref": f"#/$defs/d{n + 1}"}) for n in range(30)},
            "d30": {"type": "integer"},
        },
        "$ref": "#/$defs/d0",
    },
    "nested repetition": object_of(a={"type": "string", "pattern": "^((a{1,100}){1,100}){1,100}$"}),
    "many ways to match": object_of(a={"type": "string", "pattern": "^.*a.{1000}$"}),
    "many branches": object_of(a={"anyOf": [{"type": "string", "pattern": f"^a.*b{{{n}}}"} for n in range(100)]}),
}


@pytest.mark.parametrize("schema", LARGE.values(), ids=list(LARGE))
def test_no_schema_holds_up_a_start_or_a_step(schema: dict[str, Any]) -> None:
    began_s = time.monotonic()
    with contextlib.suppress(InvalidSetting):  # that it is too much is also an end
        grammar = GRAMMARS.of_schema(schema)
        ids = FORMAT.encode_text('{"a": "' + "ab" * 200)
        for length in range(len(ids)):
            if ids[length] not in allowed(grammar, ids[:length]):
                break
    assert time.monotonic() - began_s < 20


def test_a_missing_library_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(InvalidSetting, match="pip install llguidance"):
        GRAMMARS.of_schema({})


TOOLS = (Tool("clock", parameters=object_of(city={"enum": ["北京", "東京"]})), Tool("noop"))
CLOCK = '<tool_call>\n{"name": "clock", "arguments": {"city": "東京"}}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "is_parallel", "is_allowed"),
    [
        (CLOCK, True, True),
        (CLOCK, False, True),
        (f"{CLOCK}\n{CLOCK}", True, True),
        (f"{CLOCK}\n{CLOCK}", False, False),
        (CLOCK.replace("東京", "京"), True, False),
        (CLOCK.replace("clock", "clocks"), True, False),
        ('<tool_call>\n{"name": "noop", "arguments": {}}\n</tool_call>', True, True),
        ("text", True, False),
    ],
)
def test_calls_that_are_demanded_are_of_their_tools_and_schemas(text: str, is_parallel: bool, is_allowed: bool) -> None:
    grammar = GRAMMARS.of_calls(TOOLS, is_parallel=is_parallel)
    assert follows(grammar, TOKENIZER.encode(text).ids) is is_allowed


def test_of_a_tool_as_much_is_enforced_as_can_be() -> None:
    tool = Tool("draw", parameters={"properties": {"n": {"type": "integer", "not": {"const": 3}}}, "required": ["n"]})
    grammar = GRAMMARS.of_calls([tool], is_parallel=False)
    assert follows(grammar, TOKENIZER.encode('<tool_call>\n{"name": "draw", "arguments": {"n": 3}}\n</tool_call>').ids)
