"""Text completions: texts and ids, echo, and scores of a prompt as evaluation harnesses ask for them."""

from typing import Any

import pytest
from openai.types import Completion

from model_loader.chat_format.messages import Message
from tests.scripted_model import Script
from tests.ui.http_api.served_api import ScriptedApi, chunks_of, error_of

SHORT = Script(answer=" upon a", tokens_per_s=5000)


def test_a_text_goes_on() -> None:
    api = ScriptedApi(SHORT)
    answer = Completion.model_validate(api.complete("Once", temperature=0).json())
    assert answer.id.startswith("cmpl-")
    assert answer.choices[0].text == " upon a"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].logprobs is None
    assert api.model.prompts == [(Message("user", "Once"),)]
    assert api.model.samplings[0].max_new_tokens == 16  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [("ab", ["ab"]), ([97, 98], ["ab"]), (["ab", "c"], ["ab", "c"]), ([[97, 98], [99]], ["ab", "c"])],
)
def test_prompts_are_texts_or_ids_one_or_many(prompt: Any, texts: list[str]) -> None:
    api = ScriptedApi(SHORT)
    answer = api.complete(prompt, n=2, echo=True).json()
    assert sorted(asked[0].content for asked in api.model.prompts) == sorted(texts * 2)
    assert [choice["text"] for choice in answer["choices"]] == [f"{text} upon a" for text in texts for _ in range(2)]
    assert [choice["index"] for choice in answer["choices"]] == list(range(2 * len(texts)))
    assert answer["usage"]["prompt_tokens"] == sum(map(len, texts))


def test_a_stream_of_completions() -> None:
    chunks = chunks_of(
        ScriptedApi(SHORT).complete("Once", echo=True, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks[:-1]) == "Once upon a"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]][-1] == "stop"
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    assert chunks[-1]["usage"]["total_tokens"] == 4 + 3


@pytest.mark.parametrize("is_streamed", [False, True])
def test_echo_and_logprobs_score_the_prompt(is_streamed: bool) -> None:
    answer = ScriptedApi(SHORT).complete("Onc€", echo=True, logprobs=2, max_tokens=1, stream=is_streamed)
    choices = [chunk["choices"][0] for chunk in chunks_of(answer)] if is_streamed else [answer.json()["choices"][0]]
    scores = [choice["logprobs"] for choice in choices if choice["logprobs"]]
    joined = {name: [each for one in scores for each in one[name]] for name in scores[0]}
    assert "".join(joined["tokens"]) == "".join(choice["text"] for choice in choices) == "Onc€ upon a"
    assert joined["token_logprobs"] == [None] + [-0.5] * 10
    assert joined["text_offset"] == list(range(11))
    assert joined["top_logprobs"][0] is None
    assert joined["top_logprobs"][1] == {"a": -0.5, "b": -1.5, "n": -0.5}


def test_a_text_can_be_scored_without_an_answer() -> None:
    answer = ScriptedApi(SHORT).complete("Once", echo=True, logprobs=0, max_tokens=0).json()
    (choice,) = answer["choices"]
    assert choice["text"] == "Once"
    assert choice["logprobs"]["tokens"] == list("Once")
    assert choice["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 0


def test_half_a_character_is_spelled_in_bytes() -> None:
    from ui.http_api.answers import spell

    assert spell("é".encode()) == "é"
    assert spell(b"\xe5\xa5") == "bytes:\\xe5\\xa5"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [True]}, "prompt[0]"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a"] * 257}, "prompt"),
        ({"messages": []}, "messages"),
    ],
)
def test_what_cannot_be_done_is_named(fields: dict[str, Any], param: str) -> None:
    assert error_of(ScriptedApi(SHORT).complete(**fields), 400)["param"] == param


def test_null_is_as_good_as_nothing() -> None:
    assert ScriptedApi(SHORT).complete(suffix=None, best_of=None, max_tokens=None, stop=None).status_code == 200
