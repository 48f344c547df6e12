"""The handlers as a hostile caller would use them: forged values, foreign ids, no session."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest

from tests.scripted_model import Script, ScriptedLoad, ScriptedModel
from ui.chat.answers import Answers
from ui.chat.conversation import Conversation
from ui.chat.conversations import Conversations
from ui.chat.store_limits import StoreLimits
from ui.web.access import View
from ui.web.completion import CompletionHandlers
from ui.web.handlers import Handlers
from ui.web.panel import filled_for
from ui.web.strings import say
from ui.web.tabs import Tabs

ALICE, BOB = "a" * 32, "b" * 32
SETTINGS = ("", "", None, "", "", True, "", True, 0, 0, 0, 0, 0, 0, 0, 0)
"""Whose they are, system prompt, seed, stop strings, beginning, thinking; then the sliders in the panel's order."""


def panel(shown: View | None = None, **changes: Any) -> tuple[Any, ...]:
    """What the side panel sends once it is filled with the settings of a tab's conversation."""
    values: dict[str, Any] = {
        "system": "", "seed": None, "stop": "", "prefill": "", "thinks": True, "language": "",
        "stops_loops": True, "temperature": 0.7, "top_p": 0.8,
        "top_k": 20, "max_new_tokens": 256, "repetition_penalty": 1.05, "min_p": 0, "presence_penalty": 0,
        "frequency_penalty": 0,
    }  # fmt: skip
    conversation_id = shown.conversation_id if shown is not None else "some"
    return (filled_for(conversation_id, cast(Any, ScriptedModel(Script()))), *{**values, **changes}.values())


def request_of(tab: str, language: str = "en") -> Any:
    return SimpleNamespace(session_hash=tab, headers={"accept-language": language})


class Desk:
    """Handlers over a store of their own."""

    def __init__(self, script: Script | None = None, limits: StoreLimits | None = None) -> None:
        self.model = ScriptedModel(script or Script(answer="yes", tokens_per_s=2000))
        load: Any = ScriptedLoad(self.model)
        self.tabs = Tabs(60)
        self.conversations = Conversations(lambda one: self.tabs.num_showing(one) > 0, limits)
        self.answers = Answers(load, lambda one: self.tabs.is_here(one.owner), 10.0, self.conversations.save)
        self.handlers = Handlers(load, self.conversations, self.answers, self.tabs)

    def attach(self, owner: Any, conversation_id: Any, tab: str) -> View:
        return self.handlers.attach(owner, conversation_id, request_of(tab))[0]

    def ask(self, text: Any, view: Any, tab: str, settings: tuple[Any, ...] = SETTINGS) -> tuple[Any, str, Any]:
        return self.handlers.ask(request_of(tab), text, "", "", view, *settings)[:3]

    def finish(self, view: View) -> None:
        answer = self.answers.running(view.conversation_id)
        assert answer is None or answer.wait(5)


@pytest.mark.parametrize("owner", [None, "", "a" * 31, "A" * 32, "../" * 10, 5, ["a" * 32], "a" * 32 + "\n", {"a": 1}])
def test_an_owner_that_is_no_id_gets_a_fresh_one(owner: Any) -> None:
    view = Desk().attach(owner, "", "tab")
    assert view.owner != owner
    assert len(view.owner) == 32


def test_a_text_is_continued_with_the_panels_settings_stop_strings_among_them() -> None:
    desk = Desk()
    completion = CompletionHandlers(desk.handlers._load)
    for settings in (panel(stop="END\n###", temperature=0.1), SETTINGS):
        earlier, _live = completion.begin(request_of("tab"), "Once", [], *settings)
        assert earlier == ["Once"]
        assert completion._running["tab"]._thread.join(5) is None
        assert "tokens" in completion.end(request_of("tab"))
    assert desk.model.stops == [("END", "###"), ()]
    assert [one and one.temperature for one in desk.model.samplings] == [0.1, 0.7]


