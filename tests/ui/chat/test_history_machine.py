"""Whatever a user does in whatever order, the conversations are those of a simple model of them, also after a restart.

The store is a real file, the answers are a scripted model's; the model here is lists and dictionaries.
"""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.scripted_model import Script, ScriptedLoad, ScriptedModel
from ui.chat.answers import Answers
from ui.chat.conversation import Conversation
from ui.chat.conversations import Conversations
from ui.chat.database import Database
from ui.chat.refusal import Refused

ALICE, BOB = "a" * 32, "b" * 32
FIRST, SECOND = "First words ", "of an answer."
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=20).filter(
    str.strip
)


@dataclass
class Node:
    """A message as it should be: who said it, what, after which, and how an answer ended."""

    role: str
    text: str
    parent: str | None
    state: str = "complete"


@dataclass
class Expected:
    """A conversation as it should be."""

    nodes: dict[str, Node] = field(default_factory=dict)
    head: str | None = None
    put_away: str | None = None
    is_trashed: bool = False
    last_shown: dict[str | None, str] = field(default_factory=dict)

    def path(self) -> list[str]:
        """Ids from the root to the head."""
        found = []
        at = self.head
        while at is not None:
            found.append(at)
            at = self.nodes[at].parent
        return found[::-1]

    def show(self, head: str | None, put_away: str | None = None) -> None:
        """Moves the head, and remembers the way to it."""
        self.head, self.put_away = head, put_away
        for each in self.path():
            self.last_shown[self.nodes[each].parent] = each

    def add(self, id_: str, node: Node) -> None:
        """A new message becomes the head."""
        self.nodes[id_] = node
        self.show(id_)

    def leaf_below(self, id_: str) -> str:
        """Where the branch through a message was left."""
        while any(node.parent == id_ for node in self.nodes.values()):
            children = [each for each, node in self.nodes.items() if node.parent == id_]
            id_ = self.last_shown.get(id_, children[-1])
        return id_


