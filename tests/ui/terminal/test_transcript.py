"""Conversations as files: what was saved comes back, and a stranger's file is refused with the reason."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_loader.engine.request import Sampling
from ui.chat.conversation import Settings
from ui.chat.message import StoredMessage
from ui.terminal.transcript import (
    Transcript,
    TranscriptError,
    as_json,
    as_markdown,
    path_of,
    read_transcript,
    write_file,
)

SETTINGS = Settings("Be brief.", {"temperature": 0.2, "seed": 7}, ("END",))
MESSAGES = (
    StoredMessage("user", "Hello 你好"),
    StoredMessage("assistant", "Hi\x1b[2J \u202e there", reasoning="hm", state="stopped"),
)
GOOD: dict[str, Any] = json.loads(as_json("A title", SETTINGS, MESSAGES))


def read(path: Path) -> Transcript:
    return read_transcript(path, Sampling())


def test_what_was_saved_is_loaded_again(tmp_path: Path) -> None:
    path = tmp_path / "conversation.json"
    write_file(path, as_json("A title", SETTINGS, MESSAGES))
    found = read(path)
    assert (found.title, found.settings) == ("A title", SETTINGS)
    assert [(one.role, one.text, one.reasoning, one.state) for one in found.messages] == [
        (one.role, one.text, one.reasoning, one.state) for one in MESSAGES
    ]


def test_files_are_safe_to_look_at_and_private(tmp_path: Path) -> None:
    path = tmp_path / "conversation.json"
    write_file(path, as_json("\x9b2J", SETTINGS, MESSAGES))
    text = path.read_text(encoding="utf-8")
    assert not {"\x1b", "\x9b", "\u202e"} & set(text)
    assert "你好" in text
    assert path.stat().st_mode & 0o077 == 0
    markdown = as_markdown("A title", [("User[1]", "Hello"), ("Qwen[1]", "Hi\x1b[2J\n\nthere\n")])
    assert markdown == "# A title\n\n## User[1]\n\nHello\n\n## Qwen[1]\n\nHi\n\nthere\n"


def test_a_file_is_replaced_whole_and_nothing_else_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    write_file(path, "old")
    write_file(path, "new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.md"]
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for bad in (tmp_path / "folder", tmp_path / "fifo", tmp_path / "none" / "a.md", tmp_path / ("x" * 300)):
        with pytest.raises(TranscriptError, match=r"cannot be written|no file"):
            write_file(bad, "text")
    assert sorted(os.listdir(tmp_path)) == ["a.md", "fifo", "folder"]


def test_names_may_be_quoted_and_begin_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert path_of(' "my file.md" ') == Path("my file.md")
    assert path_of("~/a.json") == Path("/home/someone/a.json")
    for bad in ("", "  ", '""', "a\0b", "~nobody-of-that-name/x"):
        with pytest.raises(TranscriptError):
            path_of(bad)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is no JSON"),
        (b"\xff\xfe{\x00}\x00", "is no JSON"),
        (b"{", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "is no JSON"),
        (b"[]", "is no conversation of this program"),
        (b"null", "is no conversation of this program"),
        (b'[{"role": "user", "content": "hi"}]', "is no conversation of this program"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "other\x1b[2J.json"
    path.write_bytes(content)
    with pytest.raises(TranscriptError, match=complaint) as caught:
        read(path)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("version", 2, "has version 2"),
        ("version", None, "has version None"),
        ("messages", None, "no messages"),
        ("messages", [], "no messages"),
        ("messages", {}, "no messages"),
        ("messages", ["hi"], "message 1 is no object"),
        ("messages", [{"role": "system", "text": "x"}], "the role 'system'"),
        ("messages", [{"role": ["user"], "text": "x"}], "the role"),
        ("messages", [{"role": "assistant", "text": "x"}], "does not begin with a question"),
        ("messages", [{"role": "user", "text": 5}], "has no text"),
        ("messages", [{"role": "user"}], "has no text"),
        ("messages", [{"role": "user", "text": "x", "state": "streaming"}], "the state 'streaming'"),
        ("messages", [{"role": "user", "text": "x", "state": {}}], "the state"),
        ("messages", [{"role": "user", "text": "x"}] * 10_001, "10,001 messages"),
        ("title", ["x"], "title"),
        ("settings", [], "settings are no object"),
        ("settings", {"sampling": {"evil": 1}}, "other settings"),
        ("settings", {"sampling": [1]}, "other settings"),
        ("settings", {"sampling": {"temperature": 99}}, "temperature is 99"),
        ("settings", {"sampling": {"top_k": 10**400}}, "too many digits"),
        ("settings", {"system": 5}, "another kind"),
        ("settings", {"stop": [5]}, "stop is"),
        ("settings", {"prefill": 5}, "another kind"),
    ],
)
def test_a_damaged_file_is_refused_with_its_fault(tmp_path: Path, key: str, value: Any, complaint: str) -> None:
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps({**GOOD, key: value}))
    with pytest.raises(TranscriptError) as caught:
        read(path)
    assert complaint in str(caught.value)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for bad in (tmp_path, tmp_path / "fifo", tmp_path / "missing.json", Path("/dev/zero")):
        with pytest.raises(TranscriptError):
            read(bad)


def test_half_characters_in_a_file_are_marked(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**GOOD, "messages": [{"role": "user", "text": "a\ud800"}]}))
    assert read(path).messages[0].text == "a\ufffd"


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["role", "text", "sampling", "stop", "user", "state"]), inner, max_size=3),
                    max_leaves=8), st.sampled_from(sorted(GOOD)))  # fmt: skip
def test_no_file_does_more_than_be_refused(tmp_path_factory: pytest.TempPathFactory, value: Any, key: str) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile.json"
    path.write_text(json.dumps({**GOOD, key: value}))
    with contextlib.suppress(TranscriptError):
        read(path)
