"""Where a checkpoint goes on this machine, in which number format, and why; pure, without torch.

`Hardware` comes in as plain numbers, so every decision can be tried without the machine it is made for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from model_loader.checkpoint.context_length import parse_long_context
from model_loader.checkpoint.resolve import Checkpoint
from model_loader.errors import InvalidSetting, NotEnoughMemory

Precision = Literal["auto", "bf16", "fp16", "fp32"]
Dtype = Literal["bfloat16", "float16", "float32"]

_DTYPES: Mapping[str, Dtype] = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_BYTES_PER_PARAMETER: Mapping[Dtype, int] = {"bfloat16": 2, "float16": 2, "float32": 4}
_ROOM_FACTOR = 1.1
"""Activations and a short conversation's keys and values, on top of the weights."""
_ROOM_BYTES = 300_000_000
"""Libraries' own buffers on a device."""

_SMALL_MODEL_PARAMETERS = 100_000_000
"""Up to here float32 costs little, and its answers are the same on every processor."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What the user asks of a placement.

    Attributes:
        precision: a number format, or "auto" to let the machine decide.
        cpu_only: no GPU, even where there is one.
        long_context: "ntk", "logn", "ntk,logn" or "none" instead of what a Qwen-1 checkpoint's configuration says.

    Raises:
        InvalidSetting: a value is none of those.
    """

    precision: Precision = "auto"
    cpu_only: bool = False
    long_context: str | None = None

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise InvalidSetting(f"--precision is {self.precision!r}; use one of {', '.join(get_args(Precision))}.")
        if self.long_context is not None:
            parse_long_context(self.long_context)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One accelerator.

    Attributes:
        device: torch's name of it, "cuda:0" or "mps".
        capability: NVIDIA's compute capability; None for Apple's.
        free_bytes: memory that is free now.
        computes_bfloat16: whether bfloat16 runs natively on it.
    """

    device: str
    capability: tuple[int, int] | None
    free_bytes: int
    computes_bfloat16: bool


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the machine offers.

    Attributes:
        gpus: its accelerators, none of them in use by us yet.
        cpu_free_bytes: main memory that can be had without swapping.
        cpu_computes_bfloat16: whether the processor is quicker in bfloat16 than in float32 (AMX, Arm).
    """

    gpus: tuple[Gpu, ...]
    cpu_free_bytes: int
    cpu_computes_bfloat16: bool


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the weights go.

    Attributes:
        device: "cuda:0", "mps" or "cpu"; "auto" when accelerate spreads the layers over several GPUs.
        dtype: the format that weights are kept and computed in.
        quantization: None; weights are used as they are.
        reason: one sentence for the user that says all of it and why.
    """

    device: str
    dtype: Dtype
    quantization: None
    reason: str


def choose_placement(checkpoint: Checkpoint, hardware: Hardware, options: LoadOptions) -> Placement:
    """Decides where a checkpoint is loaded: the roomiest GPU, else several together, else the processor.

    Raises:
        NotEnoughMemory: it fits nowhere that the options allow; the message names what does fit.
    """
    if hardware.gpus and not options.cpu_only:
        return _place_on_gpus(checkpoint, hardware, options)
    return _place_on_cpu(checkpoint, hardware, options)


def weight_bytes(checkpoint: Checkpoint, dtype: Dtype) -> int:
    """Bytes that the weights take in a format."""
    return checkpoint.weights.num_parameters * _BYTES_PER_PARAMETER[dtype]


def _place_on_gpus(checkpoint: Checkpoint, hardware: Hardware, options: LoadOptions) -> Placement:
    gpu = max(hardware.gpus, key=lambda each: each.free_bytes)
    dtype = _gpu_dtype(gpu, options.precision)
    weights = weight_bytes(checkpoint, dtype)
    what_it_is = (
        "it is this Mac's GPU" if gpu.capability is None else f"it has compute capability {_dotted(gpu.capability)}"
    )
    if _needed_bytes(weights) <= gpu.free_bytes:
        room = f"{_gb(gpu.free_bytes)} free for {_gb(weights)} of weights"
        reason = f"{dtype} on {gpu.device}, because {what_it_is} and {room}"
        return Placement(gpu.device, dtype, None, _with_request(reason, options))
    together = sum(each.free_bytes for each in hardware.gpus)
    if len(hardware.gpus) > 1 and _needed_bytes(weights) <= together:
        reason = (
            f"{dtype} spread over {len(hardware.gpus)} GPUs, because {_gb(weights)} of weights fit none of them alone "
            f"and together they have {_gb(together)} free"
        )
        return Placement("auto", dtype, None, _with_request(reason, options))
    place = gpu.device if len(hardware.gpus) == 1 else f"{len(hardware.gpus)} GPUs together"
    raise NotEnoughMemory(_refusal(checkpoint, dtype, place, together, hardware, options))


def _place_on_cpu(checkpoint: Checkpoint, hardware: Hardware, options: LoadOptions) -> Placement:
    dtype, because = _cpu_dtype(checkpoint, hardware, options.precision)
    weights = weight_bytes(checkpoint, dtype)
    if _needed_bytes(weights) > hardware.cpu_free_bytes:
        raise NotEnoughMemory(_refusal(checkpoint, dtype, "this computer", hardware.cpu_free_bytes, hardware, options))
    where = "--cpu-only was given" if options.cpu_only and hardware.gpus else "no GPU was found"
    room = f"{_gb(hardware.cpu_free_bytes)} are free for {_gb(weights)} of weights"
    reason = f"{dtype} on cpu, because {where}{because}; {room}"
    return Placement("cpu", dtype, None, _with_request(reason, options))


def _gpu_dtype(gpu: Gpu, precision: Precision) -> Dtype:
    if precision != "auto":
        return _DTYPES[precision]
    return "bfloat16" if gpu.computes_bfloat16 else "float16"


def _cpu_dtype(checkpoint: Checkpoint, hardware: Hardware, precision: Precision) -> tuple[Dtype, str]:
    """The format for the processor and the half sentence that says why; float16 is never chosen, it is slow there."""
    if precision != "auto":
        return _DTYPES[precision], ""
    fits_float32 = _needed_bytes(weight_bytes(checkpoint, "float32")) <= hardware.cpu_free_bytes
    is_large = checkpoint.weights.num_parameters > _SMALL_MODEL_PARAMETERS
    if hardware.cpu_computes_bfloat16 and is_large:
        return "bfloat16", " and this processor is quickest in bfloat16"
    if fits_float32:
        return "float32", " and this processor is quickest in float32"
    return "bfloat16", " and float32 would not fit"


def _needed_bytes(weights: int) -> int:
    return int(weights * _ROOM_FACTOR) + _ROOM_BYTES


def _refusal(
    checkpoint: Checkpoint, dtype: Dtype, place: str, free_bytes: int, hardware: Hardware, options: LoadOptions
) -> str:
    choices = []
    half = weight_bytes(checkpoint, "bfloat16")
    if dtype == "float32" and _needed_bytes(half) <= free_bytes:
        choices.append(f"--precision bf16 (about {_gb(_needed_bytes(half))})")
    fits_cpu = any(
        _needed_bytes(weight_bytes(checkpoint, each)) <= hardware.cpu_free_bytes for each in ("float32", "bfloat16")
    )
    if hardware.gpus and not options.cpu_only and fits_cpu:
        choices.append(f"--cpu-only ({_gb(hardware.cpu_free_bytes)} of main memory are free)")
    choices.append("a smaller checkpoint with -c" if choices else "a smaller checkpoint, such as -c builtin")
    return (
        f"{checkpoint.name} in {dtype} needs about {_gb(_needed_bytes(weight_bytes(checkpoint, dtype)))}; {place} has "
        f"{_gb(free_bytes)} free. Use {' or '.join(choices)}."
    )


def _with_request(reason: str, options: LoadOptions) -> str:
    return reason if options.precision == "auto" else f"{reason} (--precision {options.precision} was given)"


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def _gb(num_bytes: int) -> str:
    """Decimal gigabytes as disks and hubs count them: "15.4 GB", "131 GB", "12 MB"."""
    gigabytes = num_bytes / 1e9
    if gigabytes >= 100:
        return f"{gigabytes:.0f} GB"
    return f"{gigabytes:.1f} GB" if gigabytes >= 0.1 else f"{max(1, round(num_bytes / 1e6))} MB"
