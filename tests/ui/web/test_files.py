"""The route that takes files in, as a hostile caller would use it, and what the composer's handlers do with drafts."""

import http.client
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.scripted_model import Script, ScriptedLoad, ScriptedModel
from tests.ui.chat import pdfs
from tests.ui.web.served_page import Served
from tests.ui.web.test_handlers import ALICE, BOB, SETTINGS, panel, request_of
from ui.chat.allowance import Allowance
from ui.chat.answers import Answers
from ui.chat.attachment import MAX_FILE_BYTES, Attachment
from ui.chat.conversations import Conversations
from ui.chat.drafts import Drafts
from ui.chat.extraction import read_attachment
from ui.limits import TooMuch, Traffic, TrafficLimits
from ui.web.access import View
from ui.web.files import FileHandlers
from ui.web.fragments import STATIC
from ui.web.handlers import Handlers
from ui.web.history import HistoryHandlers
from ui.web.login.options import SharingOptions
from ui.web.meter import MeterHandlers
from ui.web.receipts import ReceiptHandlers
from ui.web.tabs import Tabs

# Gradio leaves its event loop and some sockets to the garbage collector when a page is closed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
DRAFT = "d" * 32
CSV = Attachment("prices.csv", "text", "apple,3", 7)


class Desk:
    """The page's handlers and a tab of Alice's that is open."""

    def __init__(self, context_length: int = 4096) -> None:
        self.guest: str | None = None
        self.model = ScriptedModel(Script(answer="yes", tokens_per_s=2000), context_length)
        self.load: Any = ScriptedLoad(self.model)
        self.tabs, self.drafts, self.allowance = Tabs(60), Drafts(), Allowance(tokens=1000)
        self.conversations = Conversations(lambda one: False)
        self.answers = Answers(self.load, lambda one: True, 10.0, self.conversations.save, self.allowance)
        self.files = FileHandlers(self.load, self.conversations, self.tabs, self.drafts)
        self.handlers = Handlers(self.load, self.conversations, self.answers, self.tabs, self.allowance, self.files)
        self.view = self.handlers.attach(ALICE, "", request_of("tab"))[0]
        self.client = TestClient(Starlette(routes=[self.files.route]))

    def send(self, data: bytes, name: str = "a.txt", **headers: str | None) -> Any:
        given = {
            "x-chat-owner": ALICE,
            "x-chat-draft": DRAFT,
            "x-file-name": quote(name),
            "x-file-bytes": str(len(data)),
        }
        given |= {key.replace("_", "-"): value for key, value in headers.items()}
        return self.client.post(
            "/attach", content=data, headers={key: value for key, value in given.items() if value is not None}
        )

    def change(self, action: str = "", target: str = "", language: str = "en") -> tuple[Any, Any]:
        number = len(self.drafts.files(ALICE, DRAFT))
        return self.files.change(request_of("tab", language), action, target, f"{DRAFT} {number}", self.view)

    def ask(self, text: str, number: int, edited: str = "") -> tuple[Any, ...]:
        request = request_of("tab")
        if self.guest is not None:
            request.request = SimpleNamespace(scope={"login": None, "client": (self.guest, 5)})
        return self.handlers.ask(request, text, edited, f"{DRAFT} {number}", self.view, *panel(self.view))

    def finish(self) -> None:
        answer = self.answers.running(self.view.conversation_id)
        assert answer is None or answer.wait(5)

    @property
    def path(self) -> Any:
        found = self.conversations.find(ALICE, self.view.conversation_id)
        assert found is not None
        return found.path()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.client.close()
    made.files.close()


def test_a_file_becomes_a_chip_with_its_size_and_tokens(desk: Desk) -> None:
    assert desk.send(b"apple,3\n", "../价格 <b>.csv").json() == {"refused": None, "files": 1}
    assert desk.drafts.attachments(ALICE, DRAFT) == (Attachment("价格 <b>.csv", "text", "apple,3\n", 8),)
    chips, said = desk.change()
    assert "价格 &lt;b&gt;.csv" in chips
    assert "8 B · 8 tokens" in chips
    assert "notice" not in str(said)


