"""The README tells the truth: its flags, its commands and its tree are those of the program."""

import argparse
import re
from pathlib import Path

import pytest

import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings} - {"-h", "--help"}


FLAGS = flags_of(app.build_parser({}))
COMMAND_FLAGS = {
    "chat": flags_of(app.build_chat_parser()),
    "serve": flags_of(app.build_serve_parser()),
    "profile": flags_of(app.build_profile_parser()),
    "evaluate perplexity": flags_of(app.build_perplexity_parser()),
}


def test_the_table_of_flags_is_complete_and_quotes_the_defaults() -> None:
    rows = [line.strip("|").split("|") for line in README.splitlines() if line.startswith("| `-")]
    named = {flag for cells in rows for flag in re.findall(r"`(--?[\w-]+)`", cells[0])}
    assert named == FLAGS
    parser = app.build_parser({})
    for flags, _meaning, default in rows:
        (name,) = re.findall(r"`--([\w-]+)`", flags)
        value = parser.get_default(name.replace("-", "_"))
        shown = default.replace("`", "").strip()
        if value is None:
            assert shown in (
                "as the checkpoint says",
                "the checkpoint's",
                "the newest",
                "never",
                "none",
                "a password is made up",
            )
        elif isinstance(value, Path):
            assert shown == "in the user's data folder"  # another place on every machine
        else:
            expected = {False: ""}.get(value, f"{value:g}" if isinstance(value, float) else str(value))
            assert shown == expected


@pytest.mark.parametrize("line", re.findall(r"^    (?:\S*python\S*|py) .*$", README, flags=re.MULTILINE))
def test_every_flag_in_a_command_exists(line: str) -> None:
    if "app.py" in line:
        rest = line.split("app.py")[1]
        known = next((flags for command, flags in COMMAND_FLAGS.items() if rest.startswith(f" {command}")), FLAGS)
        assert set(re.findall(r"(?<!\S)--?[a-z][\w-]*", rest)) <= known


def test_every_environment_variable_belongs_to_a_flag() -> None:
    for name in re.findall(r"QWEN_DEMO_(\w+)", README):
        assert f"--{name.lower().replace('_', '-')}" in FLAGS


def test_every_make_target_exists_and_is_listed() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)`?(?=[\s`;,.])", README.split("## Notes")[0])) <= targets
    assert {"demo", "test", "lint", "format", "bench", "builtin", "help"} <= targets


def test_every_path_of_the_tree_exists() -> None:
    tree = README.split("## Where things are")[1].split("## Why")[0]
    folders: list[str] = []
    paths = []
    for line in re.findall(r"^    ( *)([\w./]+) {2,}", tree, flags=re.MULTILINE):
        depth = len(line[0]) // 4
        folders[depth:] = [line[1]]
        paths.append(ROOT.joinpath(*folders))
    assert len(paths) > 15
    assert [str(path) for path in paths if not path.exists()] == []


def test_links_inside_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_space_uses_the_gradio_that_is_pinned() -> None:
    (version,) = re.findall(r"sdk_version: (\S+)", README)
    assert f"gradio=={version}" in (ROOT / "requirements_web_demo.txt").read_text()
    assert f"gradio=={version}" in (ROOT / "constraints.txt").read_text()
