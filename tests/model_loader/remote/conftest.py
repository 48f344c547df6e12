"""A server that behaves as it is told, and a model of it."""

from collections.abc import Iterator

import pytest

from model_loader.remote.options import RemoteOptions
from model_loader.remote.remote_model import RemoteModel, open_remote_model
from tests.api_stub import ApiStub, chat, serve


@pytest.fixture
def stub() -> Iterator[ApiStub]:
    """One model with a window of 4,096, which says "Hello there."."""
    stub = ApiStub()
    stub.answers_chats(chat("Hello", " there", "."))
    with serve(stub):
        yield stub


@pytest.fixture
def model(stub: ApiStub) -> Iterator[RemoteModel]:
    """The stub's model."""
    model = open_remote_model(RemoteOptions(stub.url, "a-secret-key"), "builtin", lambda progress: None)
    yield model
    model.close()
