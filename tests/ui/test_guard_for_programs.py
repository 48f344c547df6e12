"""The guard on routes for programs: other sites, refusals in JSON, limits of their own, names with slashes."""

import pytest

from tests.ui.test_guard import CHAT_ROUTE, POLICY, ask, ask_raw
from ui.guard import POST, AllowedRoute, GuardPolicy

SITE = "https://chat.example"
OPEN_ROUTE = AllowedRoute("/v1/x", POST, origins=frozenset({SITE}))
OPEN = GuardPolicy(routes=(*POLICY.routes, OPEN_ROUTE), api_prefix="/v1/")


def test_a_route_may_be_opened_to_another_site() -> None:
    asked = {"origin": SITE, "access-control-request-method": "POST"}
    preflight = ask(
        "OPTIONS", "/v1/x", policy=OPEN, headers={**asked, "access-control-request-headers": "authorization,x-a"}
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == SITE
    assert preflight.headers["access-control-allow-headers"] == "authorization,x-a"
    answer = ask("POST", "/v1/x", policy=OPEN, headers={"origin": SITE})
    assert (answer.text, answer.headers["access-control-allow-origin"]) == ("reached", SITE)
    assert answer.headers["vary"] == "origin"
    assert ask("POST", "/v1/x", policy=OPEN).headers.get("access-control-allow-origin") is None


@pytest.mark.parametrize("origin", ["http://chat.example", "https://chat.example.evil", "null", f"{SITE}, {SITE}"])
def test_no_other_site_gets_in_through_it(origin: str) -> None:
    for method in ("POST", "OPTIONS"):
        answer = ask(method, "/v1/x", policy=OPEN, headers={"origin": origin})
        assert answer.status_code in (403, 405)
        assert "access-control-allow-origin" not in answer.headers
    assert ask("POST", "/chat", policy=OPEN, headers={"origin": SITE}).status_code == 403


def test_header_names_that_are_none_are_not_repeated() -> None:
    wanted = {"origin": SITE, "access-control-request-headers": "a: b"}
    assert "access-control-allow-headers" not in ask("OPTIONS", "/v1/x", policy=OPEN, headers=wanted).headers


def test_programs_get_refusals_they_can_read() -> None:
    for answer in (ask(path="/v1/nothing", policy=OPEN), ask(path="/v1/x", policy=OPEN)):
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["error"]["type"] == "invalid_request_error"
    assert ask(path="/nothing", policy=OPEN).text == "Not found."


def test_a_route_may_have_a_body_limit_of_its_own_that_changes() -> None:
    limit = [5]
    policy = GuardPolicy(routes=(AllowedRoute("/chat", POST, max_body_bytes=lambda: limit[0]),))
    assert ask("POST", "/chat", policy=policy, content=b"123456").status_code == 413
    limit[0] = 6
    assert ask("POST", "/chat", policy=policy, content=b"123456").text == "reached"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/names/a%2Fb", 200),
        ("/names/a/b", 200),
        ("/names%2Fa", 404),
        ("/names/..%2fchat", 404),
        ("/names/a%2F%2Fb", 404),
        ("/names/a%62", 404),
    ],
)
def test_an_escaped_slash_passes_only_inside_a_name(path: str, status: int) -> None:
    policy = GuardPolicy(routes=(AllowedRoute("/names/", is_prefix=True, has_escaped_slash=True), CHAT_ROUTE))
    decoded = path.replace("%2F", "/").replace("%2f", "/").replace("%62", "b")
    scope = {"path": decoded, "raw_path": path.encode(), "method": "GET", "headers": [(b"host", b"localhost")]}
    assert ask_raw(scope, [{"type": "http.request"}], policy)[0]["status"] == status
