"""The table of texts: complete in every language, and nothing in it that nobody says."""

import re
import string
from pathlib import Path
from typing import get_args

import pytest

from model_loader.progress import Stage
from ui.chat.reading import ImportReason
from ui.chat.refusal import FileReason, Reason
from ui.web import strings
from ui.web.keys import SHORTCUTS
from ui.web.panel import ALL_SLIDERS
from ui.web.presets import OUR_PRESETS
from ui.web.strings import LANGUAGES, STARTERS, language_of, say, static_strings

TABLE = strings._TABLE
SOURCES = Path(strings.__file__).parent


def figures(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("key", TABLE)
def test_every_text_exists_in_every_language_with_the_same_figures(key: str) -> None:
    texts = TABLE[key]
    assert len(texts) == len(LANGUAGES)
    assert all(text.strip() for text in texts)
    assert len({frozenset(figures(text)) for text in texts}) == 1


def test_every_text_is_said_somewhere_and_everything_said_exists() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES.glob("*.py") if path.name != "strings.py")
    keys = set(re.findall(r'I18N\("(\w+)"\)', code)) | set(re.findall(r'say\([^",]+, "(\w+)"', code))
    keys |= {f"loading_{stage}" for stage in get_args(Stage)} | {f"refused_{reason}" for reason in get_args(Reason)}
    explained = (*ALL_SLIDERS, "stop_strings", "prefill")
    keys |= {*STARTERS, *explained, *(f"{name}_info" for name in explained)}
    keys |= {f"preset_{name}{part}" for name in OUR_PRESETS for part in ("", "_system")}
    keys |= {f"group_{name}" for name in ("pinned", "today", "yesterday", "week", "earlier")}
    keys |= {"stopped", "interrupted", "reading", "thinking", "writing"}
    keys |= {"title", "tokens", "token", "copy", "regenerate", "previous_version", "next_version"}
    keys |= {"edit", "edit_answer", "go_on", "branch", "take_back", "receipt"}  # what an action is called
    keys |= {"pin", "unpin", "rename", "to_trash", "restore", "nothing_found", "no_conversations", "trash_empty"}
    keys |= {meaning for _keys, meaning in SHORTCUTS}
    keys |= {f"import_{reason}" for reason in get_args(ImportReason)}
    keys |= {f"file_{reason}" for reason in get_args(FileReason)}
    keys |= {"loop_keep", "loop_penalty", "loop_warmer", "looped"}
    keys |= {"you", "model_menu", "stopped"}
    assert keys == set(TABLE)


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("en-US,en;q=0.9", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("zh-TW", "zh"),
        ("ZH", "zh"),
        ("ja;q=1.0,en", "ja"),
        ("fr-FR,zh;q=0.9", "en"),
        ("*", "en"),
        ("jalapeno", "en"),
    ],
)
def test_the_first_language_of_the_browser_counts(header: str | None, language: str) -> None:
    assert language_of(header) == language


def test_figures_are_filled_in() -> None:
    assert say("en", "tokens", tokens=12) == "12 tokens"
    assert say("ja", "queued", ahead=3, waiting=5) == "順番待ち：5 人中 3 番目"


def test_the_browser_gets_every_chinese_tag() -> None:
    table = static_strings()
    assert table["zh-TW"] == table["zh"]
    assert table["ja"]["send"] == "送信"
