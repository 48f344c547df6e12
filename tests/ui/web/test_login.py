"""The gate behind the guard: who gets in, for how long, and what the host can do. Without a browser or Gradio."""

import asyncio
import re
from typing import Any

import httpx
import pytest

from tests.ui.test_guard import run
from ui.guard import GET, POST, AllowedRoute, Guard, GuardPolicy
from ui.web.login.accounts import Accounts
from ui.web.login.gate import LOGIN_ROUTES, LoginGate, login_in
from ui.web.login.sessions import HouseFull, Session, Sessions, owner_of

COOKIE = "qwen-chat-1"
PASSWORDS = {"ann": "tulip", "bob": "rose", "host": "oak"}
MODELS = AllowedRoute("/v1/models/", is_prefix=True)
POLICY = GuardPolicy(
    routes=(AllowedRoute("/"), AllowedRoute("/x", GET | POST), AllowedRoute("/v1/x"), MODELS, *LOGIN_ROUTES)
)


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class House:
    """A gate around an application that says who came."""

    def __init__(self, passwords: dict[str, str] | None = PASSWORDS, max_guests: int = 3, **options: Any) -> None:
        self.clock = Clock()
        self.sessions = Sessions(max_guests, 1.0, self.clock)
        self.ended = 0
        self.accounts = None if passwords is None else Accounts(passwords)
        self.gate = LoginGate(
            self.accounts, self.sessions, owner_key=b"k", cookie=COOKIE, on_end=self._count, **options
        )
        self.seen: list[Session | None] = []

    def _count(self) -> None:
        self.ended += 1

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(login_in(scope))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"reached"})

    def visit(self, *steps: tuple[str, str, dict[str, str]], **options: Any) -> list[httpx.Response]:
        """The answers to a browser that keeps its cookies: (method, path, form) after one another."""

        async def go() -> list[httpx.Response]:
            guarded = Guard(self.gate.around(self.app), policy=POLICY)
            transport = httpx.ASGITransport(guarded, client=(options.get("client", "127.0.0.1"), 5))
            base = options.get("base", "http://localhost:1")
            async with httpx.AsyncClient(transport=transport, base_url=base) as client:
                return [
                    await client.request(method, path, data=form or None, headers=options.get("headers"))
                    for method, path, form in steps
                ]

        return run(go())


def as_guest(name: str = "ann", password: str = "tulip") -> tuple[str, str, dict[str, str]]:
    return "POST", "/login", {"name": name, "password": password}


ROOT = ("GET", "/", {})


@pytest.mark.parametrize("path", ["/gradio_api/startup-events", "/gradio_api/app_id", "/manifest.json"])
def test_what_a_browser_asks_for_without_a_cookie_is_answered(path: str) -> None:
    house = House()

    async def go() -> httpx.Response:
        guarded = Guard(house.gate.around(house.app), policy=GuardPolicy())
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(guarded, client=("127.0.0.1", 5)), base_url="http://localhost:1"
        ) as client:
            return await client.get(path)

    assert run(go()).text == "reached"


def test_without_a_login_there_is_only_the_page_that_asks_for_it() -> None:
    house = House()
    root, post, api, page = house.visit(ROOT, ("POST", "/x", {}), ("GET", "/v1/x", {}), ("GET", "/login", {}))
    assert (root.status_code, root.headers["location"]) == (303, "/login")
    assert (post.status_code, api.status_code, page.status_code) == (401, 401, 200)
    assert house.seen == []


@pytest.mark.parametrize(("tag", "words"), [("en", "Log in"), ("zh-CN", "登录"), ("ja", "ログイン")])
def test_the_page_speaks_the_browsers_language(tag: str, words: str) -> None:
    (page,) = House().visit(("GET", "/login", {}), headers={"accept-language": tag})
    assert words in page.text


