"""Who may use the API: keys, addresses, other sites, names of the host; and who is counted as whom."""

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from model_loader.errors import InvalidSetting
from model_loader.remote.connection import MAX_CONNECTIONS
from tests.ui.http_api.served_api import ScriptedApi, error_of
from tests.ui.test_guard import run
from ui.http_api import serve
from ui.http_api.options import ApiOptions, read_options
from ui.limits import TrafficLimits

KEY = "sk-test-0123456789"
SITE = "https://chat.example"
KEYED = ApiOptions(keys=("another", KEY))
ROUTES = [
    ("GET", "/v1/models"),
    ("GET", "/v1/models/scripted"),
    ("GET", "/v1/openapi.json"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/load_model"),
    ("GET", "/metrics"),
]


@pytest.fixture(scope="module")
def api() -> ScriptedApi:
    return ScriptedApi(options=KEYED)


@pytest.mark.parametrize("given", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER  {KEY} ", "Bearer another"])
def test_a_key_opens_every_route(api: ScriptedApi, given: str) -> None:
    for method, path in ROUTES:
        assert api.ask(method, path, headers={"authorization": given}).status_code not in (401, 403)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": KEY},
        {"authorization": f"Basic {KEY}"},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"authorization": f"Bearer {KEY.upper()}"},
        {"authorization": f"Bearer {KEY} {KEY}"},
        {"authorization": "Bearer ключ".encode()},
        {"authorization": "Bearer " + "x" * 20_000},
        {"x-api-key": KEY},
        {"api-key": KEY},
    ],
    ids=lambda headers: str(headers)[:60],
)
def test_63_anything_else_opens_none(
    api: ScriptedApi, headers: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    for method, path in ROUTES:
        answer = api.ask(method, path, headers=headers)
        assert error_of(answer, 401)["code"] in ("missing_api_key", "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert KEY not in answer.text
    assert KEY not in caplog.text


def test_63_a_key_in_the_address_opens_none(api: ScriptedApi) -> None:
    assert api.ask("GET", f"/v1/models?api_key={KEY}").status_code == 401


def test_health_is_told_to_everybody(api: ScriptedApi) -> None:
    assert api.ask("GET", "/health").json() == {"status": "ok"}
    assert api.ask("GET", "/ready").json() == {"status": "ready"}


def test_a_wrong_key_is_refused_before_the_body_is_read(api: ScriptedApi) -> None:
    answer = api.ask("POST", "/v1/chat/completions", content=b"{", headers={"content-type": "application/json"})
    assert answer.status_code == 401


def test_owners_are_told_apart_by_key_or_address_and_never_named(api: ScriptedApi) -> None:
    for key in (KEY, "another", KEY):
        body = {"model": "scripted", "messages": [{"role": "user", "content": "Hello!"}]}
        api.ask("POST", "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
    first, second, third = api.model.owners
    assert first == third != second
    assert all(owner.startswith("api:") and KEY not in owner for owner in (first, second))
    keyless = ScriptedApi()
    keyless.chat()
    assert keyless.model.owners[0].startswith("api:")
    assert "127.0.0.1" not in keyless.model.owners[0]


@pytest.mark.parametrize("host", ["evil.com", "localhost/v1/x?", "127.0.0.1.evil.com"])
def test_62_a_foreign_host_is_refused(api: ScriptedApi, host: str) -> None:
    answer = api.ask("GET", "/v1/models", headers={"host": host, "authorization": f"Bearer {KEY}"})
    error_of(answer, 400)
    assert "evil" not in answer.text


def test_a_server_for_others_answers_to_any_name_but_never_without_a_key() -> None:
    headers = {"host": "chat.example", "authorization": f"Bearer {KEY}"}
    for server_name, api, status in (
        ("0.0.0.0", ScriptedApi(options=KEYED), 200),
        ("0.0.0.0", ScriptedApi(), 400),
        ("127.0.0.1", ScriptedApi(options=KEYED), 400),
    ):
        assert api.ask("GET", "/v1/models", server_name=server_name, headers=headers).status_code == status
    keyed = ScriptedApi(options=KEYED)
    assert keyed.ask("GET", "/v1/models", server_name="0.0.0.0", headers={"host": "chat.example"}).status_code == 401
    assert keyed.ask("GET", "/v1/models", server_name="0.0.0.0", headers={"host": "x/v1/y?"}).status_code == 400


def test_other_sites_are_refused_unless_they_are_named() -> None:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "Hello!"}]}
    closed, opened = ScriptedApi(), ScriptedApi(options=ApiOptions(cors_origins=(SITE,)))
    for api, origin, status in ((closed, SITE, 403), (opened, "https://evil.example", 403), (opened, SITE, 200)):
        answer = api.ask("POST", "/v1/chat/completions", json=body, headers={"origin": origin})
        assert answer.status_code == status
        assert answer.headers.get("access-control-allow-origin") == (SITE if status == 200 else None)
    asked = {"origin": SITE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    permission = opened.ask("OPTIONS", "/v1/chat/completions", headers=asked)
    assert permission.headers["access-control-allow-headers"] == "authorization"
    assert closed.ask("OPTIONS", "/v1/chat/completions", headers=asked).status_code == 405
    assert "access-control-allow-origin" not in opened.ask("GET", "/metrics", headers={"origin": SITE}).headers


@pytest.mark.parametrize("key", ["", " ", "a b", "ключ", "a\n", "x" * 513])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(InvalidSetting, match="A key of the API"):
        read_options(key, None, None)


def test_keys_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\nfirst\n\n second \n")
    assert read_options("given", file, None).keys == ("given", "first", "second")
    file.write_text("# none\n")
    with pytest.raises(InvalidSetting, match="holds no key"):
        read_options(None, file, None)
    file.write_bytes(b"\xff")
    with pytest.raises(InvalidSetting, match="no text in UTF-8"):
        read_options(None, file, None)
    with pytest.raises(InvalidSetting, match="cannot be read"):
        read_options(None, tmp_path / "missing", None)


@pytest.mark.parametrize("origin", ["*", "null", "chat.example", "https://chat.example/path", "", "https://a b"])
def test_an_origin_that_is_none_is_refused(origin: str) -> None:
    with pytest.raises(InvalidSetting, match="--cors-origin has"):
        read_options(None, None, origin)


def test_origins_are_named_with_commas() -> None:
    assert read_options(None, None, f"{SITE}/, http://localhost:3000").cors_origins == (SITE, "http://localhost:3000")


@pytest.mark.parametrize("server_name", ["0.0.0.0", "::", "192.168.1.9", "chat.example"])
def test_where_others_reach_it_a_key_is_needed(server_name: str) -> None:
    missing = ApiOptions().missing_key(server_name)
    assert missing is not None
    assert server_name in missing
    assert KEYED.missing_key(server_name) is None


@pytest.mark.parametrize("server_name", ["127.0.0.1", "localhost", "::1", "[::1]", "127.0.0.2"])
def test_on_this_machine_none_is_needed(server_name: str) -> None:
    assert ApiOptions().missing_key(server_name) is None


def test_58_nothing_that_a_client_sends_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    api = ScriptedApi()
    api.chat(user="a\r\nFORGED", messages=[{"role": "user", "content": "a secret"}])
    assert "FORGED" not in caplog.text
    assert "a secret" not in caplog.text


def test_a_client_elsewhere_that_asks_too_often_waits_and_a_program_of_this_machine_does_not(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "LIMITS", TrafficLimits(burst=2, per_s=0.001))
    guarded = serve.application(api.api, "0.0.0.0")
    headers = {"authorization": f"Bearer {KEY}"}

    async def ask(address: str) -> list[httpx.Response]:
        transport = httpx.ASGITransport(guarded, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://api.example", headers=headers) as client:
            return [await client.get("/v1/models") for _ in range(3)]

    far = run(ask("203.0.113.7"))
    assert [answer.status_code for answer in far] == [200, 200, 429]
    assert far[2].headers["retry-after"] == "1"
    assert "try again later" in error_of(far[2], 429)["message"]
    assert [answer.status_code for answer in run(ask("203.0.113.8"))] == [200, 200, 429]
    assert [answer.status_code for answer in run(ask("127.0.0.1"))] == [200, 200, 200]


def test_the_queue_refuses_before_the_limits_do() -> None:
    assert serve.LIMITS.at_once >= MAX_CONNECTIONS + ApiOptions().max_waiting
    assert serve.LIMITS.at_once < serve.LIMITS.total_at_once < serve._MAX_CONNECTIONS
