"""What stands under an answer that repeats itself or has left its language: what was noticed, and what can be done."""

from ui.chat.message import StoredMessage
from ui.web.fragments import Fragment, fill, join
from ui.web.strings import Language, say
from ui.web.watch_strings import LANGUAGE_NAMES

_EXCERPT_CHARS = 32
_MAX_FOLDED_CHARS = 2_000


def shown_text(message: StoredMessage) -> str:
    """The text of an answer without the tail that only repeats it."""
    loops = message.loops_at and not message.loops_in_reasoning
    return message.text[: message.loops_at].rstrip() if loops else message.text


def watch_bars(language: Language, message: StoredMessage, is_last: bool) -> list[Fragment]:
    """Only the last answer of a branch can be redone; what was noticed is told of any."""
    bars = []
    if message.loops_at:
        acts = [("keep", "loop_keep"), ("penalty", "loop_penalty"), ("warmer", "loop_warmer")]
        buttons = [_button(action, message, say(language, label)) for action, label in acts if is_last]
        if message.loops_in_reasoning:
            bars.append(fill("watch", text=say(language, "looped_thoughts"), actions=join(buttons)))
        else:
            tail = message.text[message.loops_at :]
            folded = tail[:_MAX_FOLDED_CHARS] + "…" * (len(tail) > _MAX_FOLDED_CHARS)
            title = say(language, "looped_tail", characters=f"{len(tail):,}")
            bars.append(fill("fold", title=title, text=folded))
            bars.append(fill("watch", text=say(language, "looped"), actions=join(buttons)))
    if message.drifted_from:
        name = LANGUAGE_NAMES.get(message.drifted_from, message.drifted_from)
        excerpt = " ".join(message.text[message.drifted_at :][:200].split())
        short = excerpt[:_EXCERPT_CHARS] + "…" * (len(excerpt) > _EXCERPT_CHARS)
        redo = _button("redo", message, say(language, "drift_redo", name=name))
        buttons = [redo, _button("keep", message, say(language, "loop_keep"))] if is_last else []
        text = say(language, "drifted", name=name, excerpt=short)
        bars.append(fill("watch", text=text, actions=join(buttons)))
    return bars


def _button(action: str, message: StoredMessage, label: str) -> Fragment:
    return fill("watch_action", action=action, id=message.id, label=label)
