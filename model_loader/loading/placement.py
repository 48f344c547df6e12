"""Where a checkpoint goes on this machine, in which number format, and why; pure, without torch.

`Hardware` comes in as plain numbers, so every decision can be tried without the machine it is made for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from model_loader.checkpoint.context_length import parse_long_context
from model_loader.checkpoint.resolve import Checkpoint
from model_loader.errors import InvalidSetting, NotEnoughMemory

Precision = Literal["auto", "bf16", "fp16", "fp32", "int8", "int4"]
Dtype = Literal["bfloat16", "float16", "float32"]
Quantization = Literal["int8", "int4"]

QUANTIZATION_BITS: Mapping[Quantization, int] = {"int8": 8, "int4": 4}
_DTYPES: Mapping[str, Dtype] = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_BYTES_PER_PARAMETER: Mapping[Dtype, int] = {"bfloat16": 2, "float16": 2, "float32": 4}
_BYTES_PER_ROUNDED: Mapping[Quantization, float] = {"int8": 1.0, "int4": 0.5 + 4 / 128}
"""Int4 has a scale and a zero in bfloat16 for each group of 128."""
_KERNEL_CAPABILITY = (8, 0)
"""From here on NVIDIA's GPUs compute with packed 4-bit weights."""
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
        long_context: "ntk", "logn" and "window" with commas, or "none", instead of what a Qwen-1 checkpoint says.
        context_length: the window in tokens, instead of the checkpoint's own.

    Raises:
        InvalidSetting: a value is none of those.
    """

    precision: Precision = "auto"
    cpu_only: bool = False
    long_context: str | None = None
    context_length: int | None = None

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
        cpu_computes_bfloat16: whether the processor is quicker in bfloat16 than in float32 (AMX, AVX512-BF16, Arm).
    """

    gpus: tuple[Gpu, ...]
    cpu_free_bytes: int
    cpu_computes_bfloat16: bool


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the weights go.

    Attributes:
        device: "cuda:0", "mps" or "cpu"; "auto" when accelerate spreads the layers over several GPUs.
        dtype: the format that is computed in, and that unquantized weights are kept in.
        quantization: the format that the linear layers' weights are kept in; None for `dtype`.
        reason: one sentence for the user that says all of it and why.
    """

    device: str
    dtype: Dtype
    quantization: Quantization | None
    reason: str

    @property
    def summary(self) -> str:
        """The weights' format and the device, such as "bfloat16 on cuda:0"."""
        return f"{self.quantization or self.dtype} on {self.device}"


@dataclass(frozen=True, slots=True)
class _Form:
    """One way to keep the weights: its format, its size and the half sentence that says why.

    `head_bytes` is a last layer that shares the embedding's weight: processors keep it once more, in their own order.
    """

    dtype: Dtype
    quantization: Quantization | None
    weight_bytes: int
    because: str = ""
    head_bytes: int = 0

    @property
    def name(self) -> str:
        return self.quantization or self.dtype

    @property
    def needed_bytes(self) -> int:
        return int((self.weight_bytes + self.head_bytes) * _ROOM_FACTOR) + _ROOM_BYTES


def choose_placement(checkpoint: Checkpoint, hardware: Hardware, options: LoadOptions) -> Placement:
    """Decides where a checkpoint is loaded: the roomiest GPU, else several together, else the processor.

    Raises:
        InvalidSetting: the weights are quantized already, and not as asked.
        NotEnoughMemory: it fits nowhere that the options allow; the message names what does fit.
    """
    if hardware.gpus and not options.cpu_only:
        return _place_on_gpus(checkpoint, hardware, options)
    return _place_on_cpu(checkpoint, hardware, options)


