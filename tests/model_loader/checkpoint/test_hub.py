"""Fetching from both hubs, with their real clients against a hub on this machine."""

import shutil
import socket
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from model_loader.checkpoint import hub_files
from model_loader.checkpoint.hub import Hub, HubOptions
from model_loader.checkpoint.resolve import Checkpoint, resolve_checkpoint
from model_loader.errors import CheckpointDamaged, CheckpointNotFound, HubUnreachable, InvalidSetting, NotEnoughDisk
from tests.hub_stub import COMMIT, REVISION, HubStub, serve_hub
from tests.tiny_checkpoint import write_tiny_checkpoint

NAME = "Qwen/Qwen-Tiny"
NOWHERE = "http://127.0.0.1:9"
BOTH = pytest.mark.parametrize("hub", ["huggingface", "modelscope"])
FETCHED = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    folder = write_tiny_checkpoint(tmp_path / "tiny")
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with serve_hub(HubStub({NAME: folder})) as stub:
        monkeypatch.setenv("HF_ENDPOINT", stub.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 65_536)  # what is lost by a cut
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", stub.url)
        monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
        monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "modelscope-home"))
        yield stub


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hubs' clients try again at once, not after a second, two and four."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def fetch(hub: Hub = "auto", revision: str | None = None, name: str = NAME) -> Checkpoint:
    return resolve_checkpoint(name, hub=HubOptions(hub, revision))


@BOTH
def test_a_hub_name_is_fetched_without_code_and_pickles(stub: HubStub, hub: Hub) -> None:
    reported: list[tuple[int, int]] = []
    checkpoint = resolve_checkpoint(NAME, lambda done, total: reported.append((done, total)), HubOptions(hub))
    assert checkpoint.name == NAME
    assert checkpoint.context_length == 512
    assert checkpoint.source == {"huggingface": "Hugging Face", "modelscope": "ModelScope"}[hub]
    assert set(stub.requested) == FETCHED
    assert {each.name for each in checkpoint.folder.iterdir() if not each.name.startswith(".")} == FETCHED
    assert [done for done, _ in reported] == sorted(done for done, _ in reported)
    assert reported[-1][0] == reported[-1][1] == sum((checkpoint.folder / each).stat().st_size for each in FETCHED)


@BOTH
def test_what_is_cached_is_not_fetched_again(stub: HubStub, hub: Hub) -> None:
    first = fetch(hub)
    stub.requested.clear()
    assert fetch(hub).folder == first.folder
    assert stub.requested == []


@BOTH
def test_offline_the_cache_is_used_and_no_connection_is_made(
    stub: HubStub, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fetch(hub)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket.socket, "connect", _no_connection)
    stub.num_connections = 0
    assert fetch(hub).folder == first.folder
    assert fetch().folder == first.folder, "auto finds it in either cache"
    with pytest.raises(HubUnreachable, match=r"Qwen/Elsewhere is not whole in the local cache: .*HF_HUB_OFFLINE"):
        fetch(hub, name="Qwen/Elsewhere")
    assert stub.num_connections == 0


def _no_connection(*_: object) -> None:
    raise AssertionError("a connection was made")


