"""Fused and packed layers compute what the layers before them computed."""

from pathlib import Path

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from model_loader.loading.fuse import FusedDecoderLayer, OneDnnLinear, RmsNorm, SideBySide, _joined, fuse, packs_weights
from model_loader.loading.low_bit import Int4Linear, Int8Linear, has_int8_kernel, round_to_int4
from tests.tiny_checkpoint import write_tiny_checkpoint

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11], [105, 106, 107, 108, 109, 110, 111]])


def open_model(folder: Path, dtype: torch.dtype = torch.float32) -> transformers.PreTrainedModel:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


@torch.inference_mode()
def logits_of(model: transformers.PreTrainedModel) -> torch.Tensor:
    return model(input_ids=IDS).logits.float()


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
@pytest.mark.parametrize("is_tied", [False, True])
def test_a_fused_model_gives_the_same_logits_and_generates_the_same(tmp_path: Path, kind: str, is_tied: bool) -> None:
    folder = write_tiny_checkpoint(tmp_path / kind, kind=kind, tie_word_embeddings=is_tied)
    plain, fused = open_model(folder), open_model(folder)
    fuse(fused)
    assert sum(isinstance(module, FusedDecoderLayer) for module in fused.modules()) == 2
    assert torch.allclose(logits_of(fused), logits_of(plain), atol=1e-4, rtol=1e-4)
    greedy = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    assert torch.equal(fused.generate(IDS, **greedy), plain.generate(IDS, **greedy))


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-8)])
@pytest.mark.parametrize("shape", [(1, 1, 896), (1, 50, 896), (2, 3, 4, 64)])
def test_the_norm_is_that_of_the_formula(shape: tuple[int, ...], dtype: torch.dtype, most: float) -> None:
    torch.manual_seed(0)
    norm = Qwen2RMSNorm(shape[-1], eps=1e-6).to(dtype)
    norm.weight.data.uniform_(0.5, 1.5)
    x = 3 * torch.randn(shape).to(dtype) + 1
    x[..., 5] = 3e4  # channels like that are in every trained model
    x[0, 1:2] = 0
    found = RmsNorm(norm)(x)
    expected = functional.rms_norm(x.double(), shape[-1:], norm.weight.double(), 1e-6)
    assert found.dtype == dtype
    usual = expected.abs().median()  # of the other channels
    assert ((found - expected).abs() <= most * expected.abs() + 1e-4 * usual).all()


@torch.inference_mode()
def test_the_last_layer_computes_only_the_tokens_whose_logits_are_wanted(tmp_path: Path) -> None:
    model = open_model(write_tiny_checkpoint(tmp_path / "tiny"))
    fuse(model)
    first, last = model.base_model.layers
    lengths: dict[nn.Module, int] = {}
    for layer in (first, last):
        layer.down_proj.register_forward_pre_hook(lambda module, args: lengths.update({module: args[0].shape[1]}))
    wanted = torch.tensor([1, 4, 6])
    found = model(input_ids=IDS, logits_to_keep=wanted).logits
    assert (lengths[first.down_proj], lengths[last.down_proj]) == (IDS.shape[1], 3)
    assert torch.allclose(found, logits_of(model)[:, wanted], atol=1e-4, rtol=1e-4)


def test_a_fused_model_in_bfloat16_stays_as_close_as_the_plain_one(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "tiny", kind="qwen3")
    exact, plain = logits_of(open_model(folder)), logits_of(open_model(folder, torch.bfloat16))
    model = open_model(folder, torch.bfloat16)
    fuse(model)
    error = (logits_of(model) - exact).abs().mean()
    assert error < 1.5 * (plain - exact).abs().mean()


def test_other_architectures_keep_their_layers_and_only_their_weights_are_packed(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "tiny", kind="mistral")
    plain, packed = open_model(folder), open_model(folder)
    fuse(packed)
    assert not any(isinstance(module, FusedDecoderLayer) for module in packed.modules())
    if packs_weights("cpu"):
        assert not any(type(module) is nn.Linear for module in packed.modules())
    assert torch.allclose(logits_of(packed), logits_of(plain), atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(not packs_weights("cpu"), reason="only x86 processors pack")
@pytest.mark.parametrize("rows", [1, 3, 4, 100])
@pytest.mark.parametrize(("out_features", "has_bias"), [(48, True), (4160, False)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_onednn_computes_the_same_for_any_number_of_rows(
    rows: int, out_features: int, has_bias: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(rows)
    weight = torch.randn(out_features, 96).to(dtype)
    bias = torch.randn(out_features).to(dtype) if has_bias else None
    x = torch.randn(rows, 96).to(dtype)
    found = OneDnnLinear(weight, bias)(x)
    assert found.dtype == dtype
    tolerance = 1e-4 if dtype == torch.float32 else 0.2
    assert torch.allclose(found.float(), nn.functional.linear(x, weight, bias).float(), atol=tolerance, rtol=0.02)


@pytest.mark.skipif(not has_int8_kernel(torch.device("cpu")), reason="this processor has no VNNI")
@pytest.mark.parametrize("rows", [1, 5, 130])
def test_packed_int8_keeps_16_bits_of_few_rows_and_of_rows_with_an_outlier(rows: int) -> None:
    torch.manual_seed(0)
    layer = Int8Linear(torch.randn(160, 96), torch.randn(160))
    weight = layer.q[:160, :96].double() * layer.scales[:160, None].double()
    x = torch.randn(rows, 96) * torch.tensor([1000.0] + [1.0] * 95)  # one channel far above the others
    exact = x.double() @ weight.T + layer.bias.double()  # type: ignore[union-attr]
    layer.pack()
    error = (layer(x).double() - exact).abs().max()
    step = x.abs().max() / 32639
    assert error < step * weight.abs().sum(dim=1).max() / 2
    assert error < 1e-3 * exact.abs().max()
    assert layer.q.numel() == 0


def test_zeros_come_out_as_the_bias() -> None:
    layer = Int8Linear(torch.randn(32, 64), torch.arange(32.0))
    if has_int8_kernel(torch.device("cpu")):
        layer.pack()
    assert torch.allclose(layer(torch.zeros(2, 64)), torch.arange(32.0).expand(2, -1))


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("sizes", [(128, 64, 64), (128, 48, 16), (30, 20, 20)])
@pytest.mark.parametrize("bits", [4, 8, 16])
def test_joined_layers_give_their_outputs_behind_one_another(bits: int, sizes: tuple[int, ...], has_bias: bool) -> None:
    torch.manual_seed(0)

    def layers() -> list[nn.Module]:
        made: list[nn.Module] = []
        generator = torch.Generator().manual_seed(1)
        for size in sizes:
            weight = torch.randn(size, 128, generator=generator)
            bias = torch.randn(size, generator=generator) if has_bias else None
            if bits == 16:
                linear = nn.Linear(128, size, bias=has_bias)
                linear.weight.data = weight
                if bias is not None:
                    linear.bias.data = bias
                made.append(linear)
            else:
                made.append(Int8Linear(weight, bias) if bits == 8 else Int4Linear(*round_to_int4(weight), bias))
        return made

    x = torch.randn(3, 128)
    expected = torch.cat([layer(x) for layer in layers()], dim=-1)
    joined = _joined(*layers())
    assert isinstance(joined, SideBySide) == (
        bits < 16 and sizes[0] % (64 if bits == 4 else 16) + sizes[1] % (64 if bits == 4 else 16) > 0
    )
    assert torch.allclose(joined(x), expected, atol=1e-4)