def test_a_conversation_that_is_gone_is_not_taken_for_the_last_one() -> None:
    desk = Desk()
    last = desk.attach(ALICE, "", "tab")
    desk.ask("hello", last, "tab")
    desk.finish(last)
    desk.tabs.leave("tab")
    assert desk.attach(ALICE, "c" * 32, "tab").conversation_id != last.conversation_id


def desk_with_trashed_conversation() -> tuple[Desk, View, Conversation]:
    """A tab that still shows what another one has put into the trash."""
    desk = Desk()
    view = desk.attach(ALICE, "", "tab")
    desk.ask("hello", view, "tab")
    desk.finish(view)
    conversation = desk.conversations.find(ALICE, view.conversation_id)
    assert conversation is not None
    desk.conversations.put_into_trash(conversation)
    return desk, view, conversation


def test_a_tab_that_asks_twice_for_a_lost_conversation_stays_in_the_one_it_was_given() -> None:
    desk = Desk()
    given = desk.attach(ALICE, "c" * 32, "tab")
    desk.ask("after a restart", given, "tab")
    desk.finish(given)
    assert desk.attach(ALICE, "c" * 32, "tab").conversation_id == given.conversation_id
    desk.conversations.delete_everything(ALICE)
    assert desk.attach(ALICE, given.conversation_id, "tab").conversation_id != given.conversation_id


def test_who_goes_on_in_a_conversation_takes_it_out_of_the_trash() -> None:
    desk, view, conversation = desk_with_trashed_conversation()
    desk.ask("and now?", view, "tab")
    desk.finish(view)
    assert conversation.record.deleted is None
    assert [one.record.id for one in desk.conversations.listing(ALICE)] == [view.conversation_id]


@pytest.mark.parametrize("conversation_id", [None, "", "../x", "0" * 32, 7, "a" * 33])
def test_an_unknown_conversation_becomes_a_new_one(conversation_id: Any) -> None:
    view = Desk().attach(ALICE, conversation_id, "tab")
    assert len(view.conversation_id) == 32
    assert view.conversation_id != conversation_id


def test_a_foreign_conversation_is_treated_as_a_missing_one() -> None:
    desk = Desk()
    hers = desk.attach(ALICE, "", "hers")
    desk.ask("my secret", hers, "hers")
    desk.finish(hers)
    his = desk.attach(BOB, hers.conversation_id, "his")
    assert his.conversation_id != hers.conversation_id
    forged = View(BOB, hers.conversation_id)
    conversation = desk.conversations.find(ALICE, hers.conversation_id)
    assert conversation is not None
    before = conversation.path()
    assert desk.handlers.copy(before[-1].id, forged) == ""
    desk.handlers.clear(forged)
    desk.handlers.stop(forged)
    for action in ("again", "choose", "continue", "branch", "take-back"):
        desk.handlers.act(request_of("his"), action, before[-1].id, "", "", forged, *SETTINGS)
    desk.ask("into hers", forged, "his")
    desk.handlers.ask(request_of("his"), "another wording", before[0].id, "", forged, *SETTINGS)
    assert conversation.path() == before


def test_a_reload_finds_the_same_conversation_and_a_second_tab_a_new_one() -> None:
    desk = Desk()
    first = desk.attach(ALICE, "", "one")
    assert desk.attach(ALICE, first.conversation_id, "two").conversation_id == first.conversation_id
    assert desk.attach(ALICE, "", "three").conversation_id != first.conversation_id


def test_a_new_tab_takes_up_the_last_conversation_when_no_tab_shows_it() -> None:
    desk = Desk()
    first = desk.attach(ALICE, "", "one")
    desk.handlers.detach(request_of("one"))
    assert desk.attach(ALICE, "", "two").conversation_id == first.conversation_id


