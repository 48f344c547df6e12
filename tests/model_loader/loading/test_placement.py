"""Where a checkpoint goes, on machines we do not have: pure decisions with a reason."""

from dataclasses import replace
from pathlib import Path

import pytest

from model_loader.checkpoint.quantization import Gptq
from model_loader.checkpoint.resolve import Checkpoint
from model_loader.checkpoint.safetensors_header import Weights
from model_loader.errors import InvalidSetting, NotEnoughMemory
from model_loader.loading.placement import Gpu, Hardware, LoadOptions, choose_placement

GB = 10**9
H200 = Gpu("cuda:0", (9, 0), 131 * GB, computes_bfloat16=True)
T4 = Gpu("cuda:0", (7, 5), 15 * GB, computes_bfloat16=False)
MAC = Gpu("mps", None, 20 * GB, computes_bfloat16=True)


def checkpoint(parameters: float) -> Checkpoint:
    config = {"max_position_embeddings": 8192, "vocab_size": 1000, "hidden_size": 100}
    weights = Weights(int(parameters), int(parameters) * 2, frozenset({"lm_head.weight"}))
    return Checkpoint("Qwen/Qwen-14B-Chat", Path("/nowhere"), config, {}, "", weights)


def machine(*gpus: Gpu, cpu_gb: float = 16, cpu_bfloat16: bool = False) -> Hardware:
    return Hardware(gpus, int(cpu_gb * GB), cpu_bfloat16)


def test_a_modern_gpu_computes_in_bfloat16_and_says_why() -> None:
    placement = choose_placement(checkpoint(7.7e9), machine(H200), LoadOptions())
    assert (placement.device, placement.dtype) == ("cuda:0", "bfloat16")
    assert placement.reason == (
        "bfloat16 on cuda:0, because it has compute capability 9.0 and 131 GB free for 15.4 GB of weights"
    )


def test_an_older_gpu_computes_in_float16() -> None:
    placement = choose_placement(checkpoint(4e9), machine(T4), LoadOptions())
    assert (placement.device, placement.dtype) == ("cuda:0", "float16")


def test_a_mac_uses_its_gpu() -> None:
    placement = choose_placement(checkpoint(4e9), machine(MAC), LoadOptions())
    assert (placement.device, placement.dtype) == ("mps", "bfloat16")
    assert "this Mac's GPU" in placement.reason


def test_the_gpu_with_the_most_free_memory_is_taken() -> None:
    second = Gpu("cuda:1", (7, 5), 16 * GB, computes_bfloat16=False)
    assert choose_placement(checkpoint(4e9), machine(T4, second), LoadOptions()).device == "cuda:1"


def test_a_model_too_big_for_one_gpu_is_spread_over_several() -> None:
    second = Gpu("cuda:1", (7, 5), 16 * GB, computes_bfloat16=False)
    placement = choose_placement(checkpoint(10e9), machine(T4, second), LoadOptions())
    assert placement.device == "auto"
    assert "2 GPUs" in placement.reason


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", "bfloat16"), ("fp16", "float16"), ("fp32", "float32")])
def test_a_given_precision_is_obeyed_everywhere(precision: str, dtype: str) -> None:
    for hardware in (machine(H200), machine(T4), machine(MAC), machine()):
        placement = choose_placement(checkpoint(1e9), hardware, LoadOptions(precision))  # type: ignore[arg-type]
        assert placement.dtype == dtype
        assert f"--precision {precision} was given" in placement.reason


def test_cpu_only_leaves_the_gpu_alone() -> None:
    placement = choose_placement(checkpoint(1e9), machine(H200), LoadOptions(cpu_only=True))
    assert placement.device == "cpu"
    assert "--cpu-only was given" in placement.reason


