"""Fetching from a hub, with the real client against a hub on this machine."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from model_loader.checkpoint.resolve import resolve_checkpoint
from model_loader.errors import CheckpointNotFound
from tests.hub_stub import HubStub, serve_hub
from tests.tiny_checkpoint import write_tiny_checkpoint

NAME = "Qwen/Qwen-Tiny"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    folder = write_tiny_checkpoint(tmp_path / "tiny")
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with serve_hub(HubStub({NAME: folder})) as stub:
        monkeypatch.setenv("HF_ENDPOINT", stub.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield stub


def test_a_hub_name_is_fetched_without_code_and_pickles(hub: HubStub) -> None:
    reported: list[tuple[int, int]] = []
    checkpoint = resolve_checkpoint(NAME, lambda done, total: reported.append((done, total)))
    assert checkpoint.name == NAME
    assert checkpoint.context_length == 512
    fetched = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert set(hub.requested) == fetched == {each.name for each in checkpoint.folder.iterdir()}
    assert [done for done, _ in reported] == sorted(done for done, _ in reported)
    assert reported[-1][0] == reported[-1][1] == sum(each.stat().st_size for each in checkpoint.folder.iterdir())


def test_what_is_cached_is_not_fetched_again_and_works_without_a_hub(
    hub: HubStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = resolve_checkpoint(NAME)
    hub.requested.clear()
    assert resolve_checkpoint(NAME).folder == first.folder
    assert hub.requested == []
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert resolve_checkpoint(NAME).folder == first.folder


def test_a_name_the_hub_does_not_have_is_refused(hub: HubStub) -> None:
    with pytest.raises(CheckpointNotFound, match=r"no model 'Qwen/Nonesuch'. Check the spelling"):
        resolve_checkpoint("Qwen/Nonesuch")


def test_a_gated_model_says_how_to_get_it(hub: HubStub) -> None:
    hub.gated.add(NAME)
    with pytest.raises(CheckpointNotFound, match="licence to be accepted"):
        resolve_checkpoint(NAME)


def test_a_hub_that_cannot_be_reached_is_named(hub: HubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointNotFound, match=r"not in the local cache and huggingface\.co cannot be reached"):
        resolve_checkpoint("Qwen/Elsewhere")
