"""Each refusal becomes the error whose remedy helps, and repeats nothing that was sent."""

# ruff: noqa: E501  (what servers say is quoted as it is)

import json
from email.utils import formatdate
from time import time
from typing import Any

import pytest

from model_loader.errors import (
    CheckpointNotFound,
    ContextLengthExceeded,
    GenerationFailed,
    InvalidSetting,
    ModelLoaderError,
    ServerBusy,
    ServerIncompatible,
    ServerRefusesKey,
)
from model_loader.remote.failures import Asked, explain, read_refusal

ASKED = Asked("gpu1:8000", "qwen", 500, 8192, ["My diary: nobody may read this.", "a-secret-key"])


def explained(status: int, body: Any, asked: Asked = ASKED, **headers: str) -> ModelLoaderError:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return explain(
        read_refusal(status, {name.replace("_", "-"): each for name, each in headers.items()}, content), asked
    )


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, {"error": {"message": "Incorrect API key provided: a-sec*****"}}, ServerRefusesKey, "--base-url-key"),
        (403, b"", ServerRefusesKey, "--base-url-key"),
        (404, {"error": {"message": "The model `qwen` does not exist.", "type": "NotFoundError"}}, CheckpointNotFound, "no model 'qwen'"),
        (404, {"error": {"message": 'model "qwen" not found, try pulling it first'}}, CheckpointNotFound, "-c"),
        (404, {"detail": "Not Found"}, ServerIncompatible, "ends in /v1"),
        (405, {"detail": "Method Not Allowed"}, ServerIncompatible, "405"),
        (302, b"<html>", ServerIncompatible, "sends elsewhere"),
        (429, {"error": "slow down"}, ServerBusy, "Ask again in a while. It says: slow down"),
        (503, {"object": "error", "message": "loading"}, ServerBusy, "503"),
        (400, {"error": {"message": "temperature must be below 2", "param": "temperature", "code": "bad_value"}}, InvalidSetting, "400, bad_value, temperature"),
        (422, {"detail": [{"type": "missing", "loc": ["body", "model"], "msg": "Field required"}]}, InvalidSetting, "422, missing, model"),
        (500, {"error": {"message": "CUDA out of memory"}}, GenerationFailed, "It says: CUDA out of memory"),
        (502, b"<html>Bad gateway</html>", GenerationFailed, "502"),
        (400, b"[" * 100_000, InvalidSetting, "400"),
        (400, {"error": {"message": 7, "code": [], "param": {}}}, InvalidSetting, "400"),
    ],
)  # fmt: skip
def test_a_status_becomes_the_class_of_its_remedy(status: int, body: Any, kind: type, words: str) -> None:
    error = explained(status, body)
    assert type(error) is kind
    assert words in str(error)
    assert "gpu1:8000" in str(error)


TOO_LONG = [
    ("This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4500 in the messages, 500 in the completion).", 4500, 4096),
    ("This model's maximum context length is 2048 tokens. However, your request has 2050 input tokens. Please reduce the length of the input messages.", 2050, 2048),
    ("This model's maximum context length is 2048 tokens. However, you requested 500 output tokens and your prompt contains 1600 input tokens, for a total of 2100 tokens.", 1600, 2048),
    ("This model's maximum context length is 1024 tokens. However, your prompt contains at least 1025 input tokens, which exceeds this limit even without any output tokens.", 0, 1024),
    ("This model's maximum context length is 1024 tokens. However, your prompt contains 100050 characters (more than 15360 characters, which is the upper bound for 1024 input tokens).", 0, 1024),
    ("'max_tokens' or 'max_completion_tokens' is too large: 3000. This model's maximum context length is 2048 tokens and your request has 100 input tokens (3000 > 2048 - 100).", 100, 2048),
    ("Requested token count exceeds the model's maximum context length of 262144 tokens. You requested a total of 267042 tokens: 201506 tokens from the input messages and 65536 tokens for the completion.", 201506, 262144),
    ("The input (40000 tokens) is longer than the model's context length (32768 tokens).", 40000, 32768),
    ("The decoder prompt (length 5000) is longer than the maximum model length of 4096.", 5000, 4096),
    ("request (13392 tokens) exceeds the available context size (8192 tokens), try increasing it", 13392, 8192),
    ("The conversation takes 2,100 tokens and 500 are asked for the answer, but the model reads 2,048 at most. Shorten the question or ask for a shorter answer.", 2100, 2048),
]  # fmt: skip


