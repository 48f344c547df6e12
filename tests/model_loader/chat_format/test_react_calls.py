"""Answers in the ReAct format: the rules of 2023, read while they arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_loader.chat_format.chatml import ChatML
from model_loader.chat_format.detokenizer import Vocabulary
from model_loader.chat_format.react_calls import ReactCallReader
from model_loader.events import ReasoningDelta, TextDelta, ToolCall
from tests.tiny_checkpoint import make_tokenizer

TOKENIZER = make_tokenizer()
FORMAT = ChatML(TOKENIZER)
VOCABULARY = Vocabulary(TOKENIZER)
CALL = 'Thought: I search.\nAction: search\nAction Input: {"q": "谁"}\n'
SEARCH = ToolCall("search", '{"q": "谁"}')


def read(
    text: str, *, allows_calls: bool = True, is_cut: bool = False, stop: tuple[str, ...] = ()
) -> tuple[str, str, list[ToolCall]]:
    """Reasoning, text and calls of an answer."""
    reader = ReactCallReader(FORMAT, VOCABULARY, stop, allows_calls=allows_calls)
    events: list[object] = []
    for token_id in FORMAT.encode_text(text):
        events += reader.feed(token_id)
        if reader.is_over:
            break
    events += reader.flush(is_cut=is_cut)
    assert all(event.text for event in events if isinstance(event, TextDelta | ReasoningDelta))
    thoughts, texts = (
        "".join(event.text for event in events if isinstance(event, kind)) for kind in (ReasoningDelta, TextDelta)
    )
    return thoughts, texts, [event for event in events if isinstance(event, ToolCall)]


def by_the_rules_of_2023(text: str) -> tuple[str, list[ToolCall]]:
    """What `parse_response` of openai_api.py made of a whole answer: content and call."""
    text = text.partition("Observation:")[0]
    begin, middle = text.find("\nAction:"), text.find("\nAction Input:")
    name = text[begin + 8 : middle].strip() if 0 <= begin < middle else ""
    if name:
        _, marker, thought = text[:begin].partition("Thought: ")
        return (thought if marker else text[:begin]).strip(), [ToolCall(name, text[middle + 14 :].strip())]
    return text.rpartition("\nFinal Answer: ")[2], []


def test_a_call_comes_behind_its_thought() -> None:
    assert read(f"{CALL}Observation: made up") == ("", "I search.", [SEARCH])


def test_a_call_needs_no_observation_behind_it() -> None:
    assert read(CALL) == ("", "I search.", [SEARCH])


def test_a_thought_that_was_begun_in_the_prompt_has_no_name() -> None:
    assert read(CALL.removeprefix("Thought:")) == ("", "I search.", [SEARCH])


def test_the_final_answer_is_the_text_and_the_thought_before_it_reasoning() -> None:
    assert read("Thought: I know.\nFinal Answer: 你好!\nBye") == ("I know.", "你好!\nBye", [])


def test_an_answer_in_no_format_is_text() -> None:
    assert read("Thought: hm\nAction: none") == ("", "Thought: hm\nAction: none", [])
    assert read("Action: search\nAction Input: x") == ("", "Action: search\nAction Input: x", [])
    assert read("\nAction: \nAction Input: x") == ("", "\nAction: \nAction Input: x", [])


def test_the_final_answer_flows() -> None:
    reader = ReactCallReader(FORMAT, VOCABULARY)
    for token_id in FORMAT.encode_text("Thought: a\nFinal Answer: "):
        list(reader.feed(token_id))
    for token_id in FORMAT.encode_text("one two"):
        assert list(reader.feed(token_id)) == [TextDelta(VOCABULARY.token_bytes(token_id).decode())]


def test_a_call_behind_a_final_answer_is_one_and_half_of_one_is_text() -> None:
    answer = "Thought: a\nFinal Answer: b"
    assert read(f"{answer}\n{CALL}") == ("a", "b\nThought: I search.", [SEARCH])
    assert read(f"{answer}\nAction: c") == ("a", "b\nAction: c", [])


def test_arguments_that_were_cut_are_text() -> None:
    cut = CALL[:-4]
    begin = cut.index("\nAction:")
    assert read(cut, is_cut=True) == ("", f"I search.{cut[begin:]}", [])
    assert read(CALL, is_cut=True) == ("", "I search.", [SEARCH])


def test_without_tools_a_call_is_text() -> None:
    assert read(CALL, allows_calls=False) == ("", CALL, [])
    assert read(" ok.\nFinal Answer: a\nAction: b", allows_calls=False) == ("ok.", "a\nAction: b", [])


def test_stop_strings_end_it_as_they_did() -> None:
    assert read("Thought: a\nFinal Answer: b c d", stop=("c",)) == ("a", "b ", [])


PIECES = ["Thought: ", "\nAction:", "\nAction Input:", "Observation:", " get", ' {"a": 1}', "\n", "text", "你好"]


@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
def test_calls_are_found_by_the_rules_of_2023(text: str) -> None:
    _, shown, calls = read(text)
    assert (shown, calls) == by_the_rules_of_2023(text)


@given(st.sampled_from(["Thought: a", " a", "a\nb", ""]), st.text(alphabet="ab \nAF:", max_size=20))
def test_final_answers_are_found_by_the_rules_of_2023(thought: str, answer: str) -> None:
    text = f"{thought}\nFinal Answer: {answer}"
    assert read(text)[1:] == by_the_rules_of_2023(text)


@pytest.mark.parametrize("text", ["Observation: x", "\nObservation: x"])
def test_nothing_is_made_up_behind_an_observation(text: str) -> None:
    assert "x" not in read(text)[1]