def test_a_cached_checkpoint_works_while_the_hub_is_away(stub: HubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fetch()
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    assert fetch().folder == first.folder


@BOTH
def test_a_name_the_hub_does_not_have_is_refused(stub: HubStub, hub: Hub) -> None:
    with pytest.raises(CheckpointNotFound, match=r"no model 'Qwen/Nonesuch'.*Check the spelling"):
        fetch(hub, name="Qwen/Nonesuch")


@BOTH
def test_a_revision_is_taken_and_an_unknown_one_refused(stub: HubStub, hub: Hub) -> None:
    assert fetch(hub, REVISION).folder.name == (COMMIT if hub == "huggingface" else REVISION)
    with pytest.raises(CheckpointNotFound, match=r"no revision 'v9'"):
        fetch(hub, "v9")


@BOTH
def test_a_gated_model_says_how_to_get_it(stub: HubStub, hub: Hub) -> None:
    stub.gated.add(NAME)
    with pytest.raises(CheckpointNotFound, match=r"asks for (its licence|access)"):
        fetch(hub)


@BOTH
@pytest.mark.usefixtures("no_waiting")
def test_a_connection_that_breaks_is_taken_up_where_it_broke(stub: HubStub, hub: Hub) -> None:
    size = (stub.repositories[NAME] / "model.safetensors").stat().st_size
    stub.cuts["model.safetensors"] = 1
    checkpoint = fetch(hub)
    (wanted,) = stub.ranges
    assert size // 2 - 65_536 < int(wanted.removeprefix("bytes=").removesuffix("-")) <= size // 2
    copy = checkpoint.folder / "model.safetensors"
    assert copy.read_bytes() == (stub.repositories[NAME] / "model.safetensors").read_bytes()


@pytest.mark.usefixtures("no_waiting")
def test_a_download_cut_for_good_leaves_nothing_that_looks_whole(
    stub: HubStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.cuts["model.safetensors"] = 1_000
    with pytest.raises(HubUnreachable, match="start again"):
        fetch("huggingface")
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    with pytest.raises(HubUnreachable, match="not whole in the local cache"):
        fetch("huggingface")
    stub.cuts.clear()
    stub.requested.clear()
    monkeypatch.setenv("HF_ENDPOINT", stub.url)
    assert (fetch("huggingface").folder / "model.safetensors").is_file()
    assert stub.requested == ["model.safetensors"], "what had arrived was kept"


@BOTH
@pytest.mark.parametrize("fault", ["too_short", "altered"])
def test_a_file_that_is_not_what_the_hub_names_is_refused(stub: HubStub, hub: Hub, fault: str) -> None:
    getattr(stub, fault).add("model.safetensors")
    with pytest.raises((CheckpointDamaged, HubUnreachable), match=r"another size|other checksums|cannot be reached"):
        fetch(hub)
    getattr(stub, fault).clear()
    copy = fetch(hub).folder / "model.safetensors"
    assert copy.read_bytes() == (stub.repositories[NAME] / "model.safetensors").read_bytes()


@BOTH
def test_a_disk_without_room_is_refused_before_anything_is_fetched(
    stub: HubStub, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(hub_files.shutil, "disk_usage", lambda path: usage(10, 9, 1))
    with pytest.raises(NotEnoughDisk, match=r"needs 0\.0 GB more on the disk and .* has 0\.0 GB free"):
        fetch(hub)
    assert stub.requested == []


def test_auto_turns_to_modelscope_when_hugging_face_is_away_and_says_so(
    stub: HubStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    checkpoint = fetch()
    assert checkpoint.source == "ModelScope, because 127.0.0.1:9 cannot be reached"
    assert "modelscope" in str(checkpoint.folder)


@pytest.mark.usefixtures("no_waiting")
def test_auto_turns_to_hugging_face_where_modelscope_comes_first(
    stub: HubStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_ENVIRONMENT", "studio")
    assert fetch().source == "ModelScope"
    shutil.rmtree(fetch().folder)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", NOWHERE)
    assert fetch().source.startswith("Hugging Face, because 127.0.0.1:9 cannot be reached")


@pytest.mark.usefixtures("no_waiting")
def test_a_hub_that_answers_with_errors_counts_as_away(stub: HubStub) -> None:
    stub.is_broken = True
    with pytest.raises(HubUnreachable, match=r"not whole in the local cache: 127.*; 127.*Check the connection"):
        fetch()


def test_without_its_client_modelscope_says_what_to_install(stub: HubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "modelscope_hub", None)
    with pytest.raises(HubUnreachable, match="pip install modelscope-hub"):
        fetch("modelscope")


@pytest.mark.parametrize(("hub", "revision"), [("github", None), ("auto", ""), ("auto", "../x"), ("auto", "--force")])
def test_hub_options_are_checked(hub: str, revision: str | None) -> None:
    with pytest.raises(InvalidSetting, match=r"--hub is|--revision is"):
        HubOptions(hub, revision)  # type: ignore[arg-type]
