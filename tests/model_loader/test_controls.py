"""What a program may ask of an answer beyond sampling: scores, biases, a schema."""

import json

import pytest

from model_loader.chat_format.chatml import Opening
from model_loader.chat_format.messages import Message
from model_loader.chat_model import ChatModel, Controls
from model_loader.engine.request import Sampling
from model_loader.errors import InvalidSetting
from model_loader.events import Event, Finished, Scores, TextDelta, Waiting
from tests.tiny_checkpoint import make_tokenizer

QUESTION = [Message("user", "Tell me about the fox")]
SAMPLING = Sampling(max_new_tokens=30, temperature=0.0)
ANSWER = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}


def answer(model: ChatModel, controls: Controls, sampling: Sampling = SAMPLING) -> list[Event]:
    return [event for event in model.stream(QUESTION, sampling, controls=controls) if not isinstance(event, Waiting)]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_nothing_is_told_that_was_not_asked_for(tiny_model: ChatModel) -> None:
    assert not [event for event in answer(tiny_model, Controls()) if isinstance(event, Scores)]


def test_scores_come_before_the_text_of_their_tokens(tiny_model: ChatModel) -> None:
    events = answer(tiny_model, Controls(top_logprobs=2))
    written, scored = b"", b""
    for event in events:
        if isinstance(event, Scores):
            (score,) = event.tokens
            scored += score.token
            assert score.logprob is not None
            assert score.logprob <= 0
            assert len(score.top) == 2
            assert score.top[0] == (score.token, score.logprob), "greedy takes the likeliest"
            assert score.top[0][1] >= score.top[1][1]
        elif isinstance(event, TextDelta):
            written += event.text.encode()
            assert len(written) <= len(scored)
    assert written.decode() == scored.decode("utf-8", "ignore")


def test_the_token_that_ends_an_answer_has_no_score(tiny_model: ChatModel) -> None:
    end = make_tokenizer().token_to_id("<|im_end|>")
    events = answer(tiny_model, Controls(top_logprobs=0, logit_bias={end: 100.0}))
    (finished,) = events
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.usage.completion_tokens) == ("stop", 1)


def test_a_prompts_scores_come_once_and_first(tiny_model: ChatModel) -> None:
    text = "The quick brown fox"
    ids = tiny_model.encode(text)
    controls = Controls(top_logprobs=1, has_prompt_scores=True)
    events = [each for each in tiny_model.complete(text, SAMPLING, controls=controls) if not isinstance(each, Waiting)]
    first, *rest = events
    assert isinstance(first, Scores)
    assert first.is_prompt
    assert b"".join(score.token for score in first.tokens) == text.encode()
    assert len(first.tokens) == len(ids)
    assert first.tokens[0].logprob is None
    assert all(score.logprob is not None and len(score.top) == 1 for score in first.tokens[1:])
    assert not [each for each in rest if isinstance(each, Scores) and each.is_prompt]


def test_a_prompts_scores_name_its_control_tokens(tiny_model: ChatModel) -> None:
    first = answer(tiny_model, Controls(has_prompt_scores=True))[0]
    assert isinstance(first, Scores)
    assert first.tokens[0].token == b"<|im_start|>"


def test_a_prompt_may_be_given_as_ids(tiny_model: ChatModel) -> None:
    text = "The quick brown"
    by_ids = list(tiny_model.complete(tiny_model.encode(text), SAMPLING))
    assert text_of(by_ids) == text_of(list(tiny_model.complete(text, SAMPLING)))


def test_plain_text_becomes_ids_and_back(tiny_model: ChatModel) -> None:
    text = "fox <|im_end|> <tool_call> 狐"
    ids = tiny_model.encode(text)
    assert tiny_model.decode(ids) == text
    assert make_tokenizer().token_to_id("<|im_end|>") not in ids
    assert tiny_model.decode([make_tokenizer().token_to_id("<|im_end|>"), *tiny_model.encode("a")]) == "a"