def test_the_login_speaks_the_language_that_was_chosen_on_the_page() -> None:
    headers = {"accept-language": "en", "cookie": "qwen-chat-language=ja"}
    (page,) = House().visit(("GET", "/login", {}), headers=headers)
    assert "ログイン" in page.text


def test_a_login_opens_the_page_under_the_accounts_own_id() -> None:
    house = House()
    entered, root, again = house.visit(as_guest(), ROOT, ("GET", "/login", {}))
    assert (entered.status_code, root.text, again.status_code) == (303, "reached", 303)
    (login,) = house.seen
    assert login is not None
    assert (login.name, login.owner, login.is_host) == ("ann", owner_of("ann", b"k"), False)


def test_the_cookie_is_for_the_server_alone_and_on_https_only_for_https() -> None:
    (entered,) = House().visit(as_guest())
    cookie = entered.headers["set-cookie"]
    assert re.match(rf"{COOKIE}=[\w-]{{43}};", cookie)
    assert all(each in cookie for each in ("HttpOnly", "SameSite=lax", "Path=/", "Max-Age=3600"))
    assert "Secure" not in cookie
    (secure,) = House().visit(as_guest(), base="https://localhost:1")
    assert "Secure" in secure.headers["set-cookie"]


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ann", "rose"),
        ("ann", ""),
        ("", ""),
        ("nobody", "tulip"),
        ("ANN", "tulip"),
        ("ann\0", "tulip"),
        ("ann", "x" * 9000),
    ],
)
def test_a_wrong_pair_does_not_open_and_says_not_which_half_was_wrong(name: str, password: str) -> None:
    house = House()
    refused, root = house.visit(as_guest(name, password), ROOT)
    assert (refused.status_code, root.status_code) == (401, 303)
    assert "The name or the password is wrong." in refused.text
    assert "set-cookie" not in refused.headers


def test_a_body_that_is_no_form_is_a_wrong_login() -> None:
    house = House()

    async def go() -> list[int]:
        transport = httpx.ASGITransport(Guard(house.gate.around(house.app), policy=POLICY))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:1") as client:
            bodies = (b"", b"\xff\xfe\x00", b"{}", b"name=ann&name=bob&password=%ff")
            return [(await client.post("/login", content=body)).status_code for body in bodies]

    assert run(go()) == [401] * 4


def test_the_sixth_try_in_a_minute_is_told_to_wait_even_with_the_right_password() -> None:
    house = House()
    tries = [as_guest("ann", f"guess {number}") for number in range(5)]
    *wrong, right, other = house.visit(*tries, as_guest(), as_guest("bob", "rose"))
    assert [one.status_code for one in wrong] == [401] * 5
    assert right.status_code == 429
    assert 1 <= int(right.headers["retry-after"]) <= 61
    assert other.status_code == 303


def test_thirty_tries_a_minute_are_all_there_are_for_everybody() -> None:
    house = House()
    answers = house.visit(*[as_guest(f"name {number}", "x") for number in range(31)])
    assert [one.status_code for one in answers] == [401] * 30 + [429]


def test_guesses_from_many_addresses_do_not_shut_out_who_has_the_made_up_password() -> None:
    house = House({})
    for number in range(40):
        house.visit(as_guest("eve", "x"), client=f"8.8.8.{number}")
    password = house.accounts.shared_password if house.accounts else None
    assert password
    assert house.visit(as_guest("ann", password), client="9.9.9.9")[0].status_code == 303


def test_successful_logins_count_for_nothing() -> None:
    answers = House(max_guests=50).visit(*[as_guest() for _ in range(40)])
    assert {one.status_code for one in answers} == {303}


def test_with_the_shared_password_tries_count_for_the_address_whatever_the_name() -> None:
    house = House({})
    answers = house.visit(*[as_guest(f"name {number}", "x") for number in range(6)])
    assert [one.status_code for one in answers] == [401] * 5 + [429]


