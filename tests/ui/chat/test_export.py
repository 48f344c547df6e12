"""What leaves the program: Markdown, file names, archives."""

import io
import json
import zipfile

import pytest

from tests.ui.chat.trees import grown_conversation
from ui.chat.conversation import ConversationRecord
from ui.chat.export import as_json, as_markdown, as_zip, branch, file_name
from ui.chat.message import StoredMessage
from ui.chat.refusal import Refused

NAMES = {"user": "You", "assistant": "Qwen", "reasoning": "Thoughts"}


def test_markdown_holds_the_branch_on_screen_and_closes_what_a_cut_answer_left_open() -> None:
    conversation = grown_conversation()
    said = as_markdown("A title\nof two lines", conversation.path(), NAMES)
    assert said.startswith(
        "# A title of two lines\n\n## You\n\nWhat is **2 + 2**?\n\n\tIndented, 好的。\n\n## Qwen\n\n"
    )
    assert "> **Thoughts**\n>\n> Let me add.\n\nIt is $4$." in said
    assert said.endswith("```python\nprint(\n```\n")
    assert "Out of memory" not in said


def test_nothing_in_json_says_whose_it_is() -> None:
    conversation = grown_conversation()
    record, messages = conversation.tree()
    text = as_json(record, messages)
    assert all(secret not in text for secret in (conversation.owner, conversation.id, *(one.id for one in messages)))
    assert [row["parent"] for row in json.loads(text)["messages"]] == [None, 1, 1, 2, 4]


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("How do whales sleep?", "qwen-chat-How-do-whales-sleep.md"),
        ("东京有什么好玩的", "qwen-chat-东京有什么好玩的.md"),
        ("วันนี้อากาศดี", "qwen-chat-วันนี้อากาศดี.md"),
        ("नमस्ते दुनिया", "qwen-chat-नमस्ते-दुनिया.md"),
        ("../../etc/cron.d/x", "qwen-chat-etc-cron-d-x.md"),
        ("..\\..\\a\0b.", "qwen-chat-a-b.md"),
        ("CON", "qwen-chat-CON.md"),
        ("=cmd|'/c calc'!A1", "qwen-chat-cmd-c-calc-A1.md"),
        ('"><script>\n', "qwen-chat-script.md"),
        ("x" * 300, f"qwen-chat-{'x' * 48}.md"),
        ("", "qwen-chat-conversation.md"),
        ("\u202egpj.exe", "qwen-chat-gpj-exe.md"),
    ],
)
def test_a_file_name_is_ours_whatever_the_title_is(title: str, name: str) -> None:
    assert file_name(title, "md") == name


def test_an_archive_holds_each_conversation_twice_under_names_of_ours() -> None:
    tree = grown_conversation().tree()
    with zipfile.ZipFile(io.BytesIO(as_zip([tree, tree], NAMES, "Untitled"))) as archive:
        names = archive.namelist()
        assert archive.read(names[0]).decode() == as_json(*tree)
    assert names == [
        "0001-cmd-c-calc-A1-script.json",
        "0001-cmd-c-calc-A1-script.md",
        "0002-cmd-c-calc-A1-script.json",
        "0002-cmd-c-calc-A1-script.md",
    ]


def test_an_archive_of_nothing_and_one_that_grows_too_large_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="nothing_to_export"):
        as_zip([], NAMES, "Untitled")
    monkeypatch.setattr("ui.chat.export.MAX_FILE_BYTES", 2000)
    with pytest.raises(Refused, match="export_too_large"):
        as_zip([grown_conversation().tree()] * 9, NAMES, "Untitled")


def test_without_a_branch_on_screen_the_newest_is_written() -> None:
    question = StoredMessage("user", "one")
    answer = StoredMessage("assistant", "two", parent_id=question.id)
    assert branch(ConversationRecord("c" * 32, "a" * 32), [question, answer]) == [question, answer]
    assert branch(ConversationRecord("c" * 32, "a" * 32), []) == []
