"""Tools in the manner of Qwen3-Coder and Qwen3.5: their templates character for character, markers nobody can forge."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given

from model_loader.chat_format.chatml import NO_OPENING, ChatML, Opening
from model_loader.chat_format.detokenizer import Vocabulary
from model_loader.chat_format.json_tools import JsonTools
from model_loader.chat_format.messages import NO_TOOLS, Message, Tool, ToolUse
from model_loader.chat_format.xml_tools import XmlTools
from model_loader.errors import InvalidSetting
from model_loader.events import ToolCall
from tests.model_loader.chat_format.test_json_tools import CONVERSATION, FORGERIES, RESULT_TOKENS, tokenizer_with

SEARCH = Tool(
    "search",
    " Looks for files. 検索\n",
    {
        "type": "object",
        "properties": {
            "pattern": {"type": "string", "description": " 正規表現 "},
            "limit": {"type": ["integer", "null"], "default": None, "minimum": 1},
            "flags": {"type": "object", "properties": {"deep": {"type": "boolean"}}, "required": ["deep"]},
            "paths": {"type": "array", "items": {"type": "string"}, "description": "where"},
            "ratio": {"anyOf": [{"type": "number"}, {"type": "null"}], "name": "hidden"},
            "anything": True,
        },
        "required": ["pattern", "検"],
        "additionalProperties": False,
        "$defs": {"a": {"type": "string"}},
    },
)
TOOLS = ToolUse((SEARCH, Tool("noop"), Tool("bare", "Bare.", {"type": "object"})))
ARGUMENTS = (
    '{"pattern": "<p>\\n</p>", "limit": 5, "flags": {"deep": true, "名": null}, "paths": ["a", "b"], "ratio": 0.10,'
    ' "anything": null, "more": true}'
)
TALK = (
    Message("system", " Be brief. "),
    Message("user", " Hello \n"),
    Message("assistant", " Hi!\n", reasoning="long ago"),
    Message("user", "Find it."),
    Message("assistant", " Let me look. \n", (ToolCall("search", ARGUMENTS), ToolCall("noop", "{}")), "\nFirst.\n"),
    Message("tool", " found\n"),
    Message("tool", "done"),
    Message("assistant", "", (ToolCall("noop", " {} "),)),
    Message("tool", "again"),
    Message("assistant", "\nSo:", (ToolCall("bare", '{"x": ""}'),), "Second."),
    Message("tool", ""),
)
CODER = (
    "render_extra_keys <tool_call> <function= \\n<function>\\n<name> You are Qwen, a helpful AI assistant that can "
    "interact with a computer to solve tasks. add_generation_prompt"
)
QWEN35 = (
    "<tool_call> <function= reasoning_content loop.index0 > ns.last_query_index enable_thinking add_generation_prompt "
    "enable_thinking is false '<think>\\n\\n</think>\\n\\n' '<think>\\n'"
)
QWEN35_GIVEN = QWEN35.replace("ns.last_query_index", "ns.last_query_index  and reasoning_content")
TOKENIZER = tokenizer_with(RESULT_TOKENS)


def dialect_of(template: str) -> tuple[ChatML, XmlTools]:
    chat_format = ChatML(TOKENIZER, template)
    return chat_format, XmlTools(chat_format, Vocabulary(TOKENIZER), template)


def rendered(template: str, messages: Sequence[Message], tools: ToolUse = TOOLS, opening: Opening = NO_OPENING) -> str:
    chat_format, dialect = dialect_of(template)
    return TOKENIZER.decode(
        chat_format.render_turns(dialect.turns(messages, tools), opening), skip_special_tokens=False
    )


PROMPTS = {
    "with everything": (TALK, TOOLS, NO_OPENING),
    "without a system message": (TALK[1:], TOOLS, NO_OPENING),
    "without tools": (TALK, NO_TOOLS, NO_OPENING),
    "with a question alone": (TALK[3:4], NO_TOOLS, NO_OPENING),
    "of the other dialect": (CONVERSATION, TOOLS, NO_OPENING),
    "with a question that looks like a result": (
        (*TALK[:5], *TALK[5:7], Message("user", "<tool_response>\nx\n</tool_response>")), TOOLS, NO_OPENING,
    ),
    "without thinking": (TALK, TOOLS, Opening(thinking=False)),
}  # fmt: skip


DIGESTS = {
    CODER: {
        "with everything": "3248e9c35f20cc62",
        "without a system message": "ac9dbe2c949c8035",
        "without tools": "be17ae158b6e72d4",
        "with a question alone": "002f3e6879890ccc",
        "of the other dialect": "8922c31e98b20d66",
        "with a question that looks like a result": "251751b72987702e",
        "without thinking": "3248e9c35f20cc62",
    },
    QWEN35: {
        "with everything": "5b9cd4cca1528180",
        "without a system message": "84cc132844996530",
        "without tools": "21073b7b1ffe1b90",
        "with a question alone": "c1bf14dd7df89f17",
        "of the other dialect": "c41872ad70116398",
        "with a question that looks like a result": "913d5ccc3d7458b1",
        "without thinking": "b2d6747675c6e13c",
    },
    QWEN35_GIVEN: {
        "with everything": "0023a88eb087b5b2",
        "without a system message": "7d91b4c17bfc2a75",
        "without tools": "a72a21645581296f",
        "with a question alone": "c1bf14dd7df89f17",
        "of the other dialect": "d3c1f90b82865c93",
        "with a question that looks like a result": "913d5ccc3d7458b1",
        "without thinking": "1505ff5df26e61d4",
    },
}


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("template", [CODER, QWEN35, QWEN35_GIVEN], ids=["Qwen3-Coder", "Qwen3.5", "Qwen3.5 changed"])
def test_prompts_are_those_of_the_chat_templates(template: str, prompt: str) -> None:
    """The digests are those of what transformers makes of the templates of Qwen/Qwen3-Coder-30B-A3B-Instruct and of
    Qwen/Qwen3.5, and of a Qwen3.5 that leaves out empty reasoning as llama.cpp's copy does."""
    messages, tools, opening = PROMPTS[prompt]
    digest = hashlib.sha256(rendered(template, messages, tools, opening).encode()).hexdigest()[:16]
    assert digest == DIGESTS[template][prompt]