@pytest.mark.parametrize(("message", "prompt", "window"), TOO_LONG)
def test_a_prompt_over_the_window_is_told_with_the_servers_numbers(message: str, prompt: int, window: int) -> None:
    error = explained(400, {"error": {"message": message}})
    assert isinstance(error, ContextLengthExceeded)
    assert (error.prompt_tokens, error.max_new_tokens, error.context_length) == (prompt, 500, window)


def test_llama_cpps_numbers_stand_in_fields_of_their_own() -> None:
    body = {
        "error": {
            "code": 400,
            "message": "too much",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 9000,
            "n_ctx": 4096,
        }
    }
    error = explained(400, body)
    assert isinstance(error, ContextLengthExceeded)
    assert (error.prompt_tokens, error.context_length) == (9000, 4096)


def test_without_numbers_the_known_window_is_named_and_no_length_is_made_up() -> None:
    error = explained(400, {"error": {"message": "too long", "code": "context_length_exceeded"}})
    assert isinstance(error, ContextLengthExceeded)
    assert (error.prompt_tokens, error.context_length) == (0, 8192)
    assert "takes too many tokens and 500 are asked" in str(error)


@pytest.mark.parametrize(
    "message",
    [
        "bad input_value='My diary: nobody may read this.'",
        "cannot parse 'diary: nobody may re'...",
        "key a-secret-key has no quota",
        "bad value '\\u4f60\\u597d'",
        "line one\x1b[31m\x00",
    ],
)
def test_a_servers_words_are_not_repeated_where_they_hold_what_was_sent(message: str) -> None:
    said = str(explained(400, {"error": {"message": message}}))
    assert "It says" not in said
    assert "diary" not in said


def test_a_short_prompt_is_a_secret_too_and_long_words_are_cut() -> None:
    asked = Asked("gpu1:8000", secrets=["hunter2"])
    assert "hunter2" not in str(explained(400, {"error": {"message": "bad prompt hunter2"}}, asked))
    assert len(str(explained(400, {"error": {"message": "word " * 1000}}))) < 400


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("7", 7, 7), ("0.5", 0.5, 0.5), ("-3", 0, 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0)],
)
def test_retry_after_is_seconds_or_a_date(header: str, least: float, most: float) -> None:
    refusal = read_refusal(429, {"retry-after": header}, b"")
    assert refusal.retry_after_s is not None
    assert least <= refusal.retry_after_s <= most
    soon = read_refusal(429, {"retry-after": formatdate(time() + 20, usegmt=True)}, b"")
    assert 15 < (soon.retry_after_s or 0) <= 20


@pytest.mark.parametrize("header", ["", "soon", "1e9", "nan", "Fri, 99 Foo 2020"])
def test_a_retry_after_that_is_neither_is_passed_over(header: str) -> None:
    assert read_refusal(429, {"retry-after": header}, b"").retry_after_s is None


@pytest.mark.parametrize(
    ("status", "body", "unknown"),
    [
        (422, {"detail": "Unexpected fields in the request: {'top_k', 'min_p'}"}, {"top_k", "min_p"}),
        (400, {"error": {"message": "Unrecognized request argument supplied: top_k"}}, {"top_k"}),
        (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "top_k"], "msg": "Extra inputs are not permitted"}]}, {"top_k"}),
        (400, {"error": {"message": "top_k must be -1 or at least 1, got 0"}}, set()),
        (400, {"error": {"message": "Unknown role", "param": "messages"}}, set()),
        (500, {"error": {"message": "unexpected top_k"}}, set()),
    ],
)  # fmt: skip
def test_an_unknown_field_is_told_from_a_bad_value(status: int, body: Any, unknown: set[str]) -> None:
    refusal = read_refusal(status, {}, json.dumps(body).encode())
    assert refusal.unknown_fields(["top_k", "min_p", "seed"]) == unknown
