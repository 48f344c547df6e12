"""One conversation as one HTML file: to read and print anywhere, without a network and without JavaScript.

What comes in is a record and its messages; what goes out is a page that shows the branch on screen and holds the
whole tree as JSON, so that the same file can be imported. Formulas are MathML. Its policy allows no script, no
picture from elsewhere and no form, whatever stands in the texts.
"""

import time
from collections.abc import Sequence
from string import Template

from ui.chat.conversation import ConversationRecord
from ui.chat.export import as_json, branch
from ui.chat.message import StoredMessage
from ui.chat.reading import DATA_CLOSING, DATA_OPENING
from ui.web.error_strings import failure_text
from ui.web.fragments import STATIC, Fragment, fill, join
from ui.web.render import figures
from ui.web.static_markdown import as_source, to_html
from ui.web.strings import Language, say

_RENDER_S = 20.0
"""Beyond this the rest is shown as source."""


def as_html(
    record: ConversationRecord, messages: Sequence[StoredMessage], language: Language, render_s: float = _RENDER_S
) -> str:
    """The whole file. Takes up to `render_s` seconds; call it where nobody waits for the thread."""
    deadline = time.monotonic() + render_s
    path = branch(record, messages)
    title = record.title or say(language, "untitled")
    date = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.used))
    pieces = [_message(language, message, deadline) for message in path]
    if record.settings.system:
        system = Fragment(as_source(record.settings.system))
        pieces.insert(0, fill("export_fold", title=say(language, "system"), body=system))
    note = say(language, "exported_note", hidden=len(messages) - len(path))
    data = as_json(record, messages).replace("<", "\\u003c")  # inside JSON it only stands in strings
    page = Template((STATIC / "export.html").read_text(encoding="utf-8"))
    return page.substitute(
        language=language,
        title=_escaped(title),
        about=_escaped(say(language, "exported_about", date=date, messages=len(path))),
        style=(STATIC / "export.css").read_text(encoding="utf-8"),
        messages=join(pieces),
        note=_escaped(note),
        data=f"{DATA_OPENING}{data}{DATA_CLOSING}",
    )


def _message(language: Language, message: StoredMessage, deadline: float) -> Fragment:
    thought = failure = Fragment("")
    if message.reasoning:
        title = say(language, "thinking")
        if message.reasoning_s is not None:
            title = say(language, "thought", seconds=f"{message.reasoning_s:.1f}")
        thought = fill("export_fold", title=title, body=Fragment(to_html(message.reasoning, deadline)))
    if message.state == "failed":
        failure = fill("export_failure", text=failure_text(language, message))
    files = [
        fill("export_fold", title=f"{one.name} · {one.size}", body=Fragment(as_source(one.text)))
        for one in message.attachments
    ]
    return fill(
        "export_message",
        role=message.role,
        name=say(language, "you" if message.role == "user" else "model_menu"),
        thought=join([thought, *files]),
        body=Fragment(to_html(message.text, deadline)),
        failure=failure,
        facts=" · ".join(figures(language, message)),
    )


def _escaped(text: str) -> Fragment:
    return fill("export_text", text=text)
