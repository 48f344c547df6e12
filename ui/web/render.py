"""A conversation as the list of messages that the Chatbot shows.

What comes in is a branch of stored messages and what the running answer is doing; what goes out is a new list of
dictionaries with text blocks. Never a bare string: Gradio would strip its indentation. It knows no events.
"""

from typing import Any

from ui.chat.answer import Answer, AnswerStatus
from ui.chat.conversation import Conversation
from ui.chat.message import StoredMessage
from ui.web.error_strings import failure_text
from ui.web.files import message_chips
from ui.web.fragments import Fragment, fill, join
from ui.web.markdown import as_source, normalise
from ui.web.strings import Language, say
from ui.web.watch_bars import shown_text, watch_bars

SHOWN_MESSAGES = 60

Shown = dict[str, Any]


class Transcript:
    """Renders one conversation for one screen; keeps what it made of messages that no longer change."""

    def __init__(self, language: Language) -> None:
        self._language = language
        self._turned: frozenset[str] = frozenset()
        self._cache: dict[str, tuple[tuple[object, ...], list[Shown]]] = {}

    def render(
        self,
        conversation: Conversation,
        answer: Answer | None,
        max_shown: int,
        turned: frozenset[str] = frozenset(),
    ) -> list[Shown]:
        """The newest messages of the branch on screen, at most about `max_shown`, beginning with a question.

        Answers whose ids are in `turned` are shown as they were written.
        """
        self._turned = turned
        before, messages = conversation.newest(max_shown)
        shown: list[Shown] = []
        if before:
            text = say(self._language, "earlier", messages=min(before, SHOWN_MESSAGES))
            shown.append(_block("assistant", fill("earlier", text=text)))
        reads_from, left_out = (messages[-1].reads_from, messages[-1].left_out) if messages else (None, 0)
        for message in messages:
            if message.id == reads_from:
                text = say(self._language, "left_out", messages=left_out)
                shown.append(_block("assistant", fill("left_out", text=text)))
            live = answer.status if answer is not None and answer.message_id == message.id else None
            is_last, siblings = message is messages[-1], conversation.siblings(message.id)
            shown += self._message(message, is_last, siblings, live)
        return shown

    def _message(
        self, message: StoredMessage, is_last: bool, siblings: tuple[str, ...], live: AnswerStatus | None
    ) -> list[Shown]:
        if message.state == "streaming":
            return self._live_answer(message, live or AnswerStatus("reading"))
        make = self._question if message.role == "user" else self._answer
        key = (message, is_last, siblings, message.id in self._turned)
        return self._cached(message, key, lambda: make(message, is_last, siblings))

    def _question(self, message: StoredMessage, is_last: bool, siblings: tuple[str, ...]) -> list[Shown]:
        actions = [self._action("edit", message.id, "edit"), *self._versions(message, siblings)]
        foot = fill("question_foot", id=message.id, actions=join(actions))
        pieces = [*message_chips(self._language, message), normalise(message.text), foot]
        return [{"role": "user", "content": [{"type": "text", "text": str(piece)} for piece in pieces if piece]}]

    def _cached(self, message: StoredMessage, key: tuple[object, ...], make: Any) -> list[Shown]:
        known = self._cache.get(message.id)
        if known is None or known[0] != key:
            known = self._cache[message.id] = (key, make())
        return known[1]

    def _live_answer(self, message: StoredMessage, status: AnswerStatus) -> list[Shown]:
        return self._body(message, fill("live", text=live_text(self._language, status)), status.thought_s)

    def _answer(self, message: StoredMessage, is_last: bool, siblings: tuple[str, ...]) -> list[Shown]:
        facts = Fragment(" · ".join(fill("fact", text=fact) for fact in figures(self._language, message)))
        foot = fill("foot", id=message.id, actions=join(self._actions(message, is_last, siblings)), facts=facts)
        if message.loops_at or message.drifted_from:
            foot = join([*watch_bars(self._language, message, is_last), foot])
        if message.state != "failed":
            return self._body(message, foot)
        text = failure_text(self._language, message)
        return self._body(message, join([fill("failure", text=text), foot]))

    def _actions(self, message: StoredMessage, is_last: bool, siblings: tuple[str, ...]) -> list[Fragment]:
        actions = []
        if message.text:
            actions.append(self._action("copy", message.id, "copy"))
            state = "is-on" if message.id in self._turned else "is-off"
            label = say(self._language, "show_source")
            actions.append(fill("toggle", action="source", id=message.id, state=state, label=label))
        if is_last:
            actions.append(self._action("again", message.id, "regenerate"))
            if message.is_unfinished:
                actions.append(self._action("continue", message.id, "go_on"))
        if message.text:
            actions.append(self._action("edit", message.id, "edit_answer"))
            actions.append(self._action("branch", message.id, "branch"))
        if is_last:
            actions.append(self._action("take-back", message.id, "take_back"))
        if message.receipt is not None:
            actions.append(self._action("receipt", message.id, "receipt"))
        return actions + self._versions(message, siblings)

    def _versions(self, message: StoredMessage, siblings: tuple[str, ...]) -> list[Fragment]:
        if len(siblings) < 2:
            return []
        at = siblings.index(message.id)
        previous, following = siblings[at - 1], siblings[(at + 1) % len(siblings)]
        return [
            self._action("back", previous, "previous_version"),
            fill("fact", text=f"{at + 1}/{len(siblings)}"),
            self._action("next", following, "next_version"),
        ]

    def _action(self, action: str, message_id: str, label: str) -> Fragment:
        return fill("action", action=action, id=message_id, label=say(self._language, label))

    def _body(self, message: StoredMessage, foot: Fragment, thought_s: int = 0) -> list[Shown]:
        shown = []
        if message.reasoning:
            shown.append(self._reasoning(message, thought_s))
        text = shown_text(message)
        is_turned = message.id in self._turned and message.state != "streaming"
        made = fill("source", text=as_source(message.text)) if is_turned else normalise(text)
        blocks = [{"type": "text", "text": str(made)}] if text else []
        return [*shown, {"role": "assistant", "content": [*blocks, {"type": "text", "text": str(foot)}]}]

    def _reasoning(self, message: StoredMessage, thought_s: int) -> Shown:
        is_over = message.reasoning_s is not None or message.state != "streaming"
        title = say(self._language, "thinking")
        if thought_s:
            title = say(self._language, "thinking_since", seconds=thought_s)
        if message.reasoning_s is not None:
            title = say(self._language, "thought", seconds=f"{message.reasoning_s:.1f}")
        thought = _block("assistant", normalise(message.reasoning))
        return {**thought, "metadata": {"title": title, "status": "done" if is_over else "pending"}}


