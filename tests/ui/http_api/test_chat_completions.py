"""Chat completions: what a request becomes for the model, and what an answer becomes for the client."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from model_loader.chat_format.chatml import Opening
from model_loader.chat_format.messages import Message, Tool, ToolUse
from model_loader.events import ToolCall
from tests.scripted_model import Script
from tests.ui.http_api.served_api import HELLO, QUICK, ScriptedApi, chunks_of, error_of

SYSTEM = Message("system", "You are a scripted assistant.")
CALLS = (ToolCall("get_weather", '{"city": "Kyoto"}'), ToolCall("get_time", "{}"))
CALLING = Script(answer="Let me see.", tool_calls=CALLS, tokens_per_s=5000)
WEATHER = {"name": "get_weather", "description": "The weather.", "parameters": {"type": "object", "properties": {}}}
TOOLS = [{"type": "function", "function": WEATHER}, {"type": "function", "function": {"name": "get_time"}}]


def test_an_answer_has_openais_form() -> None:
    api = ScriptedApi()
    answer = ChatCompletion.model_validate(api.chat().json())
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == "scripted"
    (choice,) = answer.choices
    assert choice.message.content == api.model.script.answer
    assert choice.finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert api.model.prompts == [(SYSTEM, Message("user", "Hello!"))]


def test_a_stream_has_ids_a_role_its_text_a_reason_and_a_cost() -> None:
    api = ScriptedApi()
    answer = api.chat(stream=True, stream_options={"include_usage": True})
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["cache-control"] == "no-store"
    chunks = [ChatCompletionChunk.model_validate(chunk) for chunk in chunks_of(answer)]
    first, *_, last, cost = chunks
    assert len({chunk.id for chunk in chunks}) == 1
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == api.model.script.answer
    assert last.choices[0].finish_reason == "stop"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-2]] == [None] * (len(chunks) - 2)
    assert cost.choices == []
    assert cost.usage is not None
    assert cost.usage.completion_tokens == 10
    assert "usage" not in chunks_of(api.chat(stream=True))[0]


def test_the_end_by_length_is_told() -> None:
    api = ScriptedApi(Script(answer="One two", finish_reason="length", tokens_per_s=5000))
    assert api.chat(max_tokens=2).json()["choices"][0]["finish_reason"] == "length"
    assert api.model.samplings[-1].max_new_tokens == 2  # type: ignore[union-attr]


def test_reasoning_is_told_apart() -> None:
    api = ScriptedApi(Script(answer="Yes.", reasoning="Hm, well.", tokens_per_s=5000))
    message = api.chat().json()["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Yes.", "Hm, well.")
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks_of(api.chat(stream=True))]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Hm, well."
    assert "".join(delta.get("content", "") for delta in deltas) == "Yes."


def test_every_setting_reaches_the_model() -> None:
    api = ScriptedApi()
    asked = {
        "temperature": 0.1, "top_p": 0.5, "top_k": 7, "min_p": 0.2, "repetition_penalty": 1.2, "presence_penalty": 0.3,
        "frequency_penalty": -0.4, "seed": 11,
    }  # fmt: skip
    answer = api.chat(
        **asked, max_completion_tokens=33, stop="\n\n", logit_bias={"5": -100, "7": 1.5},
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}},
    )  # fmt: skip
    assert answer.status_code == 200
    sampling, controls = api.model.samplings[0], api.model.controls[0]
    assert {name: getattr(sampling, name) for name in asked} == asked
    assert sampling is not None
    assert sampling.max_new_tokens == 33
    assert api.model.stops == [("\n\n",)]
    assert controls.logit_bias == {5: -100, 7: 1.5}
    assert controls.json_schema == {"type": "array"}
    assert controls.top_logprobs is None


def test_what_is_not_named_is_as_the_checkpoint_says() -> None:
    api = ScriptedApi()
    api.chat(stop=["a", "b"], response_format={"type": "json_object"})
    assert api.model.samplings == [api.model.default_sampling]
    assert api.model.stops == [("a", "b")]
    assert api.model.controls[0].json_schema == {}


def test_an_answer_without_a_length_takes_what_the_prompt_leaves_of_the_window() -> None:
    from model_loader.errors import ContextLengthExceeded

    class Narrow(type(ScriptedApi().model)):  # type: ignore[misc]
        def stream(self, messages: Any, sampling: Any = None, **options: Any) -> Any:
            if 4000 + sampling.max_new_tokens > self.context_length:
                raise ContextLengthExceeded(4000, sampling.max_new_tokens, self.context_length)
            yield from super().stream(messages, sampling, **options)

    api = ScriptedApi()
    api.model.__class__ = Narrow
    assert api.chat().status_code == 200
    assert api.model.samplings[0].max_new_tokens == 96  # type: ignore[union-attr]
    error = error_of(api.chat(max_tokens=97), 400)
    assert error["code"] == "context_length_exceeded"
    assert "4,000" in error["message"]
    assert "4,096" in error["message"]


def test_several_answers_have_seeds_of_their_own() -> None:
    api = ScriptedApi()
    answer = api.chat(n=3, seed=5).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert sorted(each.seed for each in api.model.samplings) == [5, 6, 7]  # type: ignore[union-attr]
    assert answer["usage"]["completion_tokens"] == 30
    assert answer["usage"]["prompt_tokens"] == 6
    texts = {0: "", 1: ""}
    for chunk in chunks_of(api.chat(n=2, stream=True)):
        texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["delta"].get("content", "")
    assert set(texts.values()) == {api.model.script.answer}


@pytest.mark.parametrize("is_streamed", [False, True])
def test_the_scores_of_every_token_are_told(is_streamed: bool) -> None:
    api = ScriptedApi(Script(answer="Yes. 好", tokens_per_s=5000))
    answer = api.chat(logprobs=True, top_logprobs=2, stream=is_streamed)
    choices = [chunk["choices"][0] for chunk in chunks_of(answer)] if is_streamed else [answer.json()["choices"][0]]
    scores = [score for choice in choices if choice["logprobs"] for score in choice["logprobs"]["content"]]
    assert b"".join(bytes(score["bytes"]) for score in scores).decode() == "Yes. 好"
    assert scores[0]["logprob"] == -0.5
    assert [len(score["top_logprobs"]) for score in scores] == [2] * len(scores)
    assert api.chat().json()["choices"][0]["logprobs"] is None


def test_roles_and_parts_become_plain_messages() -> None:
    api = ScriptedApi()
    api.chat(
        [
            {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]},
            {"role": "user", "content": "a", "name": "Ann"},
            {"role": "assistant", "content": "b", "refusal": None, "annotations": [], "reasoning_content": "hm"},
            {"role": "user", "content": [{"type": "text", "text": "c"}]},
        ]
    )
    answer = Message("assistant", "b", reasoning="hm")
    assert api.model.prompts == [(Message("system", "Be brief."), Message("user", "a"), answer, Message("user", "c"))]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_what_was_thought_before_a_call_goes_with_it(field: str) -> None:
    api = ScriptedApi()
    call = {"id": "c1", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "c1", "content": "noon"}
    api.chat([*HELLO, {"role": "assistant", "content": None, "tool_calls": [call], field: "The clock."}, result])
    assert api.model.prompts[-1][-2] == Message("assistant", "", (ToolCall("get_time", "{}"),), "The clock.")


def test_calls_are_answered_whole_and_in_a_stream() -> None:
    api = ScriptedApi(CALLING)
    choice = api.chat(tools=TOOLS).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me see."
    assert [call["function"] for call in choice["message"]["tool_calls"]] == [
        {"name": call.name, "arguments": call.arguments} for call in CALLS
    ]
    assert len({call["id"] for call in choice["message"]["tool_calls"]}) == 2
    chunks = [chunk["choices"][0] for chunk in chunks_of(api.chat(tools=TOOLS, stream=True))]
    calls = [call for chunk in chunks for call in chunk["delta"].get("tool_calls", [])]
    assert [(call["index"], call["type"], call["function"]["name"]) for call in calls] == [
        (0, "function", "get_weather"),
        (1, "function", "get_time"),
    ]
    assert chunks[-1]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("fields", "choice", "is_parallel"),
    [
        ({}, "auto", True),
        ({"tool_choice": "required", "parallel_tool_calls": False}, "required", False),
        ({"tool_choice": {"type": "function", "function": {"name": "get_time"}}}, "get_time", True),
    ],
)
def test_tools_reach_the_model(fields: dict[str, Any], choice: str, is_parallel: bool) -> None:
    api = ScriptedApi()
    api.chat(tools=TOOLS, **fields)
    tools = (Tool("get_weather", "The weather.", WEATHER["parameters"]), Tool("get_time"))  # type: ignore[arg-type]
    assert api.model.tools == [ToolUse(tools, choice, is_parallel)]


def test_tools_that_are_not_to_be_used_are_hidden() -> None:
    api = ScriptedApi(CALLING)
    assert api.chat(tools=TOOLS, tool_choice="none").json()["choices"][0]["finish_reason"] == "stop"
    assert api.model.tools == [ToolUse()]


def test_a_model_without_tools_refuses_them() -> None:
    api = ScriptedApi()
    api.model.supports_tools = False
    assert error_of(api.chat(tools=TOOLS), 400)["param"] == "tools"
    assert api.chat(tools=[]).status_code == 200


@pytest.mark.parametrize("is_streamed", [False, True])
def test_the_old_functions_are_answered_in_the_old_form(is_streamed: bool) -> None:
    api = ScriptedApi(Script(answer="", tool_calls=CALLS[:1], tokens_per_s=5000))
    answer = api.chat(functions=[WEATHER], function_call={"name": "get_weather"}, stream=is_streamed)
    choices = [chunk["choices"][0] for chunk in chunks_of(answer)] if is_streamed else [answer.json()["choices"][0]]
    messages = [choice.get("delta") or choice.get("message") or {} for choice in choices]
    (call,) = (message["function_call"] for message in messages if "function_call" in message)
    assert call == {"name": "get_weather", "arguments": '{"city": "Kyoto"}'}
    assert choices[-1]["finish_reason"] == "function_call"
    assert api.model.tools[0].choice == "get_weather"
    assert not api.model.tools[0].is_parallel


def test_results_follow_in_the_order_of_their_calls() -> None:
    api = ScriptedApi()
    calls = [
        {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}} for name in ("first", "second")
    ]
    api.chat(
        [
            *HELLO,
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": "second", "content": "2"},
            {"role": "tool", "tool_call_id": "first", "content": [{"type": "text", "text": "1"}]},
        ]
    )
    assert api.model.prompts[0][2:] == (
        Message("assistant", "", (ToolCall("first", "{}"), ToolCall("second", "{}"))),
        Message("tool", "1"),
        Message("tool", "2"),
    )


def test_old_results_follow_old_calls() -> None:
    api = ScriptedApi()
    call = {"name": "first", "arguments": "{}"}
    api.chat(
        [
            *HELLO,
            {"role": "assistant", "content": "So.", "function_call": call},
            {"role": "function", "name": "first", "content": "1"},
        ]
    )
    assert api.model.prompts[0][2:] == (Message("assistant", "So.", (ToolCall("first", "{}"),)), Message("tool", "1"))


CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "tool", "tool_call_id": "a", "content": "x"}], "messages[0]"),
        ([*HELLO, {"role": "assistant", "tool_calls": [CALL]}, *HELLO], "messages[2]"),
        ([*HELLO, {"role": "assistant", "tool_calls": [CALL]}], "messages[1]"),
        (
            [
                *HELLO,
                {"role": "assistant", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "a", "content": "x"},
                {"role": "tool", "tool_call_id": "a", "content": "x"},
            ],
            "messages[3]",
        ),
        ([*HELLO, {"role": "system", "content": "x"}, *HELLO], "messages[1]"),
        ([*HELLO, {"role": "assistant", "content": "x"}], "messages[1]"),
    ],
)
def test_messages_that_make_no_conversation_are_named(messages: list[Any], param: str) -> None:
    assert error_of(ScriptedApi().chat(messages), 400)["param"] == param


def test_the_last_answer_can_be_continued() -> None:
    api = ScriptedApi()
    begun = [*HELLO, {"role": "assistant", "content": "Once upon", "reasoning_content": "A tale."}]
    fields = {"continue_final_message": True, "add_generation_prompt": False}
    assert api.chat(begun, **fields).status_code == 200
    assert api.model.openings == [Opening("Once upon", "A tale.")]
    assert api.model.prompts[0][-1] == Message("user", "Hello!")
    assert error_of(api.chat(continue_final_message=True), 400)["param"] == "messages[0]"


def test_thinking_can_be_switched_off() -> None:
    api = ScriptedApi()
    api.chat(chat_template_kwargs={"enable_thinking": False})
    assert api.model.openings == [Opening(thinking=False)]


def test_a_generation_config_of_transformers_is_obeyed() -> None:
    api = ScriptedApi()
    config = {"max_new_tokens": 5, "do_sample": False, "top_p": 0.9, "transformers_version": "5.0.0"}
    assert api.chat(generation_config=json.dumps(config), top_p=0.7).status_code == 200
    sampling = api.model.samplings[0]
    assert sampling is not None
    assert (sampling.max_new_tokens, sampling.temperature, sampling.top_p) == (5, 0.0, 0.7)
    for wrong in ('{"num_beams": 4}', "[]", "{", '{"top_p": 9}'):
        assert error_of(api.chat(generation_config=wrong), 400)


def test_an_error_before_the_first_word_has_its_status_and_one_after_it_ends_the_stream() -> None:
    api = ScriptedApi(Script(fail_at=0, tokens_per_s=5000))
    assert error_of(api.chat(), 500)["code"] == "generation_failed"
    api.model.script = Script(fail_at=3, tokens_per_s=5000)
    chunks = chunks_of(api.chat(stream=True))
    assert "failed as it was told" in chunks[-1]["error"]["message"]
    assert error_of(api.chat(), 500)
    api.model.script = QUICK
    assert api.chat().status_code == 200


def test_an_unforeseen_error_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    api = ScriptedApi(Script(fail_at=1, error=ValueError("/home/me/secret"), tokens_per_s=5000))
    for answer in (api.chat(), api.chat(stream=True)):
        assert "secret" not in answer.text
    assert "secret" in caplog.text