@pytest.mark.parametrize("view", [None, {"owner": ALICE, "conversation_id": "0" * 32}, "View", View(ALICE, "0" * 32)])
def test_without_a_conversation_nothing_happens_and_the_user_is_told(view: Any) -> None:
    desk = Desk()
    box, notice, _undo = desk.ask("hello", view, "tab")
    assert box != ""
    assert say("en", "refused_no_conversation") in notice
    desk.handlers.stop(view)
    desk.handlers.clear(view)
    desk.handlers.undo_clear(view)
    assert desk.handlers.copy("x", view) == ""
    assert desk.model.prompts == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        (None, "empty"),
        ({"a": 1}, "empty"),
        ("\0", "empty"),
        ("x" * 65_537, "too_long"),
    ],
)
def test_a_question_that_is_none_is_refused(text: Any, reason: str) -> None:
    desk = Desk()
    view = desk.attach(ALICE, "", "tab")
    _box, notice, _undo = desk.ask(text, view, "tab")
    assert f"is-{reason}" in notice
    assert desk.model.prompts == []


def test_lone_surrogates_are_replaced_before_anything_is_stored() -> None:
    desk = Desk()
    view = desk.attach(ALICE, "", "tab")
    assert desk.ask("a\ud800b", view, "tab")[0] == ""
    desk.finish(view)
    assert desk.model.prompts[-1][-1].content == "a?b"


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": float("nan")},
        {"temperature": "0.5"},
        {"temperature": None},
        {"temperature": True},
        {"top_p": 7},
        {"max_new_tokens": 1e12},
        {"presence_penalty": 3},
        {"min_p": -1},
        {"seed": -1},
        {"seed": 1.5},
        {"seed": "7"},
        {"stop": "x\n" * 17},
        {"stop": "x" * 201},
        {"prefill": "x" * 4001},
    ],
)
def test_forged_settings_are_refused_and_nothing_is_asked(settings: dict[str, Any]) -> None:
    desk = Desk()
    view = desk.attach(ALICE, "", "tab")
    _box, notice, _undo = desk.ask("hello", view, "tab", panel(view, **settings))
    assert "is-invalid" in notice
    assert desk.model.prompts == []


def test_a_seed_is_kept_and_an_empty_one_draws_afresh() -> None:
    desk = Desk()
    view = desk.attach(ALICE, "", "tab")
    for seed in (7, None, None):
        desk.ask("hello", view, "tab", panel(view, seed=seed))
        desk.finish(view)
    first, *others = [one.seed for one in desk.model.samplings if one is not None]
    assert first == 7
    assert None not in others
    assert others[0] != others[1]


@pytest.mark.parametrize("shown", ["", False, True, "b" * 32])
def test_settings_of_a_panel_that_was_never_filled_or_shows_another_conversations_are_not_taken(shown: Any) -> None:
    desk = Desk()
    view = desk.attach(ALICE, "", "tab")
    desk.ask("hello", view, "tab", (shown, "evil", 9, "", "", True, "", True, 9, 9, 9, 9, 9, 9, 9, 9))
    desk.finish(view)
    sampling = desk.model.samplings[-1]
    assert sampling is not None
    assert sampling.changed(seed=None) == desk.model.default_sampling
    assert desk.model.prompts[-1][0].content == desk.model.default_system


def test_following_shows_every_state_and_ends_with_the_last() -> None:
    desk = Desk(Script(answer="one two three four", tokens_per_s=10))
    view = desk.attach(ALICE, "", "tab")
    desk.ask("hello", view, "tab")

    async def follow() -> list[Any]:
        return [shown async for shown in desk.handlers.follow(view, request_of("tab"))]

    states = asyncio.run(follow())
    assert 3 <= len(states) <= 8
    assert states[-1][-1]["content"][0]["text"] == "one two three four"
    assert "act-copy" in states[-1][-1]["content"][-1]["text"]


