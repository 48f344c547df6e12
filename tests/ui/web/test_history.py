"""The list of conversations as a caller meets it: what is listed, what a click does, and whose it is."""

import asyncio
from typing import Any

import pytest

from tests.scripted_model import Script, many_words
from tests.ui.web.test_handlers import ALICE, BOB, SETTINGS, Desk, panel, request_of
from ui.chat.refusal import Refused
from ui.web.access import View
from ui.web.history import HistoryHandlers
from ui.web.meter import MeterHandlers
from ui.web.presets import PresetHandlers
from ui.web.receipts import ReceiptHandlers


@pytest.fixture
def desk() -> Desk:
    return Desk()


def conversation_of(desk: Desk, owner: str, text: str, tab: str) -> View:
    view = desk.attach(owner, "new", tab)
    desk.ask(text, view, tab)
    desk.finish(view)
    return view


def listed(desk: Desk, view: Any, search: Any = "", place: Any = "", pages: Any = "") -> str:
    return HistoryHandlers(desk.conversations, desk.answers).show(request_of("tab"), view, search, place, pages)[0]


def change(desk: Desk, action: Any, target: Any, text: Any, view: Any) -> str:
    return HistoryHandlers(desk.conversations, desk.answers).change(request_of("tab"), action, target, text, view)


def test_the_list_shows_titles_as_text_and_the_one_on_screen(desk: Desk) -> None:
    conversation_of(desk, ALICE, "first", "tab")
    view = conversation_of(desk, ALICE, "<script>alert(1)</script>", "tab")
    shown = listed(desk, view)
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
    assert shown.index("script") < shown.index("first")
    assert f"entry id-{view.conversation_id} is-shown" in shown


def test_each_owner_sees_their_own(desk: Desk) -> None:
    hers = conversation_of(desk, ALICE, "my secret plan", "hers")
    his = desk.attach(BOB, "", "his")
    assert "secret" not in listed(desk, his)
    assert "secret" not in listed(desk, his, search="secret")
    for action in ("trash", "rename", "pin", "restore"):
        assert change(desk, action, hers.conversation_id, "mine now", his) == ""
    change(desk, "empty", "", "", his)
    change(desk, "erase", "", "", his)
    assert "my secret plan" in listed(desk, hers)


@pytest.mark.parametrize("view", [None, "View", {"owner": ALICE}])
def test_without_a_view_there_is_nothing(desk: Desk, view: Any) -> None:
    conversation_of(desk, ALICE, "secret", "tab")
    assert listed(desk, view) == ""
    assert change(desk, "erase", "", "", view) == ""
    assert len(desk.conversations.listing(ALICE)) == 1


def test_rename_pin_trash_and_restore(desk: Desk) -> None:
    view = conversation_of(desk, ALICE, "old name", "tab")
    change(desk, "rename", view.conversation_id, "new name", view)
    change(desk, "pin", view.conversation_id, "", view)
    assert "new name" in listed(desk, view)
    assert "Pinned" in listed(desk, view)
    said = change(desk, "trash", view.conversation_id, "", view)
    assert "new name" in said
    assert f"tool-restore id-{view.conversation_id}" in said
    assert "new name" not in listed(desk, view)
    assert "new name" in listed(desk, view, place="trash")
    change(desk, "restore", view.conversation_id, "", view)
    assert "new name" in listed(desk, view)


def test_a_conversation_in_the_trash_is_not_opened_again(desk: Desk) -> None:
    view = conversation_of(desk, ALICE, "q", "tab")
    change(desk, "trash", view.conversation_id, "", view)
    assert desk.attach(ALICE, view.conversation_id, "tab").conversation_id != view.conversation_id


def test_erasing_leaves_nothing(desk: Desk) -> None:
    view = conversation_of(desk, ALICE, "q", "tab")
    change(desk, "erase", "", "", view)
    assert desk.conversations.database.num_bytes() == 0
    assert desk.conversations.find(ALICE, view.conversation_id) is None


@pytest.mark.parametrize("action", [None, "", "drop table", 7, ["trash"]])
def test_an_unknown_action_does_nothing(desk: Desk, action: Any) -> None:
    view = conversation_of(desk, ALICE, "q", "tab")
    assert change(desk, action, view.conversation_id, "x", view) == ""
    assert "q" in listed(desk, view)


@pytest.mark.parametrize("pages", [None, "", "x", "-1", "9" * 50, 3, "1"])
def test_any_page_number_lists_something(desk: Desk, pages: Any) -> None:
    view = conversation_of(desk, ALICE, "question", "tab")
    assert "question" in listed(desk, view, pages=pages)


def test_a_new_conversation_is_not_listed_before_its_first_question_and_is_used_again(desk: Desk) -> None:
    view = desk.attach(ALICE, "new", "tab")
    assert desk.attach(ALICE, "new", "tab") == view
    assert "entry" not in listed(desk, view)


def test_a_problem_with_the_disk_is_shown_above_the_conversation(desk: Desk) -> None:
    view = conversation_of(desk, ALICE, "q", "tab")
    desk.conversations.problem = "database or disk is full"
    _list, banner = HistoryHandlers(desk.conversations, desk.answers).show(request_of("tab"), view, "", "", "")
    assert "database or disk is full" in banner