def with_freed(hardware: Hardware, checkpoint: Checkpoint, placement: Placement) -> Hardware:
    """The machine as it will be when a loaded checkpoint has made room."""
    freed = weight_bytes(checkpoint, placement.dtype, placement.quantization)
    if placement.device == "cpu":
        return replace(hardware, cpu_free_bytes=hardware.cpu_free_bytes + freed)
    on = [gpu for gpu in hardware.gpus if placement.device in (gpu.device, "auto")]
    gpus = (replace(gpu, free_bytes=gpu.free_bytes + freed // len(on)) if gpu in on else gpu for gpu in hardware.gpus)
    return replace(hardware, gpus=tuple(gpus))


def weight_bytes(checkpoint: Checkpoint, dtype: Dtype, quantization: Quantization | None = None) -> int:
    """Bytes that the weights take in a format; the embedding is never rounded, the last layer to 8 bits at most."""
    if checkpoint.gptq is not None or checkpoint.foreign_method is not None:
        return checkpoint.weights.num_bytes
    parameters = checkpoint.weights.num_parameters
    if quantization is None:
        return parameters * _BYTES_PER_PARAMETER[dtype]
    embedding = _embedding_parameters(checkpoint)
    has_own_head = "lm_head.weight" in checkpoint.weights.names
    linear = parameters - embedding * (2 if has_own_head else 1)
    return int(linear * _BYTES_PER_ROUNDED[quantization]) + embedding * _BYTES_PER_PARAMETER[dtype] + embedding


def _embedding_parameters(checkpoint: Checkpoint) -> int:
    return int(checkpoint.config.get("vocab_size", 0)) * int(checkpoint.config.get("hidden_size", 0))


def _place_on_gpus(checkpoint: Checkpoint, hardware: Hardware, options: LoadOptions) -> Placement:
    gpu = max(hardware.gpus, key=lambda each: each.free_bytes)
    together = sum(each.free_bytes for each in hardware.gpus)
    what_it_is = (
        "it is this Mac's GPU" if gpu.capability is None else f"it has compute capability {_dotted(gpu.capability)}"
    )
    forms = _gpu_forms(checkpoint, gpu, options.precision)
    for form in forms:
        if form.needed_bytes <= gpu.free_bytes:
            room = f"{_gb(gpu.free_bytes)} free for {_gb(form.weight_bytes)} of weights"
            reason = f"{form.name} on {gpu.device}, because {what_it_is} and {room}{form.because}"
            return _placement(gpu.device, form, reason, options)
        if len(hardware.gpus) > 1 and form.needed_bytes <= together and form.quantization is None:
            reason = (
                f"{form.name} spread over {len(hardware.gpus)} GPUs, because {_gb(form.weight_bytes)} of weights fit "
                f"none of them alone and together they have {_gb(together)} free"
            )
            return _placement("auto", form, reason, options)
    place = gpu.device if len(hardware.gpus) == 1 else f"{len(hardware.gpus)} GPUs together"
    raise NotEnoughMemory(_refusal(checkpoint, forms[-1], place, together, hardware, options))


def _place_on_cpu(checkpoint: Checkpoint, hardware: Hardware, options: LoadOptions) -> Placement:
    forms = _cpu_forms(checkpoint, hardware, options.precision)
    where = "--cpu-only was given" if options.cpu_only and hardware.gpus else "no GPU was found"
    for form in forms:
        if form.needed_bytes <= hardware.cpu_free_bytes:
            room = f"{_gb(hardware.cpu_free_bytes)} are free for {_gb(form.weight_bytes)} of weights"
            return _placement("cpu", form, f"{form.name} on cpu, because {where}{form.because}; {room}", options)
    refusal = _refusal(checkpoint, forms[-1], "this computer", hardware.cpu_free_bytes, hardware, options)
    raise NotEnoughMemory(refusal)


def _gpu_forms(checkpoint: Checkpoint, gpu: Gpu, precision: Precision) -> list[_Form]:
    """What to try on a GPU, in order: bfloat16 or float16, and 4 bits if that does not fit."""
    packed = "" if gpu.capability and gpu.capability >= _KERNEL_CAPABILITY else "; its weights are unpacked at each use"
    if fixed := _fixed_form(checkpoint, precision):
        return [replace(fixed, because=packed) if fixed.quantization else fixed]
    whole = _form(checkpoint, "bfloat16" if gpu.computes_bfloat16 else "float16")
    return [whole, _form(checkpoint, "bfloat16", "int4", _rounding_note(whole) + packed)]


def _cpu_forms(checkpoint: Checkpoint, hardware: Hardware, precision: Precision) -> list[_Form]:
    """What to try on a processor; float16 only if asked for, it is slow there."""
    return [_with_head(checkpoint, form) for form in _usual_cpu_forms(checkpoint, hardware, precision)]


def _with_head(checkpoint: Checkpoint, form: _Form) -> _Form:
    if form.quantization is not None or "lm_head.weight" in checkpoint.weights.names:
        return form  # counted among the weights
    return replace(form, head_bytes=_embedding_parameters(checkpoint) * _BYTES_PER_PARAMETER[form.dtype])


def _usual_cpu_forms(checkpoint: Checkpoint, hardware: Hardware, precision: Precision) -> list[_Form]:
    if fixed := _fixed_form(checkpoint, precision):
        return [fixed]
    is_large = checkpoint.weights.num_parameters > _SMALL_MODEL_PARAMETERS
    whole = _form(checkpoint, "float32", None, " and this processor is quickest in float32")
    half = _form(checkpoint, "bfloat16", None, " and float32 would not fit")
    rounded = _form(checkpoint, "bfloat16", "int4", _rounding_note(half))
    if hardware.cpu_computes_bfloat16 and is_large:
        return [replace(half, because=" and this processor is quickest in bfloat16"), rounded]
    if hardware.cpu_computes_bfloat16:
        whole = replace(whole, because=" and so small a model is quick in the more exact format")
    return [whole, half, rounded]


def _fixed_form(checkpoint: Checkpoint, precision: Precision) -> _Form | None:
    """The one form there is: the checkpoint's own quantization, or what was asked for."""
    if checkpoint.gptq is not None:
        own: Quantization = "int4" if checkpoint.gptq.bits == 4 else "int8"
        if precision not in ("auto", own):
            raise InvalidSetting(
                f"--precision is {precision}, but {checkpoint.name} is quantized to {checkpoint.gptq.bits} bits "
                "already. Leave --precision out, or use the checkpoint's unquantized sibling."
            )
        return _form(checkpoint, "bfloat16", own)
    if checkpoint.foreign_method is not None:
        if precision != "auto":
            raise InvalidSetting(
                f"--precision is {precision}, but {checkpoint.name} is quantized with {checkpoint.foreign_method} "
                "already. Leave --precision out, or use the checkpoint's unquantized sibling."
            )
        return _form(checkpoint, "bfloat16", None, f"; its weights are quantized with {checkpoint.foreign_method}")
    if precision == "auto":
        return None
    if precision in ("int4", "int8"):
        return _form(checkpoint, "bfloat16", precision)
    return _form(checkpoint, _DTYPES[precision])


def _form(checkpoint: Checkpoint, dtype: Dtype, quantization: Quantization | None = None, because: str = "") -> _Form:
    return _Form(dtype, quantization, weight_bytes(checkpoint, dtype, quantization), because)


def _rounding_note(whole: _Form) -> str:
    return f" and {_gb(whole.weight_bytes)} in {whole.name} would not fit (rounding to 4 bits costs some quality)"


def _placement(device: str, form: _Form, reason: str, options: LoadOptions) -> Placement:
    if options.precision != "auto":
        reason += f" (--precision {options.precision} was given)"
    return Placement(device, form.dtype, form.quantization, reason)


def _refusal(
    checkpoint: Checkpoint, form: _Form, place: str, free_bytes: int, hardware: Hardware, options: LoadOptions
) -> str:
    choices = []
    if checkpoint.gptq is None and checkpoint.foreign_method is None:
        for precision, dtype, quantization in (("bf16", "bfloat16", None), ("int4", "bfloat16", "int4")):
            smaller = _form(checkpoint, dtype, quantization)  # type: ignore[arg-type]
            if smaller.needed_bytes < form.needed_bytes and smaller.needed_bytes <= free_bytes:
                choices.append(f"--precision {precision} (about {_gb(smaller.needed_bytes)})")
    on_cpu = _cpu_forms(checkpoint, hardware, "auto")
    if hardware.gpus and not options.cpu_only and on_cpu[-1].needed_bytes <= hardware.cpu_free_bytes:
        choices.append(f"--cpu-only ({_gb(hardware.cpu_free_bytes)} of main memory are free)")
    choices.append("a smaller checkpoint with -c" if choices else "a smaller checkpoint, such as -c builtin")
    return (
        f"{checkpoint.name} in {form.name} needs about {_gb(form.needed_bytes)}; {place} has {_gb(free_bytes)} free. "
        f"Use {' or '.join(choices)}."
    )


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def _gb(num_bytes: int) -> str:
    """Decimal gigabytes as disks and hubs count them: "15.4 GB", "131 GB", "12 MB"."""
    gigabytes = num_bytes / 1e9
    if gigabytes >= 100:
        return f"{gigabytes:.0f} GB"
    return f"{gigabytes:.1f} GB" if gigabytes >= 0.1 else f"{max(1, round(num_bytes / 1e6))} MB"
