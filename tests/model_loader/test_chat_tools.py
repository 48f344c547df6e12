"""Tools through a whole (random) model: what is demanded is called, and what is not known is refused."""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_loader.chat_format.chatml import Opening
from model_loader.chat_format.messages import Message, Tool, ToolUse
from model_loader.chat_model import ChatModel, Controls
from model_loader.engine.request import Sampling
from model_loader.errors import ContextLengthExceeded, InvalidSetting
from model_loader.events import Event, Finished, ReasoningDelta, TextDelta, ToolCall, Waiting
from model_loader.loading.placement import LoadOptions
from model_loader.open_model import open_chat_model
from tests.qwen1_checkpoint import qwen2_model, write_qwen1_checkpoint
from tests.tiny_checkpoint import TOOL_TEMPLATE, make_tokenizer, write_tiny_checkpoint

QUESTION = [Message("user", "What time is it?")]
CLOCK = Tool("clock", "Tells the time.", {"properties": {"city": {"enum": ["a", "b"]}}, "required": ["city"],
                                          "additionalProperties": False})  # fmt: skip
MAP = Tool("map", "", {"properties": {}, "additionalProperties": False})
TOOLS = ToolUse((CLOCK, MAP))
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
SAMPLING = Sampling(max_new_tokens=120, temperature=1.0, seed=3)
XML_TEMPLATE = "{{- '# Tools <tool_call><function=f></function></tool_call>' }}"
THINKING_TEMPLATE = f"{TOOL_TEMPLATE} '<|im_start|>assistant\\n<think>\\n'"


def opened(folder: Path) -> ChatModel:
    return open_chat_model(str(folder), LoadOptions(cpu_only=True), lambda progress: None)


@pytest.fixture(scope="module")
def tool_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatModel]:
    """A random model whose template has tools, with a window of 1,024 tokens."""
    folder = tmp_path_factory.mktemp("tools") / "qwen3"
    model = opened(write_tiny_checkpoint(folder, chat_template=TOOL_TEMPLATE, max_position_embeddings=1024))
    yield model
    model.close()


@pytest.fixture(scope="module")
def thinking_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatModel]:
    """The same, but its prompts open the reasoning."""
    folder = tmp_path_factory.mktemp("thinking") / "qwq"
    model = opened(write_tiny_checkpoint(folder, chat_template=THINKING_TEMPLATE, max_position_embeddings=1024))
    yield model
    model.close()