def test_why_files_are_refused_is_told_by_name_in_the_readers_language(desk: Desk) -> None:
    assert desk.send(b"\x89PNG\r\n\x1a\n\0", "photo.txt").json() == {"refused": "other_kind", "files": 0}
    assert desk.send(b"", "big.pdf", x_file_bytes="99999999").json()["refused"] == "too_large"
    assert desk.send(b"half", "cut.txt", x_file_bytes="9").json()["refused"] == "lost"
    chips, said = desk.change("lost", "gone\u202e.txt", "zh")
    assert chips == ""
    lines = ["photo.txt 不是文本，其内容为 PNG。", "big.pdf 有 99,999,999 字节，最多读取 16,777,216 字节。"]
    assert all(line in said for line in [*lines, "cut.txt 未送达", "gone .txt 未送达"])
    assert "notice" not in str(desk.change()[1])


@pytest.mark.parametrize(
    "headers",
    [
        {"x_chat_owner": None}, {"x_chat_owner": BOB}, {"x_chat_owner": "../" * 11}, {"x_chat_draft": None},
        {"x_chat_draft": "d" * 31}, {"x_chat_draft": DRAFT + "x"},
    ],
)  # fmt: skip
def test_only_a_page_that_is_open_may_send(desk: Desk, headers: dict[str, str | None]) -> None:
    assert desk.send(b"text", **headers).status_code == 403
    assert not desk.drafts._drafts


def test_a_tab_that_was_closed_may_no_longer_send(desk: Desk) -> None:
    desk.tabs.leave("tab")
    assert desk.send(b"text").status_code == 403


@pytest.mark.parametrize("size", ["-1", "1e9", "", "9" * 40, "x"])
def test_a_size_that_is_none_does_no_harm(desk: Desk, size: str) -> None:
    assert desk.send(b"text", x_file_bytes=size).json() == {"refused": None, "files": 1}


def test_a_question_takes_its_files_along_once(desk: Desk) -> None:
    desk.send(b"apple,3", "prices.csv")
    assert desk.ask("cheapest?", 1)[0] == ""
    desk.finish()
    assert desk.path[0].attachments == (CSV,)
    assert desk.model.prompts[-1][-1].content == "File: prices.csv\n```csv\napple,3\n```\n\ncheapest?"
    assert desk.drafts.files(ALICE, DRAFT) == ()
    desk.ask("and now?", 0)
    desk.finish()
    assert desk.model.prompts[-1][0].content == desk.path[0].content
    desk.handlers.act(request_of("tab"), "again", desk.path[-1].id, "", "", desk.view, *SETTINGS)
    desk.finish()
    assert desk.model.prompts[-1][0].content == desk.path[0].content


@pytest.mark.parametrize("number", [0, 2])
def test_what_the_user_does_not_see_is_not_sent(desk: Desk, number: int) -> None:
    desk.send(b"apple,3", "prices.csv")
    box, said, _undo, chips, _edited = desk.ask("cheapest?", number)
    assert box != ""
    assert "Attach it again" in said
    assert "prices.csv" in chips
    assert desk.path == ()


@pytest.mark.parametrize("draft", [None, "", "x", f"{DRAFT} ", f"{DRAFT} -1", f"{DRAFT} 1000", ["d"], f"{BOB} 0", 5])
def test_a_forged_draft_sends_nothing_of_anybody(desk: Desk, draft: Any) -> None:
    desk.send(b"apple,3", "prices.csv")
    desk.handlers.ask(request_of("tab"), "q", "", draft, desk.view, *SETTINGS)
    desk.finish()
    assert [one.attachments for one in desk.path[:1]] == [()]
    assert desk.files.open(request_of("tab"), desk.drafts.files(ALICE, DRAFT)[0].id, draft, desk.view) == ""