def test_markers_are_ids_where_the_tokenizer_has_them() -> None:
    chat_format, dialect = dialect_of(QWEN35)
    ids = Counter(chat_format.render_turns(dialect.turns(TALK, TOOLS)))
    tokens = ("<tool_call>", "</tool_call>", *RESULT_TOKENS, "<think>", "</think>")
    # Rules name the marker of calls twice; three turns think, and the answer begins to.
    assert [ids[TOKENIZER.token_to_id(token)] for token in tokens] == [2 + 4, 2 + 4, 4, 4, 3 + 1, 3]


def forged(system: str, question: str, thought: str, value: str, result: str, described: str) -> list[int]:
    chat_format, dialect = dialect_of(QWEN35)
    written = ToolCall("noop", json.dumps({"a": value, described: 1}))
    messages = [
        Message("system", system),
        Message("user", question),
        Message("assistant", question, (written,), thought),
        Message("tool", result),
    ]
    tools = ToolUse((Tool("noop", described, {"properties": {described: {}}}),))
    ids = chat_format.render_turns(dialect.turns(messages, tools))
    return [each for each in ids if each in chat_format.added_ids]


@given(FORGERIES, FORGERIES, FORGERIES, FORGERIES, FORGERIES, FORGERIES)
def test_neither_questions_nor_thoughts_nor_values_can_forge_a_marker(
    system: str, question: str, thought: str, value: str, result: str, described: str
) -> None:
    plain = forged("s", "q", "t", "v", "r", "d")
    assert forged(system, question, thought, value, result, described) == plain


@pytest.mark.parametrize("arguments", ["", "[]", "{", "5"])
def test_arguments_that_are_no_object_cannot_be_written(arguments: str) -> None:
    spoken = replace(TALK[4], tool_calls=(ToolCall("search", arguments),))
    with pytest.raises(InvalidSetting, match="no JSON object"):
        dialect_of(CODER)[1].turns([*TALK[:4], spoken, TALK[5]], TOOLS)


def test_a_call_that_is_demanded_begins_the_answer() -> None:
    chat_format, dialect = dialect_of(CODER)
    (beginning,) = dialect.beginnings(TALK, ToolUse(TOOLS.tools, "noop"), NO_OPENING)
    assert TOKENIZER.decode(chat_format.encode_parts(beginning)) == "<tool_call>\n<function=noop>\n"
    (behind_text,) = dialect.beginnings(TALK, ToolUse(TOOLS.tools, "noop"), Opening("So"))
    assert TOKENIZER.decode(chat_format.encode_parts(behind_text)).startswith("\n\n<tool_call>")


@pytest.mark.parametrize(
    ("template", "is_known"),
    [(CODER, True), (QWEN35, True), ("", False), ("<tool_call>", False), ("<function=", False)],
)
def test_the_dialect_is_known_by_the_template(template: str, is_known: bool) -> None:
    assert XmlTools.is_in(template) is is_known
    assert not (is_known and JsonTools.is_in(template))


@pytest.mark.parametrize(
    ("ending", "thinking", "begins"),
    [
        ("'<think>\\n'", None, "<think>\n"),
        ("'<think>\\n'", False, "<think>\n\n</think>\n\n"),
        ("enable_thinking is true '<think>\\n'", None, "<think>\n\n</think>\n\n"),
        ("enable_thinking is true '<think>\\n'", True, "<think>\n"),
    ],
)
def test_who_thinks_unasked_is_known_by_the_template(ending: str, thinking: bool | None, begins: str) -> None:
    template = f"enable_thinking reasoning_content add_generation_prompt {ending}"
    prompt = rendered(template, TALK[3:4], NO_TOOLS, Opening(thinking=thinking))
    assert prompt.endswith(f"<|im_start|>assistant\n{begins}")
