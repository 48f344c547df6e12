"""The lock holds the versions that are tested, each with the hashes of its files."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "constraints.lock").read_text()
BLOCK = re.compile(r"^([\w.-]+)==([\w.+-]+)(.*(?:\n    --hash=\S+.*)+)", flags=re.MULTILINE)


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


BLOCKS = {plain(name): (version, hashes) for name, version, hashes in BLOCK.findall(LOCK)}
PINNED = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)


def test_every_version_in_the_lock_has_hashes() -> None:
    assert len(BLOCKS) == len(set(re.findall(r"^([\w.-]+)==", LOCK, flags=re.MULTILINE)))
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", hashes) for _version, hashes in BLOCKS.values())


@pytest.mark.parametrize(("name", "version"), PINNED)
def test_what_is_tested_is_what_is_locked(name: str, version: str) -> None:
    locked = BLOCKS.get(plain(name))
    assert locked is None or locked[0] == version, "run `make lock`"


def test_what_the_application_asks_for_is_locked() -> None:
    for file in ("requirements_web_demo.txt", "tests/requirements.txt"):
        for line in (ROOT / file).read_text().splitlines():
            found = re.match(r"[\w.-]+", line)
            if found:
                assert plain(found[0]) in BLOCKS, "run `make lock`"
