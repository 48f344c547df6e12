"""What a browser may say to Gradio's routes: bad events, sessions without a name and sessions of others."""

import json
from typing import Any

import pytest

from tests.benchmarks.soak_traffic import BAD_BODIES
from tests.ui.test_guard import RecordingApp, run
from ui.web.events import Events
from ui.web.login.sessions import Sessions

INPUTS = {0: 2, 7: 0}
GOOD = {"data": ["a", None], "fn_index": 0, "session_hash": "abc123", "event_data": None, "trigger_id": 3}


def say(events: Events, path: str, body: Any, login: Any = None, query: bytes = b"") -> int:
    """The status of the answer; 200 means that the application was reached with the whole body."""
    app = RecordingApp()
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": raw}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "method": "POST", "headers": [], "query_string": query, "login": login}
    run(events.around(app)(scope, receive, send))
    assert not app.scopes or app.bodies == [raw]
    return int(sent[0]["status"])


@pytest.fixture
def events() -> Events:
    return Events(lambda: INPUTS, lambda session: 8 if session == "busy" else 0, lambda session: session != "silent")


@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/gradio_api/run/predict"])
@pytest.mark.parametrize("event_data", [None, {"index": 1}, 0.3, "released", [1]])
def test_an_event_of_the_page_passes(events: Events, path: str, event_data: Any) -> None:
    assert say(events, path, {**GOOD, "event_data": event_data}) == 200
    assert say(events, path, {**GOOD, "event_data": event_data, "trigger_id": None}) == 200


@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/gradio_api/run/predict"])
@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"fn_index": -1}, 404), ({"fn_index": 999}, 404), ({"fn_index": None}, 404), ({"fn_index": "0"}, 404),
        ({"fn_index": True}, 404), ({"fn_index": 1e309}, 400), ({"fn_index": [0]}, 404),
        ({"session_hash": None}, 400), ({"session_hash": ""}, 400), ({"session_hash": "x" * 100_000}, 400),
        ({"session_hash": "../a"}, 400), ({"session_hash": "a\r\nb"}, 400), ({"session_hash": 5}, 400),
        ({"data": None}, 422), ({"data": []}, 422), ({"data": ["a"] * 3}, 422), ({"data": {"a": 1}}, 422),
        ({"trigger_id": "1"}, 422), ({"trigger_id": [1]}, 422),
    ],
)  # fmt: skip
def test_an_event_that_is_none_is_refused_before_gradio_sees_it(
    events: Events, path: str, change: dict[str, Any], status: int
) -> None:
    assert say(events, path, {**GOOD, **change}) == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"{", 400), (b"\xff\xfe", 400), (b"[" * 100_000, 400), (b'{"a":' * 20_000, 400), (b"[]", 422),
        (b"null", 422), (b"5", 422), (b'"x"', 422),
    ],
)  # fmt: skip
def test_a_body_that_is_no_event_is_refused(events: Events, body: bytes, status: int) -> None:
    assert say(events, "/gradio_api/queue/join", body) == status


def test_a_session_has_only_so_many_events_at_once(events: Events) -> None:
    assert say(events, "/gradio_api/queue/join", {**GOOD, "session_hash": "busy"}) == 429
    assert say(events, "/gradio_api/run/predict", {**GOOD, "session_hash": "busy"}) == 200


@pytest.mark.parametrize("change", [{}, {"fn_index": "0"}, {"event_id": None}, {"session_hash": "a b"}])
def test_a_cancel_names_a_session_and_an_event(events: Events, change: dict[str, Any]) -> None:
    cancel = {"session_hash": "abc", "fn_index": 0, "event_id": "e", **change}
    assert (say(events, "/gradio_api/cancel", cancel) == 200) is (change == {})


def test_a_session_belongs_to_the_login_that_began_it(events: Events) -> None:
    sessions = Sessions(5, 1.0)
    ann, bob = (sessions.find(sessions.begin(name, "a", owner=None, is_host=False)) for name in ("ann", "bob"))
    assert say(events, "/gradio_api/queue/join", GOOD, ann) == 200
    cancel = {"session_hash": "abc123", "fn_index": 0, "event_id": "e"}
    foreign = [
        say(events, "/gradio_api/queue/join", GOOD, bob),
        say(events, "/gradio_api/run/predict", GOOD, bob),
        say(events, "/gradio_api/cancel", cancel, bob),
        say(events, "/gradio_api/queue/data", b"", bob, b"session_hash=abc123"),
        say(events, "/gradio_api/heartbeat/abc123", b"", bob),
        say(events, "/gradio_api/heartbeat/abc123", b"", bob, b"session_hash=bobs"),
    ]
    assert foreign == [404] * 6
    own = say(events, "/gradio_api/queue/data", b"", ann, b"session_hash=abc123")
    assert (own, say(events, "/gradio_api/cancel", cancel, ann)) == (200, 200)


def test_other_routes_are_left_alone(events: Events) -> None:
    assert say(events, "/v1/chat/completions", b"{") == 200


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e309", "-1e999"])
def test_numbers_that_json_does_not_have_are_refused(events: Events, number: str) -> None:
    assert say(events, "/gradio_api/run/predict", json.dumps(GOOD).replace("null", number, 1).encode()) == 400


@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/cancel"])
@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: repr(body[:50]))
def test_a_broken_event_is_refused(events: Events, path: str, body: bytes) -> None:
    assert 400 <= say(events, path, body) < 500


def test_only_a_session_that_has_asked_for_something_may_listen(events: Events) -> None:
    assert say(events, "/gradio_api/queue/data", b"", query=b"session_hash=known") == 200
    assert say(events, "/gradio_api/queue/data", b"", query=b"session_hash=silent") == 404