def figures(language: Language, message: StoredMessage) -> list[str]:
    """What is said about an ended answer, in order: how it ended, tokens, tokens/s, time to the first token."""
    facts = []
    if message.is_edited:
        facts.append(say(language, "edited"))
    if message.state in ("stopped", "interrupted"):
        facts.append(say(language, message.state))
    usage = message.usage
    if usage is not None:
        counted = "token" if usage.completion_tokens == 1 else "tokens"
        about = "≈" if usage.is_estimate else ""
        facts.append(say(language, counted, tokens=f"{about}{usage.completion_tokens:,}"))
        if usage.tokens_per_s is not None:
            facts.append(say(language, "speed", speed=f"{usage.tokens_per_s:.1f}"))
        facts.append(say(language, "first_token", seconds=f"{usage.first_token_s:.2f}"))
        if usage.cached_prompt_tokens:
            facts.append(say(language, "cached", tokens=f"{usage.cached_prompt_tokens:,}"))
    if message.finish_reason == "length":
        facts.append(say(language, "cut"))
    if message.left_out:
        facts.append(say(language, "left_out_short", messages=message.left_out))
    return facts


def live_text(language: Language, status: AnswerStatus) -> str:
    """What a running answer is doing, in a few words."""
    if status.phase == "queued":
        return say(language, "queued", ahead=status.ahead, waiting=status.waiting)
    if status.phase == "loading" and status.progress is not None:
        stage = say(language, f"loading_{status.progress.stage}")
        percent = "" if status.progress.fraction is None else f" {status.progress.fraction:.0%}"
        return f"{stage}{percent}"
    if status.phase == "thinking":
        return ""  # the reasoning's own title says so
    if status.phase == "reading" and status.tokens:
        return say(language, "reading_tokens", read=f"{status.tokens_read:,}", tokens=f"{status.tokens:,}")
    return say(language, "writing" if status.phase == "loading" else status.phase)


def _block(role: str, text: str) -> Shown:
    return {"role": role, "content": [{"type": "text", "text": str(text)}]}