def test_a_foreign_view_reaches_no_files(desk: Desk) -> None:
    desk.send(b"apple,3", "prices.csv")
    file_id = desk.drafts.files(ALICE, DRAFT)[0].id
    for view in (View(BOB, desk.view.conversation_id), None, "x", View("", "")):
        forged: Any = view
        for action in ("", "remove", "edit", "cancel", "lost"):
            assert desk.files.change(request_of("t"), action, file_id, f"{DRAFT} 1", forged)[0] == ""
        assert desk.files.open(request_of("t"), file_id, f"{DRAFT} 1", forged) == ""
    assert desk.drafts.attachments(ALICE, DRAFT) == (CSV,)


def test_editing_a_question_brings_its_files_back_and_cancelling_takes_them_away(desk: Desk) -> None:
    desk.send(b"apple,3", "prices.csv")
    desk.ask("cheapest?", 1)
    desk.finish()
    question, answer = desk.path
    assert "prices.csv" in desk.change("edit", question.id)[0]
    assert desk.change("cancel", question.id)[0] == ""
    desk.change("edit", question.id)
    desk.send(b"more", "more.txt")
    desk.ask("cheapest of all?", 2, question.id)
    desk.finish()
    assert [one.name for one in desk.path[0].attachments] == ["prices.csv", "more.txt"]
    desk.send(b"kept", "kept.txt")
    desk.change("edit", answer.id)
    desk.ask("another answer", 1, desk.path[1].id)
    desk.finish()
    assert (desk.path[1].text, desk.path[1].attachments) == ("another answer", ())
    assert [one.name for one in desk.drafts.attachments(ALICE, DRAFT)] == ["kept.txt"]


def test_taking_back_a_turn_brings_its_files_back(desk: Desk) -> None:
    desk.send(b"apple,3", "prices.csv")
    desk.ask("cheapest?", 1)
    desk.finish()
    desk.send(b"kept", "kept.txt")
    *_rest, box, chips, _shown = desk.handlers.act(
        request_of("tab"), "take-back", "", f"{DRAFT} 0", "", desk.view, *SETTINGS
    )
    assert box == "cheapest?"
    assert "prices.csv" in chips
    assert [one.name for one in desk.drafts.attachments(ALICE, DRAFT)] == ["prices.csv", "kept.txt"]


def test_files_are_measured_before_they_are_sent_and_both_numbers_are_told() -> None:
    desk = Desk(context_length=600)
    meter = MeterHandlers(desk.load, desk.conversations, desk.answers, desk.drafts)

    def measure() -> str:
        return str(meter.measure(request_of("tab"), "", "", f"{DRAFT} 1", desk.view, *panel(desk.view)))

    assert measure() == ""
    desk.send(b"x" * 300, "small.txt")
    assert "327 of 600 tokens" in measure()
    desk.send(b"x" * 700, "large.txt")
    assert "is-over" in desk.change()[0]
    assert "is-over" in measure()
    assert "1,056 tokens and 256 for the answer are more than the 600 that the model reads" in measure()
    box, said, *_rest = desk.ask("what is it?", 2)
    assert box != ""
    assert "With large.txt the question takes 1,069 tokens; with room for the answer the model reads 344" in said
    assert desk.path == ()
    assert len(desk.drafts.files(ALICE, DRAFT)) == 2
    desk.client.close()
    desk.files.close()


def test_a_guests_allowance_counts_the_files(desk: Desk) -> None:
    desk.guest = "8.8.8.8"
    desk.send(b"x" * 1100, "long.txt")
    desk.ask("q", 1)
    desk.finish()
    assert "tokens of this hour" in desk.ask("q", 0)[1]


