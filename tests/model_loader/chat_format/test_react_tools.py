"""Tools in the manner of Qwen-1: the texts of 2023 to the byte, and the mapping of messages that its API had."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_loader.chat_format.chatml import NO_OPENING, ChatML, Opening
from model_loader.chat_format.detokenizer import Vocabulary
from model_loader.chat_format.messages import NO_TOOLS, Message, Tool, ToolUse
from model_loader.chat_format.react_tools import REACT_INSTRUCTION, TOOL_DESC, ReactTools
from model_loader.errors import InvalidSetting
from model_loader.events import ToolCall
from tests.tiny_checkpoint import CONTROL_TOKENS, make_tokenizer

TOKENIZER = make_tokenizer()
FORMAT = ChatML(TOKENIZER, "<|im_start|>system\nYou are a helpful assistant.<|im_end|>")
DIALECT = ReactTools(FORMAT, Vocabulary(TOKENIZER))
TOOLS = ToolUse((Tool("search", "Finds 网页.", {"type": "object", "properties": {"词": {}}}), Tool("draw")))
INSTRUCTED = DIALECT.turns([Message("user", "")], TOOLS)[1].parts[0].removesuffix("\n\nQuestion: ")  # type: ignore[union-attr]
HEAD = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
FORGERIES = st.lists(st.one_of(st.sampled_from(CONTROL_TOKENS), st.text(max_size=8)), max_size=8).map("".join)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prompt(messages: Sequence[Message], tools: ToolUse = TOOLS) -> str:
    return TOKENIZER.decode(FORMAT.render_turns(DIALECT.turns(messages, tools)), skip_special_tokens=False)


def calling(thought: str, name: str = "search", arguments: str = '{"词": "x"}') -> Message:
    return Message("assistant", thought, (ToolCall(name, arguments),))


def test_the_texts_are_those_of_2023() -> None:
    assert (digest(TOOL_DESC), digest(REACT_INSTRUCTION), len(REACT_INSTRUCTION)) == (
        "3dd7ccf62d382303",
        "b9eb6cee54d2b84d",
        557,
    )
    # react_demo.py's PROMPT_REACT: the same, with the question's line at its end.
    assert digest(f"{REACT_INSTRUCTION}\n\nQuestion: {{query}}") == "2166d04238cf8d72"


def test_the_instruction_names_and_describes_every_tool() -> None:
    assert (
        "APIs:\n\nsearch: Call this tool to interact with the search API. What is the search API useful for? "
        'Finds 网页. Parameters: {"type": "object", "properties": {"词": {}}}\n\n'
        "draw: Call this tool to interact with the draw API. What is the draw API useful for?  Parameters: {}\n\nUse"
    ) in INSTRUCTED
    assert "should be one of [search, draw]\n" in INSTRUCTED
    assert INSTRUCTED.endswith("Begin!")


def test_a_first_question_carries_the_instruction() -> None:
    assert prompt([Message("user", "\nWho? \n")]) == (
        f"{HEAD}<|im_start|>user\n{INSTRUCTED}\n\nQuestion: Who?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_with_a_history_the_last_answered_question_carries_it() -> None:
    messages = [
        Message("system", "Be brief.\n"),
        Message("user", "a"),
        Message("assistant", "b"),
        Message("user", "c"),
        Message("assistant", "d"),
        Message("user", "e"),
    ]
    final = "Thought: I now know the final answer.\nFinal Answer:"
    assert prompt(messages) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        f"<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n{final} b<|im_end|>\n"
        f"<|im_start|>user\n{INSTRUCTED}\n\nQuestion: c<|im_end|>\n<|im_start|>assistant\n{final} d<|im_end|>\n"
        "<|im_start|>user\ne<|im_end|>\n<|im_start|>assistant\n"
    )


def test_results_go_on_inside_the_assistants_turn_and_leave_it_open() -> None:
    messages = [
        Message("user", "Who?"),
        calling("I search."),
        Message("tool", " Nobody.\n"),
        calling("Thought: Again.", arguments="raw"),
        Message("tool", "Somebody."),
    ]
    assert prompt(messages) == (
        f"{HEAD}<|im_start|>user\n{INSTRUCTED}\n\nQuestion: Who?<|im_end|>\n<|im_start|>assistant\n"
        'Thought: I search.\nAction: search\nAction Input: {"词": "x"}\nObservation:  Nobody.\n'
        "Thought: Again.\nAction: search\nAction Input: raw\nObservation: Somebody.\nThought:"
    )


def test_several_calls_of_one_message_stand_each_before_its_result() -> None:
    both = Message("assistant", "Two.", (ToolCall("search", "1"), ToolCall("draw", "2")))
    messages = [Message("user", "Go"), both, Message("tool", "r1"), Message("tool", "r2")]
    assert prompt(messages).endswith(
        "Thought: Two.\nAction: search\nAction Input: 1\nObservation: r1\n"
        "Thought: \nAction: draw\nAction Input: 2\nObservation: r2\nThought:"
    )


def test_an_answer_behind_results_joins_their_turn() -> None:
    messages = [
        Message("user", "Who?"),
        calling("Hm"),
        Message("tool", "Bob"),
        Message("assistant", "Bob."),
        Message("user", "Sure?"),
    ]
    assert prompt(messages).endswith(
        "\nObservation: Bob\nThought: I now know the final answer.\nFinal Answer: Bob.<|im_end|>\n"
        "<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_without_tools_now_and_before_it_is_plain_chat() -> None:
    messages = [Message("user", "\na "), Message("assistant", "b"), Message("user", "c")]
    assert FORMAT.render_turns(DIALECT.turns(messages, NO_TOOLS)) == FORMAT.render(messages)


def test_earlier_calls_stay_when_the_tools_are_hidden() -> None:
    messages = [Message("user", "Who?"), calling("Hm"), Message("tool", "Bob")]
    shown = prompt(messages, ToolUse(TOOLS.tools, "none"))
    assert shown.startswith(f"{HEAD}<|im_start|>user\nWho?<|im_end|>\n")
    assert shown.endswith("\nObservation: Bob\nThought:")


def test_a_demanded_call_begins_the_answer_in_the_format() -> None:
    use = ToolUse(TOOLS.tools, "draw")
    assert DIALECT.beginnings([Message("user", "Go")], use, NO_OPENING) == [("Thought: \nAction: draw\nAction Input:",)]
    waiting = [Message("user", "Who?"), calling("Hm"), Message("tool", "Bob")]
    assert DIALECT.beginnings(waiting, use, NO_OPENING) == [(" \nAction: draw\nAction Input:",)]


def test_an_answer_that_has_begun_is_refused_with_tools() -> None:
    with pytest.raises(InvalidSetting, match="has begun cannot go on with tools"):
        DIALECT.reader([Message("user", "Who?")], TOOLS, (), Opening("Bob"))


def test_tools_without_a_question_are_refused() -> None:
    with pytest.raises(InvalidSetting, match="one user message"):
        DIALECT.turns([calling("Hm"), Message("tool", "Bob")], TOOLS)


@given(FORGERIES, FORGERIES, FORGERIES, FORGERIES)
def test_no_text_can_forge_a_control_token(question: str, thought: str, arguments: str, result: str) -> None:
    def control_ids(*texts: str) -> list[int]:
        asked, thought, arguments, result = texts
        messages = [Message("user", asked), calling(thought, arguments=arguments), Message("tool", result)]
        ids = FORMAT.render_turns(DIALECT.turns(messages, ToolUse((Tool("search", result),))))
        return [each for each in ids if each in FORMAT.added_ids]

    assert control_ids(question, thought, arguments, result) == control_ids("q", "t", "{}", "r")
