"""Files that go with a question in the terminal."""

import json
from pathlib import Path

import pytest

from tests.ui.chat import pdfs
from tests.ui.terminal.test_commands import Room


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "prices.csv"
    path.write_text("apple,3\n")
    return path


def test_a_file_goes_with_the_next_question_and_only_with_that(tmp_path: Path, csv: Path) -> None:
    room = Room()
    report = tmp_path / "a report.pdf"
    report.write_bytes(pdfs.pdf("Profits rose"))
    assert "prices.csv  8 B, 8 characters" in room.run(f":attach {csv}")
    assert "a report.pdf" in room.run(f':attach "{report}"')
    room.ask("cheapest?")
    room.ask("and now?")
    assert [one.content for one in room.model.prompts[-1] if one.role == "user"] == [
        "File: prices.csv\n```csv\napple,3\n```\n\nFile: a report.pdf\n```\nProfits rose\n```\n\ncheapest?",
        "and now?",
    ]
    assert "[prices.csv, 8 B]" in room.run(":history")
    assert "No file goes" in room.run(":attach")
    room.run(f":attach {csv}")
    assert "No file goes" in room.run(":attach none")


def test_files_are_saved_and_loaded_with_the_conversation(tmp_path: Path, csv: Path) -> None:
    room = Room()
    room.run(f":attach {csv}")
    room.ask("cheapest?")
    saved, page = tmp_path / "talk.json", tmp_path / "talk.md"
    room.run(f":save {saved}")
    room.run(f":save {page}")
    assert "```csv\napple,3\n```" in page.read_text()
    room.run(f":load {saved}")
    assert room.chat.messages()[0].attachments[0].text == "apple,3\n"
    whole = json.loads(saved.read_text())
    whole["messages"][1]["attachments"] = whole["messages"][0]["attachments"]
    saved.write_text(json.dumps(whole))
    assert "is an answer and has files" in room.run(f":load {saved}")
    whole["messages"][0]["attachments"] = [{"path": "/etc/passwd"}]
    saved.write_text(json.dumps(whole))
    assert "has files that this program does not know" in room.run(f":load {saved}")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("photo.txt", b"\x89PNG\r\n\x1a\n\0", "its content is PNG"),
        ("b\x1b[31m.bin", bytes(range(256)), "holds binary data"),
        ("empty.txt", b"", "is empty"),
        ("scan.pdf", pdfs.pdf(""), "no text"),
        ("latin.txt", b"Stra\xdfe", "byte 0xDF in line 1"),
    ],
)
def test_a_bad_file_is_told_and_not_attached(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    room = Room()
    (tmp_path / name).write_bytes(data)
    shown = room.run(f":attach {tmp_path / name}")
    assert said in shown
    assert "\x1b" not in shown
    assert room.chat.attached() == ()


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    room = Room()
    assert "Is a directory" in room.run(f":attach {tmp_path}")
    assert "cannot be read" in room.run(f":attach {tmp_path / 'missing'}")
