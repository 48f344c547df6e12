"""A model elsewhere answers like one that is here: what is sent, what comes back, what it costs."""

import json
from typing import Any

import pytest

from model_loader.chat_format.chatml import Opening
from model_loader.chat_format.messages import Message, Tool, ToolUse
from model_loader.chat_model import Controls
from model_loader.engine.request import Sampling
from model_loader.errors import (
    CheckpointNotFound,
    ContextLengthExceeded,
    GenerationFailed,
    InvalidSetting,
    ServerIncompatible,
)
from model_loader.events import Event, Finished, ReasoningDelta, Scores, TextDelta, TokenScore, ToolCall, Waiting
from model_loader.remote.options import RemoteOptions
from model_loader.remote.remote_model import RemoteModel, open_remote_model
from tests.api_stub import (
    DONE,
    Answer,
    ApiStub,
    Asked,
    as_json,
    card,
    chat,
    chunk,
    event,
    refusal,
    serve,
    stream,
    usage,
)

QUESTION = [Message("system", "Be brief."), Message("user", "Hello?")]
PLAIN = Sampling(max_new_tokens=100)


def read(model: RemoteModel, messages: list[Message] | None = None, *args: Any, **asked: Any) -> list[Event]:
    events = model.stream(messages or QUESTION, *args, **asked)
    return [each for each in events if not isinstance(each, Waiting)]


# What is sent


def test_a_plain_question_is_sent_in_openais_own_words(stub: ApiStub, model: RemoteModel) -> None:
    read(model, QUESTION, PLAIN)
    assert stub.bodies() == [
        {
            "model": "qwen",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": 100,
            "temperature": 1.0,
            "top_p": 1.0,
        }
    ]
    headers = stub.asked[-1].headers
    assert headers["authorization"] == "Bearer a-secret-key"
    assert headers["accept-encoding"] == "identity"


def test_every_setting_that_differs_is_sent(stub: ApiStub, model: RemoteModel) -> None:
    settings = {
        "temperature": 0.0, "top_p": 0.5, "top_k": 7, "min_p": 0.1, "repetition_penalty": 1.1,
        "presence_penalty": 0.5, "frequency_penalty": -0.5, "seed": 9,
    }  # fmt: skip
    controls = Controls(logit_bias={7: -100.0}, top_logprobs=0, json_schema={"type": "object"})
    read(model, QUESTION, Sampling(max_new_tokens=5, **settings), stop=["END"], controls=controls)
    (body,) = stub.bodies()
    assert {name: body[name] for name in settings} == settings
    assert (body["stop"], body["logit_bias"]) == (["END"], {"7": -100.0})
    assert (body["logprobs"], body["top_logprobs"]) == (True, 0)
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    read(model, QUESTION, PLAIN, controls=Controls(json_schema={}))
    assert stub.bodies()[-1]["response_format"] == {"type": "json_object"}


def test_without_sampling_the_defaults_are_sent(stub: ApiStub, model: RemoteModel) -> None:
    read(model)
    (body,) = stub.bodies()
    assert (body["temperature"], body["top_p"], body["top_k"], body["max_tokens"]) == (0.7, 0.8, 20, 2048)