def test_a_second_follower_of_a_tab_leaves_it_to_the_first() -> None:
    desk = Desk(Script(answer="one two three four", tokens_per_s=20))
    view = desk.attach(ALICE, "", "tab")
    desk.ask("hello", view, "tab")

    async def follow() -> list[Any]:
        return [shown async for shown in desk.handlers.follow(view, request_of("tab"))]

    async def both() -> tuple[list[Any], list[Any]]:
        first = asyncio.create_task(follow())
        await asyncio.sleep(0)
        return await follow(), await first

    second, first = asyncio.run(both())
    assert second == [gr.skip()]  # nothing at all would empty the page
    assert first[-1][-1]["content"][0]["text"] == "one two three four"


def test_following_what_is_gone_does_not_empty_a_tab_that_shows_another_one_by_now() -> None:
    desk = Desk()
    gone = desk.attach(ALICE, "", "tab")
    desk.conversations.delete_everything(ALICE)
    given = desk.attach(ALICE, gone.conversation_id, "tab")
    desk.ask("after a restart", given, "tab")
    desk.finish(given)

    async def follow() -> list[Any]:
        return [shown async for shown in desk.handlers.follow(gone, request_of("tab"))]

    assert asyncio.run(follow())[-1][0]["content"][0]["text"] == "after a restart"
    assert desk.tabs.shown_in("tab") == given.conversation_id


def test_messages_are_in_the_language_of_the_request() -> None:
    desk = Desk()
    view = desk.attach(ALICE, "", "tab")
    _box, notice, *_rest = desk.handlers.ask(request_of("tab", "ja"), "", "", "", view, *SETTINGS)
    assert say("ja", "refused_empty") in notice


def test_too_many_open_conversations_are_refused_with_a_notice() -> None:
    desk = Desk(limits=StoreLimits(max_conversations_per_owner=1, drops_oldest=True))
    desk.attach(ALICE, "", "one")
    view, attached, _undo, notice = desk.handlers.attach(ALICE, "", request_of("two"))
    assert attached == ""
    assert view.conversation_id == ""
    assert "is-too_many" in notice


def test_the_panel_goes_on_with_a_branch_that_was_made_of_its_conversation() -> None:
    desk = Desk()
    view = desk.attach(ALICE, "", "tab")
    desk.ask("hello", view, "tab", panel(view, system="Be brief."))
    desk.finish(view)
    conversation = desk.conversations.find(ALICE, view.conversation_id)
    assert conversation is not None
    answer_id = conversation.path()[-1].id
    settings = panel(view, system="Be brief.")
    copied, *_rest, shown = desk.handlers.act(request_of("tab"), "branch", answer_id, "", "", view, *settings)
    assert shown == settings[0].replace(view.conversation_id, copied.conversation_id) != settings[0]
    desk.ask("and now?", copied, "tab", (shown, *settings[1:]))
    desk.finish(copied)
    assert desk.model.prompts[-1][0].content == "Be brief."


def test_a_panel_that_shows_another_models_defaults_changes_nothing() -> None:
    desk = Desk()
    view = desk.attach(ALICE, "", "tab")
    conversation = desk.conversations.find(ALICE, view.conversation_id)
    assert conversation is not None
    settings = panel(view, system="Be brief.", temperature=0.1)
    desk.model.name = "exchanged"
    desk.ask("hello", view, "tab", settings)
    desk.finish(view)
    assert (conversation.settings.system, conversation.settings.sampling) == (None, {})
    desk.model.name = "scripted"
    desk.ask("hello", view, "tab", settings)
    assert (conversation.settings.system, conversation.settings.sampling) == ("Be brief.", {"temperature": 0.1})


@pytest.mark.parametrize("action", ["choose", "keep", "nothing", "again"])
def test_only_who_asks_takes_a_conversation_out_of_the_trash(action: str) -> None:
    desk, view, conversation = desk_with_trashed_conversation()
    desk.model.script = Script(answer="yes", tokens_per_s=20)
    desk.handlers.act(request_of("tab"), action, conversation.path()[-1].id, "", "", view, *SETTINGS)
    desk.finish(view)
    assert (conversation.record.deleted is None) is (action == "again")
    desk.ask(" ", view, "tab")
    assert (conversation.record.deleted is None) is (action == "again")