@pytest.fixture(scope="module")
def react_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatModel]:
    """A random Qwen-1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("qwen1") / "Qwen-Tiny-Chat"
        write_qwen1_checkpoint(folder, qwen2_model().state_dict(), max_position_embeddings=4096)
        (folder / "generation_config.json").write_text('{"chat_format": "chatml", "eos_token_id": 400}')
        model = opened(folder)
        yield model
        model.close()


def calls_in(events: list[Event]) -> list[ToolCall]:
    return [event for event in events if isinstance(event, ToolCall)]


def text_of(events: list[Event], kind: type[TextDelta] | type[ReasoningDelta] = TextDelta) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


def finish_of(events: list[Event]) -> str:
    assert isinstance(events[-1], Finished)
    return events[-1].reason


def test_it_is_known_by_its_files_who_can_call_tools(
    tiny_model: ChatModel, tool_model: ChatModel, react_model: ChatModel
) -> None:
    supported = [model.supports_tools for model in (tiny_model, tool_model, react_model)]
    assert supported == [False, True, True]


def test_a_model_without_tools_says_so(tiny_model: ChatModel) -> None:
    with pytest.raises(InvalidSetting, match=r"cannot call tools: its chat template.*-c Qwen/Qwen3-4B"):
        list(tiny_model.stream(QUESTION, SAMPLING, tools=TOOLS))
    with pytest.raises(InvalidSetting, match="cannot call tools"):
        tiny_model.fit(QUESTION, SAMPLING, tools=TOOLS)
    called = [*QUESTION, Message("assistant", "", (ToolCall("clock", "{}"),)), Message("tool", "noon")]
    with pytest.raises(InvalidSetting, match="Message 2 belongs to a call"):
        list(tiny_model.stream(called, SAMPLING))
    hidden = list(tiny_model.stream(QUESTION, SAMPLING, tools=ToolUse(TOOLS.tools, "none")))
    assert isinstance(hidden[-1], Finished)


@pytest.mark.parametrize(("choice", "names"), [("required", {"clock", "map"}), ("clock", {"clock"}), ("map", {"map"})])
def test_a_demanded_call_is_made_with_arguments_of_its_schema(
    tool_model: ChatModel, choice: str, names: set[str]
) -> None:
    for seed in range(4):
        use = ToolUse(TOOLS.tools, choice, is_parallel=False)
        events = list(tool_model.stream(QUESTION, SAMPLING.changed(seed=seed), tools=use))
        (call,) = calls_in(events)
        assert call.name in names
        assert json.loads(call.arguments) in ([{"city": "a"}, {"city": "b"}] if call.name == "clock" else [{}])
        assert (text_of(events), finish_of(events)) == ("", "tool_calls")


def test_without_the_library_a_demanded_call_is_begun_at_least(
    tool_model: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    events = list(tool_model.stream(QUESTION, SAMPLING, tools=ToolUse(TOOLS.tools, "map")))
    assert text_of(events).startswith('<tool_call>\n{"name": "map", "arguments":')
    assert finish_of(events) != "tool_calls"


def test_a_demanded_call_may_follow_a_beginning(tool_model: ChatModel) -> None:
    use = ToolUse(TOOLS.tools, "map", is_parallel=False)
    events = list(tool_model.stream(QUESTION, SAMPLING, tools=use, opening=Opening("I look.")))
    assert text_of(events).startswith('\n<tool_call>\n{"name": "map", "arguments":')


def test_a_reasoning_model_thinks_before_it_must_call_or_write_json(thinking_model: ChatModel) -> None:
    end = make_tokenizer().token_to_id("</think>")
    use = ToolUse(TOOLS.tools, "required", is_parallel=False)
    at_once, never = {end: 100.0}, {end: -100.0}
    called = list(thinking_model.stream(QUESTION, SAMPLING, tools=use, controls=Controls(at_once)))
    assert (len(calls_in(called)), text_of(called), finish_of(called)) == (1, "", "tool_calls")
    written = list(thinking_model.stream(QUESTION, SAMPLING, controls=Controls(at_once, json_schema=SCHEMA)))
    assert json.loads(text_of(written)) in ({"a": 1}, {"a": 2})
    thinking = list(thinking_model.stream(QUESTION, SAMPLING, tools=use, controls=Controls(never)))
    assert text_of(thinking, ReasoningDelta)
    assert (calls_in(thinking), text_of(thinking), finish_of(thinking)) == ([], "", "length")


def test_a_call_and_its_results_go_on_in_the_next_prompt(tool_model: ChatModel) -> None:
    turns = [
        *QUESTION,
        Message("assistant", "I look.", (ToolCall("clock", '{"city": "a"}'),)),
        Message("tool", "noon"),
    ]
    events = list(tool_model.stream(turns, SAMPLING, tools=TOOLS))
    assert isinstance(events[-1], Finished)


def test_what_a_call_cost_is_not_read_again(tool_model: ChatModel) -> None:
    use = ToolUse((MAP,), "map", is_parallel=False)
    first = list(tool_model.stream(QUESTION, SAMPLING, tools=use, owner="loop"))
    turns = [*QUESTION, Message("assistant", "", tuple(calls_in(first))), Message("tool", "here")]
    second = list(tool_model.stream(turns, SAMPLING, tools=ToolUse((MAP,)), owner="loop"))
    assert isinstance(first[-1], Finished)
    assert isinstance(second[-1], Finished)
    assert second[-1].usage.cached_prompt_tokens >= first[-1].usage.prompt_tokens


def test_whole_oldest_turns_are_left_out_with_the_tools_counted(tool_model: ChatModel) -> None:
    turns = [Message("system", "Be brief.")]
    for number in range(6):
        turns += [
            Message("user", f"{number}" * 40),
            Message("assistant", "", (ToolCall("map", "{}"),)),
            Message("tool", f"{number}" * 40),
            Message("assistant", "ok"),
        ]
    turns += [Message("user", "last?"), Message("assistant", "", (ToolCall("map", "{}"),)), Message("tool", "x")]
    fitted = tool_model.fit(turns, SAMPLING, tools=TOOLS)
    assert fitted.left_out > 0
    assert fitted.left_out % 4 == 0
    assert fitted.left_out > tool_model.fit(turns, SAMPLING).left_out
    assert fitted.messages == (turns[0], *turns[1 + fitted.left_out :])
    list(tool_model.stream(fitted.messages, SAMPLING, tools=TOOLS))
    one_more = (turns[0], *turns[fitted.left_out - 3 :])
    with pytest.raises(ContextLengthExceeded):
        list(tool_model.stream(one_more, SAMPLING, tools=TOOLS))
    with pytest.raises(ContextLengthExceeded):
        tool_model.fit([*QUESTION, Message("assistant", "", (ToolCall("map", "{}"),)), Message("tool", "x" * 900)],
                       SAMPLING, tools=TOOLS)  # fmt: skip


def test_json_of_a_schema_and_tools_go_together(tool_model: ChatModel) -> None:
    start = make_tokenizer().token_to_id("<tool_call>")
    for bias in (-100.0, 100.0):
        controls = Controls(json_schema=SCHEMA, logit_bias={start: bias})
        events = list(tool_model.stream(QUESTION, SAMPLING, tools=TOOLS, controls=controls))
        if bias < 0:
            assert json.loads(text_of(events)) in ({"a": 1}, {"a": 2})
        else:
            assert text_of(events).startswith("<tool_call>") or calls_in(events)


def test_a_reader_is_told_that_a_long_call_goes_on(tool_model: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_loader.chat_model._SILENCE_S", 0.0)
    use = ToolUse((CLOCK,), "clock", is_parallel=False)
    events = list(tool_model.stream(QUESTION, SAMPLING, tools=use))
    held_back = [event for event in events if isinstance(event, Waiting) and event.prompt_tokens_read]
    assert len(held_back) > 10


def test_closing_a_stream_with_tools_frees_the_engine(tool_model: ChatModel) -> None:
    use = ToolUse(TOOLS.tools, "required")
    with contextlib.closing(tool_model.stream(QUESTION, SAMPLING, tools=use)) as events:
        next(events)
        assert tool_model.activity.num_running == 1
    deadline = time.monotonic() + 5
    while tool_model.activity.num_running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert tool_model.activity.num_running == 0


def test_qwen3_coder_begins_a_demanded_call_in_xml(tmp_path: Path) -> None:
    model = opened(write_tiny_checkpoint(tmp_path / "coder", chat_template=XML_TEMPLATE, max_position_embeddings=1024))
    try:
        assert model.supports_tools
        events = list(model.stream(QUESTION, SAMPLING.changed(max_new_tokens=40), tools=ToolUse((CLOCK,), "clock")))
        assert text_of(events).startswith("<tool_call>\n<function=clock>\n")  # of random weights it is no whole call
        assert finish_of(events) in ("length", "stop")
    finally:
        model.close()


@pytest.mark.parametrize("choice", ["required", "clock"])
def test_qwen1_begins_a_demanded_call_in_its_own_format(react_model: ChatModel, choice: str) -> None:
    events = list(react_model.stream(QUESTION, SAMPLING, tools=ToolUse((CLOCK,), choice)))
    written = text_of(events) + "".join(f"\nAction: {call.name}" for call in calls_in(events))
    assert "\nAction: clock" in written
    assert finish_of(events) == ("tool_calls" if calls_in(events) else "length")


def test_qwen1_stops_where_it_waits_for_a_result(react_model: ChatModel) -> None:
    turns = [*QUESTION, Message("assistant", "Hm", (ToolCall("clock", "{}"),)), Message("tool", "noon")]
    assert isinstance(list(react_model.stream(turns, SAMPLING, tools=TOOLS))[-1], Finished)
    with pytest.raises(InvalidSetting, match="has begun cannot go on with tools"):
        list(react_model.stream(QUESTION, SAMPLING, tools=TOOLS, opening=Opening("It is")))
    with pytest.raises(InvalidSetting, match="tools and a JSON schema at once"):
        list(react_model.stream(QUESTION, SAMPLING, tools=TOOLS, controls=Controls(json_schema={})))


def test_readers_with_tools_do_not_disturb_one_another(tool_model: ChatModel) -> None:
    use = ToolUse(TOOLS.tools, "required", is_parallel=False)

    def answer(seed: int) -> list[ToolCall]:
        return calls_in(list(tool_model.stream(QUESTION, SAMPLING.changed(seed=seed), tools=use, owner=str(seed))))

    alone = {seed: answer(seed) for seed in range(4)}
    together: dict[int, list[ToolCall]] = {}
    readers = [threading.Thread(target=lambda seed=seed: together.update({seed: answer(seed)})) for seed in alone]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(20)
    assert together == alone