def test_a_bias_forbids_and_forces(tiny_model: ChatModel) -> None:
    first = tiny_model.encode(text_of(answer(tiny_model, Controls()))[:1])[0]
    events = answer(tiny_model, Controls(logit_bias={token_id: -100.0 for token_id in range(400) if token_id != first}))
    assert events
    forced = tiny_model.encode("x")[0]
    assert text_of(answer(tiny_model, Controls(logit_bias={forced: 100.0}))) == "x" * 30


@pytest.mark.parametrize(
    ("controls", "complaint"),
    [
        (Controls(logit_bias={999_999_999: 1.0}), "999999999"),
        (Controls(logit_bias={-1: 1.0}), "token id -1"),
        (Controls(logit_bias={3: 101.0}), "logit_bias of token 3 is 101"),
        (Controls(logit_bias={3: float("nan")}), "logit_bias of token 3 is nan"),
        (Controls(top_logprobs=21), "top_logprobs is 21"),
        (Controls(top_logprobs=-1), "top_logprobs is -1"),
        (Controls(json_schema={"type": "text"}), "JSON schema cannot be enforced"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_with_its_value(
    tiny_model: ChatModel, controls: Controls, complaint: str
) -> None:
    with pytest.raises(InvalidSetting, match=complaint):
        answer(tiny_model, controls)
    with pytest.raises(InvalidSetting, match=complaint):
        list(tiny_model.complete("The fox", SAMPLING, controls=controls))


def test_an_id_that_is_none_is_refused(tiny_model: ChatModel) -> None:
    with pytest.raises(InvalidSetting, match="prompt holds the token id 512"):
        list(tiny_model.complete([1, 512], SAMPLING))


@pytest.mark.parametrize("seed", range(3))
def test_an_answer_is_json_of_the_schema_and_ends_with_it(tiny_model: ChatModel, seed: int) -> None:
    sampling = SAMPLING.changed(temperature=1.5, seed=seed)
    events = answer(tiny_model, Controls(json_schema=ANSWER), sampling)
    assert json.loads(text_of(events)) in ({"ok": True}, {"ok": False})
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "stop"
    completed = list(tiny_model.complete("The fox: ", sampling, controls=Controls(json_schema=ANSWER)))
    assert json.loads(text_of(completed)) in ({"ok": True}, {"ok": False})


def test_a_schema_needs_a_whole_answer(tiny_model: ChatModel) -> None:
    with pytest.raises(InvalidSetting, match="this one has begun"):
        list(tiny_model.stream(QUESTION, SAMPLING, opening=Opening("{"), controls=Controls(json_schema={})))


def test_a_schema_that_becomes_too_much_ends_its_own_answer_alone(tiny_model: ChatModel) -> None:
    schema = {"type": "string", "pattern": "^((a{1,100}){1,100}){1,100}$"}
    letters = {tiny_model.encode("a")[0]: 100.0}
    before = text_of(answer(tiny_model, Controls()))
    with pytest.raises(InvalidSetting, match=r"cannot be enforced: .*Ask for a simpler one"):
        answer(tiny_model, Controls(json_schema=schema, logit_bias=letters), SAMPLING.changed(max_new_tokens=400))
    assert tiny_model.problem is None
    assert text_of(answer(tiny_model, Controls())) == before


def test_how_busy_the_engine_is_can_be_asked(tiny_model: ChatModel) -> None:
    idle = tiny_model.activity
    assert (idle.num_running, idle.num_waiting, idle.kv_tokens_used) == (0, 0, 0)
    assert idle.max_running >= 1
    assert idle.kv_tokens >= tiny_model.context_length
    stream = tiny_model.stream(QUESTION, SAMPLING.changed(max_new_tokens=200))
    next(stream)
    busy = tiny_model.activity
    stream.close()
    assert busy.num_running == 1
    assert busy.kv_tokens_used > 200
