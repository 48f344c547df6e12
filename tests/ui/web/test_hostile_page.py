"""Hostile text everywhere on the real page, as question, answer, thinking, error, title and search, beside a catcher.

The catcher is a server on another port of this machine: whoever reaches it has been reached.
"""

import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from model_loader.errors import GenerationFailed
from tests.scripted_model import Script
from tests.ui.web.served_page import Served, ask, is_cut_by_leaving, wait_until_answered

# Gradio leaves its event loop and some sockets to the garbage collector when a page is closed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

HIT = "window.__hit=1"
FORBIDDEN = (
    "script", "iframe", "video", "audio", "link", "meta", "form", "base", "x-tag", "object", "embed",
    "input[type=password]",
)  # fmt: skip


@pytest.fixture(scope="module")
def catcher() -> Iterator[Any]:
    """A server that remembers who came; `place` is where it is."""

    class Catch(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            caught.append(self.path)
            self.send_response(204)
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - the name that http.server asks for

        def log_message(self, *_: Any) -> None:
            pass

    caught: list[str] = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Catch) as server:
        server.caught, server.place = caught, f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def attacks(place: str) -> list[str]:
    return [
        f"<script>{HIT}</script>",
        f"<img src=x onerror={HIT}><img src={place}/img>",
        f"<svg onload={HIT}><image href={place}/svg /></svg>",
        f'<iframe srcdoc="<script>parent.__hit=1</script>"></iframe><iframe src={place}/frame></iframe>',
        f"<details open ontoggle={HIT}>x</details>",
        f'<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror={HIT}&gt;">',
        f"[c](javascript:{HIT}) <a href=' java\tscript:{HIT}'>x</a> [d](data:text/html,<script>{HIT}</script>)",
        f"![x]({place}/picture?q=S)",
        f"![x][r]\n\n[r]: {place}/reference",
        f"<video src={place}/video></video><audio src={place}/audio></audio><link rel=stylesheet href={place}/sheet>",
        f"<meta http-equiv=refresh content='0;url={place}/refresh'><base href={place}/>",
        f"<style>@import '{place}/import'; body{{background:url({place}/background)}}</style>",
        "<x-tag style=position:fixed;inset:0;z-index:9999>overlay</x-tag><div style=position:fixed>over</div>",
        f"<form action={place}/form><input type=password name=p><button>Log in</button></form>",
        f"$\\href{{javascript:{HIT}}}{{x}}$ $\\includegraphics{{{place}/graphics}}$ $\\url{{{place}/url}}$",
        r"$\rule{9999em}{9999em}$ $\def\a{\a\a}\a$",
        f'```mermaid\ngraph TD\nA-->B\nclick A "javascript:{HIT}"\n```',
        f"\u202e<b onmouseover={HIT}>\u2066{place}/bidi",
    ]


def check_nothing_happened(page: Any, catcher: Any) -> None:
    assert page.evaluate("window.__hit") is None
    assert catcher.caught == []
    assert page.foreign_requests == []
    assert [said for said in page.page_errors if not is_cut_by_leaving(said)] == []
    inside = "#chatbot, #history-list, #receipt, #notice, #trashed, #brand"
    evil = ", ".join(f":is({inside}) {each}" for each in FORBIDDEN)
    assert page.locator(evil).count() == 0
    links = page.locator(f":is({inside}) a").evaluate_all("all => all.map(one => one.getAttribute('href') || '')")
    assert not [link for link in links if link.strip().lower().startswith(("javascript", "data", "vbscript"))]
    outside = """() => [...document.querySelectorAll('#chatbot .message *')].filter(one => {
        const position = getComputedStyle(one).position;
        return position === 'fixed' || position === 'sticky';
    }).length"""
    assert page.evaluate(outside) == 0


def test_hostile_questions_answers_thoughts_and_errors_do_nothing(
    page: Any, serve: Callable[..., Served], catcher: Any
) -> None:
    everything = "\n\n".join(attacks(catcher.place))
    served = serve(Script(answer=everything, reasoning=everything, tokens_per_s=1e5))
    served.open(page)
    ask(page, everything)
    wait_until_answered(page)
    page.locator("#chatbot .katex, #chatbot .katex-error, #chatbot code").first.wait_for()
    check_nothing_happened(page, catcher)
    served.model.script = Script(answer="x", fail_at=0, error=GenerationFailed(everything))
    ask(page, "fail")
    page.wait_for_selector("#chatbot .failure")
    check_nothing_happened(page, catcher)


def test_hostile_titles_in_the_list_in_the_trash_and_in_a_search_do_nothing(
    page: Any, serve: Callable[..., Served], catcher: Any
) -> None:
    served = serve(Script(answer="yes", tokens_per_s=1e5))
    served.open(page)
    ask(page, "first")
    wait_until_answered(page)
    (owner,) = {one.owner for one in served.page.conversations._loaded.values() if not one.is_empty}
    made = []
    for attack in attacks(catcher.place):
        conversation = served.page.conversations.create(owner)
        answer = conversation.start_answer(conversation.add_user(f"needle {attack}").id)
        conversation.grow(answer.id, f"needle {attack}")
        conversation.amend(answer.id, state="complete")
        served.page.conversations.rename(conversation, attack)
        made.append(conversation)
    served.page.conversations.put_into_trash(made[0])
    page.reload()
    page.wait_for_selector("body[data-attached=yes]")
    page.wait_for_function("() => document.querySelectorAll('#history-list .entry').length >= 15")
    check_nothing_happened(page, catcher)
    page.fill("#history-search input, #history-search textarea", "needle")
    page.wait_for_function("() => document.querySelectorAll('#history-list .entry').length >= 15")
    check_nothing_happened(page, catcher)
    page.click("#to-trash")
    page.wait_for_timeout(500)
    check_nothing_happened(page, catcher)