class HistoryMachine(RuleBasedStateMachine):
    """Rules are what a user can do; the invariant compares everything that is shown.

    Ids are random, so they are drawn in the order in which they came: a second run draws the same.
    """

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.model = ScriptedModel()
        self.expected: dict[str, Expected] = {}
        self.conversation: Conversation | None = None
        self.open()

    def open(self) -> None:
        database = Database(Path(self.folder.name) / "history.db")
        database._writing.execute("PRAGMA synchronous = OFF")  # nobody pulls the plug here
        self.store = Conversations(lambda _id: False, database=database)
        load: Any = ScriptedLoad(self.model)
        self.answers = Answers(load, lambda _one: True, 10.0, self.store.save)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.model.released.set()
            self.answers.close(1)
            self.store.close()
            self.folder.cleanup()

    def follow_script(self, *, stops: bool) -> None:
        """The next answer comes whole, or hangs after its first words until it is stopped."""
        self.model.released.clear()
        self.model.script = Script(answer=FIRST + SECOND, tokens_per_s=1e6, hang_at=2 if stops else None)

    def finish(self, stops: bool) -> None:
        """Waits for the answer, or stops it once its first words are there; writes down what should be shown."""
        conversation = self.shown
        answer = self.answers.running(conversation.id)
        if stops:
            while answer is not None and conversation.path()[-1].text != FIRST:
                assert not answer.wait(0.001)
            with pytest.raises(Refused, match="still_answering"):
                self.answers.ask(conversation, "too early")
            if answer is not None:
                answer.end_as("stopped")
                self.model.released.set()
        assert answer is None or answer.wait(5)
        assert conversation.path()[-1].state == ("stopped" if stops else "complete")

    @property
    def shown(self) -> Conversation:
        assert self.conversation is not None
        return self.conversation

    @property
    def expectation(self) -> Expected:
        return self.expected[self.shown.id]

    def note_answer(self, question_id: str, stops: bool) -> None:
        answer = self.shown.path()[-1]
        whole = FIRST + SECOND
        assert answer.text.startswith(FIRST)  # the token that was on its way may still come
        assert whole.startswith(answer.text) if stops else answer.text == whole
        state = "stopped" if stops else "complete"
        self.expectation.add(answer.id, Node("assistant", answer.text, question_id, state))

    @rule()
    def new(self) -> None:
        self.conversation = self.store.create(ALICE)
        self.expected[self.conversation.id] = Expected()

    @precondition(lambda self: self.conversation)
    @rule(text=TEXTS, stops=st.booleans())
    def send(self, text: str, stops: bool) -> None:
        self.follow_script(stops=stops)
        parent = self.expectation.head
        self.answers.ask(self.shown, text)
        self.finish(stops)
        question = self.shown.path()[-2]
        self.expectation.add(question.id, Node("user", text, parent))
        self.note_answer(question.id, stops)

    @precondition(lambda self: self.conversation and self.expectation.head)
    @rule(stops=st.booleans())
    def regenerate(self, stops: bool) -> None:
        last = self.shown.path()[-1]
        if last.role != "assistant" or last.parent_id is None:
            with pytest.raises(Refused):
                self.answers.regenerate(self.shown, last.id)
            return
        self.follow_script(stops=stops)
        self.answers.regenerate(self.shown, last.id)
        self.finish(stops)
        self.note_answer(last.parent_id, stops)

    @precondition(lambda self: self.conversation and self.expectation.nodes)
    @rule(text=TEXTS, data=st.data())
    def edit(self, text: str, data: st.DataObject) -> None:
        id_ = data.draw(st.sampled_from(list(self.expectation.nodes)))
        old = self.expectation.nodes[id_]
        self.follow_script(stops=False)
        answer = self.answers.edit(self.shown, id_, text)
        if old.role == "assistant":
            assert answer is None
            self.expectation.add(self.shown.path()[-1].id, Node("assistant", text, old.parent))
            return
        self.finish(stops=False)
        question = self.shown.path()[-2]
        self.expectation.add(question.id, Node("user", text, old.parent))
        self.note_answer(question.id, False)

    @precondition(lambda self: self.conversation and self.expectation.head)
    @rule()
    def go_on(self) -> None:
        head = self.expectation.head
        assert head is not None
        if self.expectation.nodes[head].state != "stopped":
            with pytest.raises(Refused, match="nothing_to_continue"):
                self.answers.resume(self.shown, head)
            return
        self.follow_script(stops=False)
        self.model.script.answer = SECOND
        answer = self.answers.resume(self.shown, head)
        assert answer.wait(5)
        node = self.expectation.nodes[head]
        node.text, node.state = node.text + SECOND, "complete"

    @precondition(lambda self: self.conversation and self.expectation.nodes)
    @rule(data=st.data())
    def choose(self, data: st.DataObject) -> None:
        id_ = data.draw(st.sampled_from(list(self.expectation.nodes)))
        assert self.shown.choose(id_)
        self.expectation.show(self.expectation.leaf_below(id_))

    @precondition(lambda self: self.conversation)
    @rule()
    def clear(self) -> None:
        self.shown.put_away()
        if self.expectation.head is not None:
            self.expectation.show(None, self.expectation.head)

    @precondition(lambda self: self.conversation)
    @rule()
    def undo(self) -> None:
        assert self.shown.can_bring_back == (self.expectation.put_away is not None)
        self.shown.bring_back()
        if self.expectation.put_away is not None:
            self.expectation.show(self.expectation.put_away)

    @precondition(lambda self: any(each.nodes for each in self.expected.values()))
    @rule(data=st.data())
    def switch(self, data: st.DataObject) -> None:
        known = [id_ for id_, each in self.expected.items() if each.nodes]
        chosen = data.draw(st.sampled_from(known))
        assert self.store.find(BOB, chosen) is None
        self.conversation = self.store.find(ALICE, chosen)
        assert self.conversation is not None

    @rule(is_crash=st.booleans())
    def reload(self, is_crash: bool) -> None:
        """The program ends and begins again; what was put away, chosen and thrown away stays so."""
        old = self.store
        old.save_all()
        if not is_crash:
            old.close()
        self.open()
        if is_crash:
            old.close()
        self.expected = {id_: each for id_, each in self.expected.items() if each.nodes}
        for each in self.expected.values():
            each.last_shown = {}  # only the branch on screen is remembered
            each.show(each.head, each.put_away)
        is_known = self.conversation is not None and self.conversation.id in self.expected
        self.conversation = self.store.find(ALICE, self.shown.id) if is_known else None

    @precondition(lambda self: self.conversation)
    @rule()
    def trash(self) -> None:
        self.store.put_into_trash(self.shown)
        self.expectation.is_trashed = True

    @precondition(lambda self: self.conversation)
    @rule()
    def restore(self) -> None:
        self.store.restore(self.shown)
        self.expectation.is_trashed = False

    @rule()
    def empty_trash(self) -> None:
        self.store.empty_trash(BOB)
        gone = {id_ for id_, each in self.expected.items() if each.is_trashed and each.nodes}
        assert self.store.empty_trash(ALICE) == len(gone)
        self.expected = {id_: each for id_, each in self.expected.items() if id_ not in gone}
        if self.conversation is not None and self.conversation.id not in self.expected:
            self.conversation = None

    @invariant()
    def everything_is_as_it_should_be(self) -> None:
        if not hasattr(self, "store"):
            return
        said = {id_: each for id_, each in self.expected.items() if each.nodes}
        for is_trash in (False, True):
            listed = {one.record.id for one in self.store.listing(ALICE, is_trash=is_trash, limit=1000)}
            assert listed == {id_ for id_, each in said.items() if each.is_trashed == is_trash}
        assert self.store.listing(BOB) == []
        if self.conversation is not None:
            expected = self.expectation
            path = self.conversation.path()
            assert [(one.id, one.role, one.text, one.state) for one in path] == [
                (id_, expected.nodes[id_].role, expected.nodes[id_].text, expected.nodes[id_].state)
                for id_ in expected.path()
            ]
            stored = {one.id for one in self.store.database.messages(self.conversation.id)}
            assert stored == set(expected.nodes)


def test_no_order_of_actions_loses_or_mixes_a_conversation() -> None:
    run_state_machine_as_test(
        HistoryMachine,
        settings=settings(
            max_examples=15,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )
