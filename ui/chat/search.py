"""Words in the texts of messages and of their files.

In go words and a way to ask the database; out come ids of conversations and what stands around the first word.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_TRIGRAM = 3
LookFor = Callable[[str, Sequence[Any]], list[Any]]
"""The rows of a query with its values."""


@dataclass(frozen=True, slots=True)
class _Searched:
    """Where words are looked for: a table, its index, what of a row is read and shown (? is the first word), and the
    way to the row's message."""

    table: str
    index: str
    text: str
    shown: str
    joins: str = ""


_IN_MESSAGES = _Searched("messages", "words", "messages.text", "messages.text")
_IN_FILES = _Searched(
    "attachments",
    "attached_words",
    "attachments.name || ': ' || attachments.text",
    "attachments.name || ': ' || substr(attachments.text, max(1, instr(lower(attachments.text), lower(?)) - 50), 300)",
    "JOIN messages ON messages.id = message_id",
)


def search_texts(
    look_for: LookFor, owner: str, words: Sequence[str], state: str, limit: int
) -> Iterator[tuple[str, str]]:
    """Ids of the owner's conversations that have all words in one message or one file, used last first, and a snippet.

    Words of one or two characters (most Chinese words are no longer) are too short for the index and are looked for in
    every text.

    Args:
        look_for: asks the database.
        owner: whose conversations; the value of the first ? in `state`.
        words: at least one.
        state: a condition on `conversations`.
        limit: of the conversations found in messages, and of those found in files.
    """
    for place in (_IN_MESSAGES, _IN_FILES):
        yield from _search_in(place, look_for, owner, words, state, limit)


def _search_in(
    place: _Searched, look_for: LookFor, owner: str, words: Sequence[str], state: str, limit: int
) -> list[tuple[str, str]]:
    long = [word for word in words if len(word) >= _TRIGRAM]
    short = [word for word in words if len(word) < _TRIGRAM]
    conditions, values = [state], [owner]
    source = place.table
    if long:
        source = f"{place.index} JOIN {place.table} ON {place.table}.number = {place.index}.rowid"
        conditions.append(f"{place.index} MATCH ?")
        values.append(" AND ".join('"' + word.replace('"', '""') + '"' for word in long))
    conditions += [f"{place.text} LIKE ? ESCAPE '\\'"] * len(short)
    values += map(like, short)
    rows = look_for(
        f"SELECT conversation_id, min({place.table}.number) FROM {source} {place.joins} "
        f"JOIN conversations ON conversations.id = conversation_id WHERE {' AND '.join(conditions)} "
        "GROUP BY conversation_id ORDER BY used DESC LIMIT ?",
        (*values, limit),
    )
    shown = f"SELECT {place.shown} FROM {place.table} WHERE number = ?"
    in_text = [words[0]] * place.shown.count("?")
    texts = {id_: look_for(shown, (*in_text, number)) for id_, number in rows}
    return [(id_, _around(found[0][0], words[0])) for id_, found in texts.items() if found]


def like(word: str) -> str:
    r"""The word as a pattern of LIKE with the escape character \, found anywhere in a text."""
    escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _around(text: str, word: str) -> str:
    """Some characters before and after a word, on one line."""
    found = re.search(re.escape(word), text, re.IGNORECASE)
    at = found.start() if found else 0
    start = max(0, at - 30)
    return ("…" if start else "") + " ".join(text[start : at + len(word) + 60].split())
