"""What the catalog's checkpoints would need on machines that are only described."""

import pytest

from model_loader.checkpoint.catalog import find_entry
from model_loader.errors import NotEnoughMemory
from model_loader.loading import hardware
from model_loader.loading.estimate import Estimate, advise, estimate, estimate_all
from model_loader.loading.placement import Gpu, Hardware, LoadOptions
from model_loader.open_model import open_chat_model

LAPTOP = Hardware((), 12_000_000_000, cpu_computes_bfloat16=True)
CARD = Hardware((Gpu("cuda:0", (8, 9), 23_000_000_000, computes_bfloat16=True),), 60_000_000_000, True)


def _estimate(name: str, hardware: Hardware) -> Estimate:
    entry = find_entry(name)
    assert entry is not None
    return estimate(entry, hardware, LoadOptions())


def test_what_fits_says_in_which_format_and_where() -> None:
    found = _estimate("Qwen/Qwen3-8B", CARD)
    assert found.fits
    assert found.reason.startswith("bfloat16 on cuda:0, because")
    assert 16.3e9 < found.weight_bytes < 16.5e9


def test_what_fits_in_four_bits_only_says_so() -> None:
    found = _estimate("Qwen/Qwen-14B-Chat", CARD)
    assert found.placement is not None
    assert found.placement.quantization == "int4"


def test_what_does_not_fit_says_what_is_missing() -> None:
    found = _estimate("Qwen/Qwen2.5-72B-Instruct", LAPTOP)
    assert not found.fits
    assert "needs about" in found.reason
    assert "12.0 GB free" in found.reason


def test_a_gptq_checkpoint_is_counted_in_its_own_bits() -> None:
    """5.85 GB are the published size of Qwen-7B-Chat-Int4's weights."""
    found = _estimate("Qwen/Qwen-7B-Chat-Int4", LAPTOP)
    assert found.fits
    assert 5.6e9 < found.weight_bytes < 6.1e9


def test_every_chat_checkpoint_has_an_estimate() -> None:
    estimates = estimate_all(LAPTOP, LoadOptions())
    assert any(each.fits for each in estimates)
    assert not all(each.fits for each in estimates)
    assert all(each.reason for each in estimates)


def test_what_fits_instead_is_of_the_same_family() -> None:
    assert advise("Qwen/Qwen3-32B", CARD, LoadOptions("bf16")) == " Qwen/Qwen3-8B fits: 16.4 GB of weights."
    assert advise("someone/else", Hardware((), 1_500_000_000, True), LoadOptions()).endswith("GB of weights.")
    assert advise("Qwen/Qwen3-32B", Hardware((), 100_000_000, True), LoadOptions()) == ""


def test_a_checkpoint_that_does_not_fit_names_one_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "probe_hardware", lambda: Hardware((), 200_000_000, True))
    with pytest.raises(NotEnoughMemory, match=r"200 MB free|0\.2 GB free"):
        open_chat_model("builtin", LoadOptions(), lambda progress: None)
