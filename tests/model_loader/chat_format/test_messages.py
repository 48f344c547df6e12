"""Messages and tools: what no prompt can be made of is refused, by name."""

import pytest

from model_loader.chat_format.messages import Message, Tool, ToolUse, check_conversation
from model_loader.errors import InvalidSetting
from model_loader.events import ToolCall

CALL = ToolCall("clock", "{}")
QUESTION = Message("user", "What time is it?")
ASKING = Message("assistant", "", (CALL,))
RESULT = Message("tool", "noon")


@pytest.mark.parametrize(
    "messages",
    [
        [QUESTION, ASKING, RESULT],
        [QUESTION, Message("assistant", "Both.", (CALL, CALL)), RESULT, RESULT],
        [QUESTION, ASKING, RESULT, ASKING, RESULT, Message("assistant", "Noon."), QUESTION],
        [QUESTION, ASKING, Message("user", "Never mind.")],
    ],
)
def test_results_may_follow_the_calls_they_belong_to(messages: list[Message]) -> None:
    check_conversation(messages)


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([RESULT], "Message 1 is a tool's result"),
        ([QUESTION, RESULT], "Message 2 is a tool's result"),
        ([QUESTION, Message("assistant", "Noon."), RESULT], "Message 3 is a tool's result"),
        ([QUESTION, ASKING, RESULT, RESULT], "Message 4 is a tool's result"),
        ([QUESTION, ASKING, QUESTION, RESULT], "Message 4 is a tool's result"),
        ([QUESTION, ASKING], "last message is the assistant's"),
    ],
)
def test_a_result_without_a_call_is_refused(messages: list[Message], complaint: str) -> None:
    with pytest.raises(InvalidSetting, match=complaint):
        check_conversation(messages)


def test_only_the_assistant_calls_tools() -> None:
    with pytest.raises(InvalidSetting, match="user calls tools"):
        Message("user", "x", (CALL,))


@pytest.mark.parametrize("name", ["", "two words", "naïve", "x" * 65, "<tool_call>", "a\nb"])
def test_a_tools_name_is_letters_digits_underscores_and_dashes(name: str) -> None:
    with pytest.raises(InvalidSetting, match="64 letters, digits"):
        Tool(name)
    Tool("get_weather-2")


@pytest.mark.parametrize("word", ["auto", "none", "required"])
def test_a_word_that_chooses_among_tools_names_none(word: str) -> None:
    with pytest.raises(InvalidSetting, match=word):
        Tool(word)


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"type": "array"}, "'array'"),
        ({"type": 5}, "type 5"),
        ({"default": float("nan")}, "JSON"),
        ({"x": {1}}, "JSON"),
    ],
)
def test_parameters_are_a_json_schema_of_an_object(parameters: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidSetting, match=complaint):
        Tool("clock", parameters=parameters)
    Tool("clock", parameters={})


def test_two_tools_of_one_name_are_refused_by_it() -> None:
    with pytest.raises(InvalidSetting, match="'clock'"):
        ToolUse((Tool("clock"), Tool("map"), Tool("clock")))


def test_a_choice_is_one_of_the_words_or_of_the_names() -> None:
    tools = (Tool("clock"), Tool("map"))
    with pytest.raises(InvalidSetting, match="'clocks'; use one of auto, none, required, clock, map"):
        ToolUse(tools, "clocks")
    with pytest.raises(InvalidSetting, match="no tools are given"):
        ToolUse((), "required")


def test_what_is_offered_and_demanded_follows_the_choice() -> None:
    tools = (Tool("clock"), Tool("map"))
    assert (ToolUse(tools).offered, ToolUse(tools).demanded) == (tools, ())
    assert (ToolUse(tools, "none").offered, ToolUse(tools, "none").demanded) == ((), ())
    assert ToolUse(tools, "required").demanded == tools
    assert (ToolUse(tools, "map").offered, ToolUse(tools, "map").demanded) == (tools, tools[1:])