def test_the_text_of_a_file_is_shown_as_text_and_cut(desk: Desk) -> None:
    desk.model.context_length = 100_000
    desk.send(b"<script>\n\n$$x$$ " + b"y" * 70_000, "x.html")
    file_id = desk.drafts.files(ALICE, DRAFT)[0].id
    shown = desk.files.open(request_of("tab"), file_id, f"{DRAFT} 1", desk.view)
    assert "&lt;script&gt;&#10;&#10;&#36;&#36;x&#36;&#36;" in shown
    assert "the first 60,000 are shown" in shown
    desk.ask("q", 1)
    desk.finish()
    for target, is_there in (
        (f"{desk.path[0].id} 0", True),
        (f"{desk.path[0].id} 1", False),
        (f"{'0' * 32} 0", False),
        (f"{desk.path[0].id} -1", False),
        ("", False),
    ):
        assert bool(desk.files.open(request_of("tab"), target, "", desk.view)) == is_there


def test_a_receipt_says_which_files_were_read_and_its_programs_hold_them(desk: Desk) -> None:
    desk.send(b"apple,3", "prices.csv")
    desk.ask("cheapest?", 1)
    desk.finish()
    request = SimpleNamespace(session_hash="tab", headers={}, request=None)
    shown = str(ReceiptHandlers(desk.load, desk.conversations).show(request, desk.path[-1].id, desk.view))  # type: ignore[arg-type]
    assert "<dt>Attached files</dt><dd>prices.csv (7 B)</dd>" in shown
    assert shown.count("File: prices.csv\\n```csv\\napple,3") == 2


def test_deleting_everything_deletes_what_was_not_sent(desk: Desk) -> None:
    desk.send(b"apple,3", "prices.csv")
    HistoryHandlers(desk.conversations, desk.answers, desk.drafts).change(request_of("tab"), "erase", "", "", desk.view)
    assert not desk.drafts._drafts


def test_few_files_are_on_their_way_at_once() -> None:
    traffic = Traffic(TrafficLimits(uploads_per_client=1, uploads_in_total=2))
    first, second = (traffic.request(client, is_upload=True) for client in ("a", "b"))
    with first:
        with pytest.raises(TooMuch, match="429"), traffic.request("a", is_upload=True):
            pass
        with traffic.request("a"), second, pytest.raises(TooMuch, match="503"), traffic.request("c", is_upload=True):
            pass
    with traffic.request("a", is_upload=True):
        pass
    assert not traffic._uploads


def test_many_pdfs_at_once_are_all_read(desk: Desk) -> None:
    with ThreadPoolExecutor(4) as threads:
        read = [threads.submit(read_attachment, "a.pdf", pdfs.pdf(f"page {number}")) for number in range(4)]
        assert [one.result().text for one in read] == [f"page {number}" for number in range(4)]


def test_the_browser_knows_how_large_a_file_may_be() -> None:
    assert f"MAX_BYTES = {MAX_FILE_BYTES // 2**20} * 1024 * 1024;" in (STATIC / "files.js").read_text(encoding="utf-8")


def raw(served: Served, method: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    """One request as a program may send it."""
    address = urlsplit(served.page.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    given = {key.replace("_", "-"): value for key, value in headers.items()}
    connection.request(method, "/attach", body, {"x-chat-owner": ALICE, "x-chat-draft": DRAFT, **given})
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_the_guard_lets_files_through_to_one_route_and_no_further(serve: Callable[..., Served]) -> None:
    served = serve()
    assert raw(served, "POST", b"text") == (403, b"No page of yours is open.")
    assert raw(served, "POST", b"text", origin="http://evil.example")[0] == 403
    assert raw(served, "POST", b"text", host="evil.example")[0] == 400
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        assert raw(served, method)[0] == 405
    status, said = raw(served, "POST", content_length=str(MAX_FILE_BYTES + 1))
    assert (status, said) == (413, b"The request is larger than 16777216 bytes.")
    for path in ("/gradio_api/upload", "/attach/", "/attach/x", "/gradio_api/file=x"):
        address = urlsplit(served.page.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
        connection.request("POST", path, b"x")
        assert connection.getresponse().status in (404, 405)
        connection.close()


def test_behind_a_login_only_who_is_in_may_send(serve: Callable[..., Served]) -> None:
    served = serve(sharing=SharingOptions(auth=("ann:a-secret-word",)))
    assert raw(served, "POST", b"text")[0] == 401
