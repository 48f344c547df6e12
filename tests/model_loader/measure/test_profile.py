"""The profile measures what it says, on the built-in checkpoint."""

import pytest

from model_loader.checkpoint.hub import HubOptions
from model_loader.errors import InvalidSetting
from model_loader.loading.placement import LoadOptions
from model_loader.measure import profile
from model_loader.measure.profile import measure_profile


def test_each_precision_gets_a_row_with_both_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "QUICK_SHORT", 16)
    monkeypatch.setattr(profile, "QUICK_LONG", 48)
    shares: list[float] = []
    rows = list(
        measure_profile(
            "builtin", LoadOptions(cpu_only=True), HubOptions(), lambda what, share: shares.append(share), is_quick=True
        )
    )
    assert [row.precision for row in rows] == ["bf16", "fp32", "int8", "int4"]
    for row in rows:
        assert (row.short.num_tokens, row.long.num_tokens, row.encode_tokens) == (12, 48, 12)
        assert row.short.tokens_per_s > 0
        assert row.long.tokens_per_s_2023 > 0
        assert row.long.first_token_s > 0
        assert 0 < row.long.bandwidth_share < 5
        assert row.generate_bytes > 20_000_000
        assert row.placement
    assert max(shares) == 1.0


def test_a_precision_that_was_asked_for_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "QUICK_SHORT", 4)
    monkeypatch.setattr(profile, "QUICK_LONG", 8)
    options = LoadOptions("int8", cpu_only=True)
    (row,) = measure_profile("builtin", options, HubOptions(), lambda what, share: None, is_quick=True)
    assert row.precision == "int8"


def test_what_cannot_be_loaded_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="precision"):
        list(measure_profile("builtin", LoadOptions("fp64"), HubOptions(), lambda *_: None, is_quick=True))  # type: ignore[arg-type]
