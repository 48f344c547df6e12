"""Fixtures that several test files share."""

import gc
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from model_loader.chat_model import ChatModel
from model_loader.loading.placement import LoadOptions
from model_loader.open_model import open_chat_model

pytest_plugins = ("tests.browser",)
settings.register_profile("machine of any speed", deadline=None)
settings.load_profile("machine of any speed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that open a browser come first: side by side with others, none of them is left over at the end."""
    items.sort(key=lambda item: "browser" not in getattr(item, "fixturenames", ()))


def pytest_collection_finish() -> None:
    """What all imports have made stays for good, so no collection of garbage needs to look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2 checkpoint with a window of 512 tokens."""
    from tests.tiny_checkpoint import write_tiny_checkpoint

    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "qwen2")


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path) -> Iterator[ChatModel]:
    """The random checkpoint, loaded."""
    chat_model = open_chat_model(str(tiny_folder), LoadOptions(cpu_only=True), lambda progress: None)
    yield chat_model
    chat_model.close()


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_for_the_next_file() -> Iterator[None]:
    """What servers in threads leave to the garbage collector (an event loop, its sockets) goes with the file that had
    them; otherwise pytest would count it as an error of whichever test runs then."""
    yield
    if "uvicorn" in sys.modules:
        _collect_quietly()
        gc.freeze()  # what is left is meant to stay; to look at it again after every file took a second each time


def pytest_unconfigure() -> None:
    """The same for what is left of the last file."""
    _collect_quietly()


def _collect_quietly() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
