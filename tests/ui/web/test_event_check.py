"""Events that the page would never send are refused before Gradio sees them, and never end with status 500."""

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from tests.benchmarks.soak_traffic import BAD_BODIES
from ui.web.event_check import EventCheck

GOOD = {"data": ["a", None], "fn_index": 0, "session_hash": "abc123xyz"}
PREDICT, JOIN, CANCEL = "/gradio_api/run/predict", "/gradio_api/queue/join", "/gradio_api/cancel"


def status_of(path: str, body: bytes = b"", query: str = "", method: str = "POST") -> int:
    """204 where the application is reached, with the body as it was sent."""
    statuses: list[int] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        if method == "POST":
            assert (await receive())["body"] == body
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    check = EventCheck(app, lambda: {0: 2, 7: 0}, lambda session: session == "known")
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
    asyncio.run(check(scope, receive, send))
    return statuses[0]


@pytest.mark.parametrize("path", [PREDICT, JOIN])
def test_what_the_page_sends_passes(path: str) -> None:
    assert status_of(path, json.dumps(GOOD).encode()) == 204
    assert status_of(path, json.dumps({**GOOD, "trigger_id": 5, "event_data": None}).encode()) == 204
    assert status_of(path, json.dumps({**GOOD, "data": ["\ud800", 1.5]}).encode()) == 204
    assert status_of(path, json.dumps({**GOOD, "fn_index": 7, "data": []}).encode()) == 204


@pytest.mark.parametrize("path", [PREDICT, JOIN, CANCEL])
@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: repr(body[:50]))
def test_a_broken_event_is_refused(path: str, body: bytes) -> None:
    assert status_of(path, body) == 400


@pytest.mark.parametrize(
    "change",
    [
        {"fn_index": True},
        {"fn_index": 1.0},
        {"fn_index": 8},
        {"session_hash": ""},
        {"session_hash": "a\nb"},
        {"session_hash": "x" * 65},
        {"session_hash": None},
        {"data": {"0": 1, "1": 2}},
        {"data": ["a"]},
        {"data": ["a", "b", "c"]},
    ],
)
def test_an_event_that_is_not_the_pages_is_refused(change: dict[str, Any]) -> None:
    assert status_of(JOIN, json.dumps({**GOOD, **change}).encode()) == 400


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e309", "-1e999"])
def test_numbers_that_json_does_not_have_are_refused(number: str) -> None:
    assert status_of(PREDICT, json.dumps(GOOD).replace("null", number).encode()) == 400


def test_cancelling_needs_all_three_names() -> None:
    whole = {"fn_index": 0, "session_hash": "abc", "event_id": "def"}
    assert status_of(CANCEL, json.dumps(whole).encode()) == 204
    assert status_of(CANCEL, json.dumps({**whole, "event_id": [1]}).encode()) == 400


@pytest.mark.parametrize(
    ("query", "status"),
    [("session_hash=known", 204), ("session_hash=foreign", 404), ("", 404), ("session_hash=" + "x" * 9999, 404)],
)
def test_only_a_session_that_has_asked_for_something_may_listen(query: str, status: int) -> None:
    assert status_of("/gradio_api/queue/data", query=query, method="GET") == status


def test_everything_else_is_left_alone() -> None:
    assert status_of("/", method="GET") == 204