def test_with_the_shared_password_the_name_gives_no_rights() -> None:
    house = House({})
    assert house.accounts is not None
    assert house.accounts.shared_password is not None
    _, root, host = house.visit(as_guest("host", house.accounts.shared_password), ROOT, ("GET", "/host", {}))
    assert (root.text, host.status_code) == ("reached", 403)
    login = house.seen[0]
    assert login is not None
    assert (login.name, login.owner, login.is_host) == ("host", None, False)


def test_a_login_ends_after_its_hours() -> None:
    house = House()
    entered, root = house.visit(as_guest(), ROOT)
    assert root.text == "reached"
    secret = entered.headers["set-cookie"].split("=")[1].split(";")[0]
    house.clock.now += 3601
    assert house.sessions.find(secret) is None
    assert house.sessions.who_is_on() == []


def test_a_logout_ends_the_login_on_the_server_too() -> None:
    house = House()
    entered, left, root = house.visit(as_guest(), ("POST", "/logout", {}), ROOT)
    assert (left.status_code, root.headers["location"]) == (303, "/login")
    secret = entered.headers["set-cookie"].split("=")[1].split(";")[0]
    assert house.sessions.find(secret) is None


@pytest.mark.parametrize("cookie", ["x", "", "a" * 5000, f"a; {COOKIE}=b", '"\\"', "%00"])
def test_an_invented_cookie_opens_nothing(cookie: str) -> None:
    house = House()
    (root,) = house.visit(ROOT, headers={"cookie": f"{COOKIE}={cookie}"})
    assert root.status_code == 303


def test_only_so_many_guests_are_there_at_once_and_idle_ones_give_way() -> None:
    house = House(max_guests=2)
    first, _ = house.visit(as_guest())[0], house.visit(as_guest())[0]
    third = house.visit(as_guest("bob", "rose"))[0]
    assert (third.status_code, third.headers["retry-after"]) == (503, "60")
    assert house.visit(as_guest("host", "oak"))[0].status_code == 303
    house.clock.now += 601
    assert house.visit(as_guest("bob", "rose"))[0].status_code == 303
    secret = first.headers["set-cookie"].split("=")[1].split(";")[0]
    assert house.sessions.find(secret) is None


def test_a_guest_who_listens_does_not_give_way() -> None:
    sessions = Sessions(1, 1.0, clock := Clock())
    secret = sessions.begin("ann", "a", owner=None, is_host=False)
    session = sessions.find(secret)
    assert session is not None
    session.num_streams = 1
    clock.now += 3000
    with pytest.raises(HouseFull):
        sessions.begin("bob", "a", owner=None, is_host=False)


def test_the_hosts_link_works_once_and_lets_them_see_and_end_everything() -> None:
    house = House()
    house.visit(as_guest())
    link = ("GET", f"/{house.gate.host_path}", {})
    entered, root, seen, ended, after = house.visit(
        link, ROOT, ("GET", "/host", {}), ("POST", "/host", {}), ("GET", "/host", {})
    )
    assert (entered.status_code, root.text) == (303, "reached")
    assert "ann" in seen.text
    assert (ended.status_code, house.ended) == (303, 1)
    assert "ended sharing" in after.text
    assert [one.is_host for one in house.sessions.who_is_on()] == [True]
    again, late, page = house.visit(link, as_guest(), ROOT)
    assert (again.status_code, late.status_code) == (403, 403)
    assert "ended sharing" in late.text
    assert (page.status_code, page.headers["location"]) == (303, "/login")  # Gradio loads the page again by itself


@pytest.mark.parametrize("key", ["", "x", "%00", "é"])
def test_a_wrong_host_link_is_no_link(key: str) -> None:
    house = House()
    answer, end = house.visit(("GET", f"/host?key={key}", {}), ("POST", "/host", {}))
    assert (answer.status_code, end.status_code) == (403, 403)
    assert house.ended == 0


def test_a_guest_cannot_end_anything_and_the_account_named_host_can() -> None:
    house = House()
    assert house.visit(as_guest(), ("POST", "/host", {}))[1].status_code == 403
    assert house.visit(as_guest("host", "oak"), ("POST", "/host", {}))[1].status_code == 303
    assert house.ended == 1