def test_the_meter_counts_before_sending_and_keeps_quiet_without_a_text(desk: Desk) -> None:
    view = desk.attach(ALICE, "", "tab")
    meter = MeterHandlers(desk.handlers._load, desk.conversations, desk.answers)
    shown = meter.measure(request_of("tab"), "twelve chars", "", "", view, *panel(view, system="four"))
    assert "16 of 4,096 tokens" in shown
    assert "8 known from before" in shown
    assert meter.measure(request_of("tab"), "  ", "", "", view, *SETTINGS) == ""
    assert meter.measure(request_of("tab"), "text", "", "", None, *SETTINGS) == ""
    assert "is-over" in meter.measure(request_of("tab"), "x" * 5000, "", "", view, *SETTINGS)


def test_a_receipt_is_shown_to_its_owner_alone(desk: Desk) -> None:
    hers = conversation_of(desk, ALICE, "q", "hers")
    conversation = desk.conversations.find(ALICE, hers.conversation_id)
    assert conversation is not None
    answer_id = conversation.path()[-1].id
    receipts = ReceiptHandlers(desk.handlers._load, desk.conversations)
    request = request_of("tab")
    request.request = None
    assert "feedc0ffee42" in receipts.show(request, answer_id, hers)
    assert receipts.show(request, answer_id, View(BOB, hers.conversation_id)) == ""
    assert receipts.show(request, answer_id, desk.attach(BOB, "", "his")) == ""
    assert receipts.show(request, conversation.path()[0].id, hers) == ""


def test_an_answer_is_run_again_only_while_its_tab_listens(desk: Desk) -> None:
    text = many_words(2000)
    desk.model.script = Script(answer=text, tokens_per_s=1e6)
    view = conversation_of(desk, ALICE, "q", "tab")
    conversation = desk.conversations.find(ALICE, view.conversation_id)
    assert conversation is not None
    answer_id = conversation.path()[-1].id
    desk.model.script = Script(answer=text, tokens_per_s=100)
    asked: list[str] = []
    receipts = ReceiptHandlers(desk.handlers._load, desk.conversations, None, lambda tab: bool(asked.append(tab)), 0.2)
    request = request_of("tab")
    request.request = None

    async def watch() -> list[Any]:
        return [shown async for shown in receipts.reproduce(request, answer_id, view)]

    assert "Different from character" in asyncio.run(watch())[-1]  # as far as it came
    assert set(asked) == {"tab"}
    assert desk.model.num_streams == 0


def test_presets_are_chosen_saved_and_forgotten(desk: Desk) -> None:
    view = desk.attach(ALICE, "", "tab")
    presets = PresetHandlers(desk.handlers._load, desk.conversations)
    request = request_of("tab")
    presets.choose(request, "Translator", view)
    conversation = desk.conversations.find(ALICE, view.conversation_id)
    assert conversation is not None
    assert "Translate" in str(conversation.settings.system)
    _said, menu = presets.save(request, "Mine", view, *panel(system="Be kind.", stop="END"))
    assert "Mine" in menu["choices"]
    assert "Mine" not in presets.fill_in(request, desk.attach(BOB, "", "his"))["choices"]
    presets.choose(request, "Mine", view)
    assert (conversation.settings.system, conversation.settings.stop) == ("Be kind.", ("END",))
    _said, menu = presets.forget(request, "Mine", view)
    assert "Mine" not in menu["choices"]
    said, _menu = presets.save(request, "", view, *panel())
    assert "is-empty" in said


def test_the_buttons_of_a_message(desk: Desk) -> None:
    view = conversation_of(desk, ALICE, "first", "tab")
    desk.ask("second", view, "tab")
    desk.finish(view)
    conversation = desk.conversations.find(ALICE, view.conversation_id)
    assert conversation is not None

    def act(action: str, message_id: Any, text: str = "") -> tuple[Any, ...]:
        return desk.handlers.act(request_of("tab"), action, message_id, "", text, view, *SETTINGS)

    *_rest, box, _files, _shown = act("take-back", "")
    assert box == "second"
    desk.handlers.undo_clear(view)
    *_rest, box, _files, _shown = act("take-back", "", "typed since")
    assert box == "second\n\ntyped since"
    desk.handlers.undo_clear(view)
    *_rest, box, _files, _shown = act("take-back", "", box)
    assert box == "second\n\ntyped since"
    assert [one.text for one in conversation.path()] == ["first", "yes"]
    desk.handlers.undo_clear(view)
    assert len(conversation.path()) == 4
    branched, _attached, *_rest = act("branch", conversation.path()[1].id)
    assert branched.conversation_id != view.conversation_id
    copy = desk.conversations.find(ALICE, branched.conversation_id)
    assert copy is not None
    assert [one.text for one in copy.path()] == ["first", "yes"]
    assert "is-nothing_to_continue" in act("continue", conversation.path()[-1].id)[3]
    assert "is-nothing_to_repeat" in act("again", None)[3]
    with pytest.raises(Refused):
        desk.conversations.branch(conversation, "")
