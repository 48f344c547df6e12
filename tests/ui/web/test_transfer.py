"""The handlers of the files' menu as a hostile caller would use them."""

import base64
import json
from typing import Any

import pytest

from tests.ui.chat.trees import grown_conversation
from tests.ui.web.test_handlers import ALICE, BOB, request_of
from ui.chat.conversations import Conversations
from ui.chat.export import as_json
from ui.chat.store_limits import StoreLimits
from ui.web.access import View
from ui.web.transfer import TransferHandlers
from ui.web.uploads import UploadLost, Uploads

FILE = as_json(*grown_conversation().tree()).encode()


def pieces(data: bytes, size: int = 300) -> list[str]:
    text = base64.b64encode(data).decode()
    return [text[at : at + size] for at in range(0, len(text), size)]


def desk(**limits: Any) -> tuple[Conversations, TransferHandlers]:
    conversations = Conversations(lambda one: False, StoreLimits(**limits))
    return conversations, TransferHandlers(conversations)


def bring_in(handlers: TransferHandlers, view: Any, data: bytes) -> list[Any]:
    sent = pieces(data)
    return [
        handlers.take_in(request_of("tab"), f"{number}/{len(sent)}", piece, view)
        for number, piece in enumerate(sent, start=1)
    ]


def test_a_file_in_pieces_becomes_a_conversation() -> None:
    conversations, handlers = desk()
    *before, (shown, said, told) = bring_in(handlers, View(ALICE, "0" * 32), FILE)
    assert {one[0] for one in before} == {"next"}
    assert said == ""
    assert "&lt;script&gt;" in told
    assert conversations.find(ALICE, shown) is not None
    assert conversations.find(BOB, shown) is None


def test_a_conversation_of_another_is_not_exported() -> None:
    conversations, handlers = desk()
    hers = conversations.create(ALICE)
    hers.add_user("secret")
    conversations.save(hers)
    for view in (View(BOB, hers.id), None, "View", {"owner": ALICE}, View("", "")):
        for kind in ("json", "html", "md", "zip"):
            made, said = handlers.export(request_of("tab"), kind, view)
            assert made == "-"
            assert 'class="notice' in said
    name, kind, data = handlers.export(request_of("tab"), "json", View(ALICE, hers.id))[0].split("\n")
    assert (name, kind) == ("qwen-chat-secret.json", "application/json")
    assert json.loads(base64.b64decode(data))["messages"][0]["text"] == "secret"


@pytest.mark.parametrize("kind", [None, "", "exe", "../x", ["md"], 5])
def test_an_unknown_kind_gives_nothing(kind: Any) -> None:
    made, _said = desk()[1].export(request_of("tab"), kind, View(ALICE, "0" * 32))
    assert made == "-"


@pytest.mark.parametrize(
    ("place", "piece"),
    [
        ("1/1", "not base64!"), ("1/1", "QQ"), ("2/2", "QUJD"), ("0/1", "QUJD"), ("1", "QUJD"), ("/", "QUJD"),
        ("-1/3", "QUJD"), ("1e9/2", "QUJD"), (None, None), (["1/1"], {"a": 1}), ("9" * 30 + "/1", "QUJD"),
    ],
)  # fmt: skip
def test_a_forged_piece_is_refused(place: Any, piece: Any) -> None:
    conversations, handlers = desk()
    shown, said, told = handlers.take_in(request_of("tab"), place, piece, View(ALICE, "0" * 32))
    assert (shown, told) == ("-", "")
    assert "did not arrive whole" in said
    assert conversations.listing(ALICE) == []


def test_without_a_view_nothing_is_taken() -> None:
    for view in (None, "x", View("", "")):
        shown, said, _told = desk()[1].take_in(request_of("tab"), "1/1", "QUJD", view)
        assert shown == "-"
        assert "is-no_conversation" in said


def test_a_bad_file_is_refused_in_the_readers_language() -> None:
    _conversations, handlers = desk()
    data = base64.b64encode(b"[]").decode()
    assert "不是 Qwen" in handlers.take_in(request_of("tab", "zh"), "1/1", data, View(ALICE, "0" * 32))[1]


def test_no_room_is_said() -> None:
    conversations, handlers = desk(max_bytes_per_owner=10)
    assert "is-history_full" in bring_in(handlers, View(ALICE, "0" * 32), FILE)[-1][1]
    assert conversations.listing(ALICE) == []


def test_few_files_are_on_their_way_at_once_and_none_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = Uploads()
    for number in range(9):
        assert uploads.add(f"user {number}", "1/2", "QUJD") is None
    assert len(uploads._uploads) == 4
    with pytest.raises(UploadLost):
        uploads.add("user 0", "2/2", "QUJD")
    assert uploads.add("user 8", "2/2", "QUJD") == b"ABCABC"
    monkeypatch.setattr("ui.web.uploads._MAX_CHARS", 5)
    assert uploads.add("x", "1/2", "QUJD") is None
    with pytest.raises(UploadLost):
        uploads.add("x", "2/2", "QUJD")