def test_a_name_with_markup_is_shown_as_text() -> None:
    house = House({})
    assert house.accounts is not None
    house.visit(as_guest("<script>alert(1)</script>", house.accounts.shared_password or ""))
    shown = house.visit(("GET", f"/{house.gate.host_path}", {}), ("GET", "/host", {}))[1].text
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_a_login_from_another_site_is_refused() -> None:
    (answer,) = House().visit(as_guest(), headers={"origin": "http://evil.example"})
    assert answer.status_code == 403


def test_paths_with_keys_of_their_own_pass_the_gate_and_no_others() -> None:
    house = House(passes=frozenset({"/v1/x"}))
    api, other = house.visit(("GET", "/v1/x", {}), ("GET", "/x", {}))
    assert (api.text, other.status_code) == ("reached", 401)


def test_all_below_a_path_with_keys_passes_if_it_ends_in_a_slash() -> None:
    house = House(passes=frozenset({"/v1/models/"}))
    model, other = house.visit(("GET", "/v1/models/Qwen/Qwen3-4B", {}), ("GET", "/v1/x", {}))
    assert (model.text, other.status_code) == ("reached", 401)


@pytest.mark.parametrize("foreign", ['prefs={"a":1}', "name=日本", "a b=c", '"="'])
def test_cookies_of_other_programs_do_not_hide_the_login(foreign: str) -> None:
    house = House()
    (entered,) = house.visit(as_guest())
    secret = entered.headers["set-cookie"].split("=")[1].split(";")[0]
    for cookies in (f"{foreign}; {COOKIE}={secret}", f"{COOKIE}={secret}; {foreign}"):
        assert house.visit(ROOT, headers={"cookie": cookies.encode()})[0].text == "reached"


def test_a_public_page_is_open_until_the_host_ends_it() -> None:
    house = House(None, clients=lambda: ["1.2.3.4"])
    root, login, facts = house.visit(ROOT, ("GET", "/login", {}), ("GET", "/session", {}))
    assert (root.text, login.status_code, facts.status_code) == ("reached", 303, 200)
    link = ("GET", f"/{house.gate.host_path}", {})
    _, seen, ended, own = house.visit(link, ("GET", "/host", {}), ("POST", "/host", {}), ROOT)
    assert "1.2.3.4" in seen.text
    assert (ended.status_code, own.text) == (303, "reached")
    assert house.visit(ROOT)[0].status_code == 403


@pytest.mark.parametrize("how", ["logout", "host", "time"])
def test_an_open_stream_ends_with_its_login(how: str) -> None:
    async def scenario() -> list[str]:
        house = House()
        if how == "time":
            house.sessions.lasts_s = 0.05
        secret = house.sessions.begin("ann", "a", owner=None, is_host=False)
        happened: list[str] = []

        async def stream(scope: Any, receive: Any, send: Any) -> None:
            happened.append("open")
            try:
                await asyncio.sleep(30)
            finally:
                happened.append("closed")

        async def nothing(*_: Any) -> Any:
            await asyncio.sleep(30)

        headers = [(b"host", b"localhost"), (b"cookie", f"{COOKIE}={secret}".encode())]
        scope = {"type": "http", "method": "GET", "path": "/x", "query_string": b"", "headers": headers}
        answering = asyncio.ensure_future(house.gate.around(stream)(scope, nothing, nothing))
        await asyncio.sleep(0.02)
        session = house.sessions.who_is_on()[0]
        happened.append(f"{session.num_streams} stream")
        if how == "logout":
            house.sessions.end(secret)
        elif how == "host":
            house.sessions.end_guests()
        await asyncio.wait_for(answering, 5)
        happened.append(f"{session.num_streams} streams")
        return happened

    assert run(scenario()) == ["open", "1 stream", "closed", "0 streams"]