@pytest.mark.parametrize(
    ("parameters", "cpu_gb", "cpu_bfloat16", "dtype", "because"),
    [
        (1e9, 16, False, "float32", "quickest in float32"),
        (1e9, 16, True, "bfloat16", "quickest in bfloat16"),
        (6e6, 16, True, "float32", "so small a model"),
        (4e9, 16, False, "bfloat16", "float32 would not fit"),
        (20e9, 16, True, "bfloat16", "rounding to 4 bits"),
    ],
)
def test_the_processor_gets_the_format_that_is_quick_and_fits(
    parameters: float, cpu_gb: float, cpu_bfloat16: bool, dtype: str, because: str
) -> None:
    hardware = machine(cpu_gb=cpu_gb, cpu_bfloat16=cpu_bfloat16)
    placement = choose_placement(checkpoint(parameters), hardware, LoadOptions())
    assert (placement.device, placement.dtype) == ("cpu", dtype)
    assert because in placement.reason


def test_a_model_too_big_for_the_gpu_is_rounded_to_4_bits_with_a_word_about_it() -> None:
    placement = choose_placement(checkpoint(14.2e9), machine(T4), LoadOptions())
    assert (placement.device, placement.dtype, placement.quantization) == ("cuda:0", "bfloat16", "int4")
    assert "28.4 GB in float16 would not fit (rounding to 4 bits costs some quality)" in placement.reason
    assert "unpacked at each use" in placement.reason, "a T4 has no kernel for packed weights"
    roomy = Gpu("cuda:0", (8, 6), 24 * GB, computes_bfloat16=True)
    assert "unpacked" not in choose_placement(checkpoint(14.2e9), machine(roomy), LoadOptions()).reason


@pytest.mark.parametrize("precision", ["int4", "int8"])
def test_rounding_can_be_asked_for(precision: str) -> None:
    placement = choose_placement(checkpoint(7e9), machine(H200), LoadOptions(precision))  # type: ignore[arg-type]
    assert (placement.quantization, placement.dtype) == (precision, "bfloat16")


def test_a_quantized_checkpoint_keeps_its_bits() -> None:
    quantized = replace(checkpoint(7e9), gptq=Gptq(4, 128, True, True))
    placement = choose_placement(quantized, machine(H200), LoadOptions())
    assert (placement.quantization, placement.dtype) == ("int4", "bfloat16")
    assert choose_placement(quantized, machine(H200), LoadOptions("int4")).quantization == "int4"
    with pytest.raises(InvalidSetting, match=r"--precision is bf16, but .* is quantized to 4 bits already"):
        choose_placement(quantized, machine(H200), LoadOptions("bf16"))


def test_a_foreign_quantization_is_kept_as_it_is() -> None:
    foreign = replace(checkpoint(7e9), foreign_method="awq")
    placement = choose_placement(foreign, machine(H200), LoadOptions())
    assert placement.quantization is None
    assert "quantized with awq" in placement.reason
    with pytest.raises(InvalidSetting, match="is quantized with awq already"):
        choose_placement(foreign, machine(H200), LoadOptions("int4"))


def test_a_refusal_names_what_was_asked_what_was_found_and_what_fits() -> None:
    with pytest.raises(NotEnoughMemory) as caught:
        choose_placement(checkpoint(14.2e9), machine(T4, cpu_gb=64), LoadOptions("fp16"))
    assert str(caught.value) == (
        "Qwen/Qwen-14B-Chat in float16 needs about 31.5 GB; cuda:0 has 15.0 GB free. Use --precision int4 (about "
        "8.6 GB) or --cpu-only (64.0 GB of main memory are free) or a smaller checkpoint with -c."
    )


def test_a_refusal_offers_a_smaller_format_where_that_fits() -> None:
    with pytest.raises(NotEnoughMemory, match=r"Use --precision bf16 \(about 9\.1 GB\) or --precision int4"):
        choose_placement(checkpoint(4e9), machine(cpu_gb=12), LoadOptions("fp32"))


def test_a_refusal_offers_only_what_fits() -> None:
    with pytest.raises(NotEnoughMemory, match="Use a smaller checkpoint, such as -c builtin") as caught:
        choose_placement(checkpoint(70e9), machine(T4), LoadOptions())
    assert "--cpu-only" not in str(caught.value)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="--precision is 'int3'; use one of auto, bf16, fp16, fp32, int8, int4"):
        LoadOptions("int3")  # type: ignore[arg-type]