def test_calls_and_results_refer_to_each_other(stub: ApiStub, model: RemoteModel) -> None:
    tools = ToolUse((Tool("weather", "Tells it.", {"type": "object"}), Tool("time")), "weather", is_parallel=False)
    conversation = [
        Message("user", "Weather?"),
        Message("assistant", "", (ToolCall("weather", '{"city": "杭州"}'), ToolCall("time", "{}")), "Where?"),
        Message("tool", "sunny"),
        Message("tool", "noon"),
    ]
    read(model, conversation, PLAIN, tools=tools)
    (body,) = stub.bodies()
    _question, calls, first, second = body["messages"]
    assert [each["id"] for each in calls["tool_calls"]] == [first["tool_call_id"], second["tool_call_id"]]
    assert calls["reasoning_content"] == "Where?"
    assert calls["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "杭州"}'}
    assert [each["function"]["name"] for each in body["tools"]] == ["weather", "time"]
    assert body["tools"][1]["function"]["parameters"] == {"type": "object", "properties": {}}
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert body["parallel_tool_calls"] is False
    read(model, QUESTION, PLAIN, tools=ToolUse(tools.tools, "required"))
    assert stub.bodies()[-1]["tool_choice"] == "required"
    read(model, QUESTION, PLAIN, tools=ToolUse(tools.tools, "none"))
    assert "tools" not in stub.bodies()[-1]


def test_an_answer_that_has_begun_goes_on_and_thinking_is_switched(stub: ApiStub, model: RemoteModel) -> None:
    stub.answers_chats(chat("<think> is a tag"))
    events = read(model, QUESTION, PLAIN, opening=Opening("Once", "I thought", thinking=False))
    (body,) = stub.bodies()
    assert body["messages"][-1] == {"role": "assistant", "content": "Once"}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert events[0] == TextDelta("<think> is a tag")
    with pytest.raises(GenerationFailed, match="was still thinking"):
        read(model, QUESTION, PLAIN, opening=Opening(reasoning="Hm"))


def test_half_characters_are_not_sent(stub: ApiStub, model: RemoteModel) -> None:
    read(model, [Message("user", "a\ud83d")])
    assert stub.bodies()[0]["messages"][0]["content"] == "a?"


def test_what_cannot_be_asked_is_refused(model: RemoteModel) -> None:
    with pytest.raises(InvalidSetting, match="stop string is empty"):
        read(model, stop=[""])
    with pytest.raises(InvalidSetting, match="conversation is empty"):
        list(model.stream([]))
    for events in (
        model.stream(QUESTION, controls=Controls(has_prompt_scores=True)),
        model.complete("x", controls=Controls(has_prompt_scores=True)),
        model.complete(""),
    ):
        with pytest.raises(InvalidSetting):
            list(events)


# What comes back


def test_an_answer_and_what_it_cost(stub: ApiStub, model: RemoteModel) -> None:
    answer = [chunk(content="Hello"), 0.4, chunk(content="."), chunk("stop"), usage(20, 3, cached=16), DONE]
    stub.answers_chats(stream(*answer))
    *deltas, finished = read(model)
    assert deltas == [TextDelta("Hello"), TextDelta(".")]
    assert isinstance(finished, Finished)
    counted = finished.usage
    assert (finished.reason, counted.prompt_tokens, counted.completion_tokens) == ("stop", 20, 3)
    assert (counted.cached_prompt_tokens, counted.is_estimate) == (16, False)
    assert counted.decode_s > 0.2
    assert counted.first_token_s < 0.35


def test_reasoning_calls_and_scores_come_through(stub: ApiStub, model: RemoteModel) -> None:
    scored = {"delta": {"content": "a"}, "logprobs": {"content": [{"token": "a", "logprob": -1.0}]}}
    call = {"index": 0, "id": "x", "function": {"name": "weather", "arguments": "{}"}}
    stub.answers_chats(
        stream(
            chunk(reasoning_content="Hm"),
            event({"choices": [scored]}),
            chunk(tool_calls=[call]),
            chunk("tool_calls"),
            DONE,
        )
    )
    assert not model.can_switch_thinking
    *events, finished = read(model)
    assert events == [
        ReasoningDelta("Hm"), Scores((TokenScore(b"a", -1.0),)), TextDelta("a"), ToolCall("weather", "{}")
    ]  # fmt: skip
    assert isinstance(finished, Finished)
    assert finished.reason == "tool_calls"
    assert model.can_switch_thinking, "it has thought, so it can be asked not to"


def test_a_long_call_leaves_room_for_who_wants_to_stop(stub: ApiStub, model: RemoteModel) -> None:
    begun = {"index": 0, "id": "x", "function": {"name": "weather", "arguments": ""}}
    pieces = [chunk(tool_calls=[{"index": 0, "function": {"arguments": " "}}]) for _ in range(12)]
    slowly = [each for piece in pieces for each in (piece, 0.1)]
    stub.answers_chats(stream(chunk(tool_calls=[begun]), *slowly, chunk("tool_calls"), DONE))
    assert sum(isinstance(event, Waiting) for event in model.stream(QUESTION)) >= 2


@pytest.mark.parametrize(
    "ending", [(chunk("length"), DONE), (chunk("length"),), (chunk("length"), usage(9, 9)), (chunk("length"), 30.0)]
)
def test_an_answer_has_ended_whatever_follows_its_reason(
    stub: ApiStub, model: RemoteModel, monkeypatch: pytest.MonkeyPatch, ending: tuple[Any, ...]
) -> None:
    monkeypatch.setattr("model_loader.remote.answer._LAST_WORDS_S", 0.3)
    stub.answers_chats(stream(chunk(content="<thi"), *ending))
    *events, finished = read(model)
    assert events == [TextDelta("<thi")]
    assert isinstance(finished, Finished)
    assert finished.reason == "length"


@pytest.mark.parametrize(
    "ending", [(chunk("stop"), usage(9, 4), DONE), (*[chunk(content="more"), 0.2] * 20, chunk("length"), DONE)]
)
def test_stop_strings_are_no_part_of_an_answer_whatever_the_server_does(
    stub: ApiStub, model: RemoteModel, monkeypatch: pytest.MonkeyPatch, ending: tuple[Any, ...]
) -> None:
    monkeypatch.setattr("model_loader.remote.answer._STOPS_S", 0.3)
    stub.answers_chats(stream(chunk(content="One E"), chunk(content="ND two"), *ending))
    *events, finished = read(model, stop=["END"])
    assert events == [TextDelta("One ")]
    assert isinstance(finished, Finished)
    assert finished.reason == "stop"


def test_a_server_that_counts_nothing_gets_an_estimate_that_says_so(stub: ApiStub, model: RemoteModel) -> None:
    stub.answers_chats(chat(*(f"word{number} " for number in range(40)), tokens=None))
    finished = read(model)[-1]
    assert isinstance(finished, Finished)
    assert finished.usage.is_estimate
    assert finished.usage.completion_tokens >= 40
    assert 10 < finished.usage.prompt_tokens < 30


def test_a_completion_is_a_text_or_ids(stub: ApiStub, model: RemoteModel) -> None:
    scores = {"tokens": [" a"], "token_logprobs": [-0.5], "top_logprobs": [{" a": -0.5}]}
    one = {"choices": [{"index": 0, "text": " a", "logprobs": scores, "finish_reason": None}]}
    last = {"choices": [{"index": 0, "text": "", "finish_reason": "length"}]}
    stub.routes["/v1/completions"] = stream(event(one), event(last), usage(2, 1), DONE)
    events = list(model.complete("Once", PLAIN, stop=["END"], controls=Controls(top_logprobs=1)))
    assert events[:2] == [Scores((TokenScore(b" a", -0.5, ((b" a", -0.5),)),)), TextDelta(" a")]
    list(model.complete([5, 6], PLAIN))
    text, ids = stub.bodies("/v1/completions")
    assert (text["prompt"], text["stop"], text["logprobs"], ids["prompt"]) == ("Once", ["END"], 1, [5, 6])
    assert "messages" not in text


# Servers that know less


def test_fields_that_a_server_does_not_know_are_left_out_from_then_on(stub: ApiStub, model: RemoteModel) -> None:
    unknown = {"detail": "Unexpected fields in the request: {'top_k'}"}
    stub.answers_chats(as_json(unknown, 422), chat("fine"))
    assert TextDelta("fine") in read(model)
    read(model)
    assert ["top_k" in body for body in stub.bodies()] == [True, False, False]
    assert all(body["temperature"] == 0.7 for body in stub.bodies())
    assert model.default_sampling.top_k == 0, "the page shows what is asked"


def test_fields_may_be_refused_one_after_the_other(stub: ApiStub, model: RemoteModel) -> None:
    def answer(asked: Asked) -> Answer:
        for name in ("top_k", "min_p", "repetition_penalty", "stream_options"):
            if name in asked.body:
                loc = {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}
                return as_json({"detail": [loc]}, 422)
        return chat("fine")

    stub.answers_chats(answer)
    sampling = Sampling(top_k=5, min_p=0.1, repetition_penalty=1.2, seed=3)
    assert TextDelta("fine") in read(model, QUESTION, sampling)
    assert len(stub.bodies()) == 5
    assert stub.bodies()[-1]["seed"] == 3


def test_a_value_that_is_refused_is_an_error_and_a_server_that_cannot_go_on_says_so(
    stub: ApiStub, model: RemoteModel
) -> None:
    stub.answers_chats(refusal(400, "top_k must be -1 or at least 1, got 0", param="top_k"))
    with pytest.raises(InvalidSetting, match=r"refuses the request \(400, top_k\).*It says: top_k must be"):
        read(model)
    stub.answers_chats(as_json({"detail": "Unexpected fields in the request: {'continue_final_message'}"}, 422))
    with pytest.raises(InvalidSetting, match="cannot go on with an answer that has begun"):
        read(model, opening=Opening("Once"))
    stub.answers_chats(refusal(404, "The model `qwen` does not exist."))
    with pytest.raises(CheckpointNotFound, match="has no model 'qwen'"):
        read(model)


# Tokens and the window


def test_a_window_that_turns_out_shorter_is_learned(stub: ApiStub, model: RemoteModel) -> None:
    long = [Message("user", "word " * 800), Message("assistant", "Yes."), *QUESTION[1:]]
    assert model.fit(long, PLAIN).left_out == 0
    stub.answers_chats(
        refusal(400, "This model's maximum context length is 1024 tokens. However, your request has 1500 input tokens.")
    )
    with pytest.raises(ContextLengthExceeded) as caught:
        read(model, long, PLAIN)
    assert (caught.value.prompt_tokens, caught.value.max_new_tokens, caught.value.context_length) == (1500, 100, 1024)
    assert (model.context_length, model.window_reason) == (1024, "as the server said of a longer prompt")
    assert model.fit(long, PLAIN).left_out == 2


def test_estimates_learn_from_what_the_server_counted(stub: ApiStub, model: RemoteModel) -> None:
    messages = [Message("user", "word " * 200)]
    before = model.measure(messages, PLAIN)
    assert before.is_estimate
    assert before.max_tokens == 3996
    stub.answers_chats(chat("fine", tokens=(2 * before.tokens, 3)))
    read(model, messages, PLAIN)
    assert abs(model.measure(messages, PLAIN).tokens - 2 * before.tokens) <= 1


def test_where_tokens_are_estimated_the_server_has_the_last_word(model: RemoteModel) -> None:
    longest = [Message("user", "word " * 5000)]
    fitted = model.fit(longest, PLAIN)
    assert fitted.messages == tuple(longest)
    assert model.measure(longest, PLAIN).tokens > 3996
    with pytest.raises(ContextLengthExceeded, match="takes too many tokens"):
        model.fit(QUESTION, Sampling(max_new_tokens=4096))


def count_words(asked: Asked) -> Answer:
    """As vLLM counts: whole conversations and texts."""
    body = asked.body
    texts = [one["content"] for one in body["messages"]] if "messages" in body else [body.get("prompt", "")]
    ids = list(range(sum(len(text.split()) for text in texts)))
    return as_json({"count": len(ids), "tokens": ids, "max_model_len": 4096})


def test_a_server_that_counts_has_the_exact_say() -> None:
    with serve(ApiStub(card("qwen", max_model_len=1000, owned_by="vllm"))) as stub:
        stub.routes["/tokenize"] = count_words
        stub.routes["/detokenize"] = lambda asked: as_json({"prompt": "w " * len(asked.body["tokens"])})
        model = open_remote_model(RemoteOptions(stub.url), "builtin", lambda progress: None)
        turns = [Message("user", "q " * 200), Message("assistant", "a " * 200)] * 3
        fitted = model.fit([QUESTION[0], *turns, QUESTION[1]], PLAIN)
        assert fitted.left_out == 2
        assert fitted.messages[0] == QUESTION[0]
        cost = model.measure([QUESTION[0], *turns, QUESTION[1]], PLAIN)
        assert (cost.tokens, cost.max_tokens, cost.left_out, cost.is_estimate) == (803, 900, 2, False)
        num_asked = len(stub.asked)
        model.measure([QUESTION[0], *turns, QUESTION[1]], PLAIN)
        assert len(stub.asked) == num_asked, "what was counted is remembered"
        with pytest.raises(ContextLengthExceeded, match="takes 1,500 tokens"):
            model.fit([Message("user", "q " * 1500)], PLAIN)
        assert model.encode("one two three") == [0, 1, 2]
        assert model.encode("") == []
        assert model.decode([1, 2]) == "w w "
        model.close()


def test_llama_cpp_counts_texts_and_the_frame_is_added() -> None:
    def tokenize(asked: Asked) -> Answer:
        return as_json({"tokens": list(range(len(asked.body.get("content", "").split())))})

    with serve(ApiStub(card("qwen", owned_by="llamacpp"))) as stub:
        stub.routes["/tokenize"] = tokenize
        stub.routes["/detokenize"] = as_json({"content": "text"})
        model = open_remote_model(RemoteOptions(stub.url), "builtin", lambda progress: None)
        cost = model.measure([Message("user", "one two three")], PLAIN)
        assert (cost.tokens, cost.is_estimate) == (13, True)
        assert (model.encode("one two"), model.decode([1])) == ([0, 1], "text")
        stub.routes["/tokenize"] = as_json({}, 500)
        assert model.measure([Message("user", "four five")], PLAIN).is_estimate
        model.close()


def test_a_server_without_ids_says_so(model: RemoteModel) -> None:
    with pytest.raises(ServerIncompatible, match="it has no /tokenize"):
        model.encode("text")
    with pytest.raises(ServerIncompatible, match="it has no /detokenize"):
        model.decode([1])


def test_counting_never_stands_in_the_way(stub: ApiStub, model: RemoteModel) -> None:
    model.close()
    assert model.measure(QUESTION, PLAIN).is_estimate
    assert json.dumps(stub.asked[0].body) == "null"
