"""Asks torch and the operating system what this machine offers and what is taken of it; decides nothing."""

import math
import platform
import threading
import time
import weakref

import psutil
import torch

from model_loader.loading.placement import Gpu, Hardware
from model_loader.process_memory import trim

_BANDWIDTH_BYTES = 512_000_000
_BANDWIDTH_ROUNDS = 4
_WATCH_S = 0.02


def probe_hardware() -> Hardware:
    """The accelerators and memory that can be used now. Initialises CUDA where there is any."""
    return Hardware(
        gpus=_cuda_gpus() or _apple_gpu(),
        cpu_free_bytes=int(psutil.virtual_memory().available),
        cpu_computes_bfloat16=_cpu_computes_bfloat16(),
    )


def free_bytes(device: str) -> int:
    """Memory that is free now where a model was placed: on a GPU, on all of them ("auto"), or on the processor."""
    gpus = [gpu for gpu in probe_hardware().gpus if device in (gpu.device, "auto")]
    return sum(gpu.free_bytes for gpu in gpus) or int(psutil.virtual_memory().available)


def use_device(device: torch.device) -> None:
    """Makes a GPU the calling thread's own: Triton's kernels and CUDA graphs do not ask where their tensors are."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def give_back_memory() -> None:
    """Returns to the system what a model has left behind with Python's, torch's and the C library's allocators."""
    trim()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _cuda_gpus() -> tuple[Gpu, ...]:
    if not torch.cuda.is_available():
        return ()
    gpus = []
    for index in range(torch.cuda.device_count()):
        capability = torch.cuda.get_device_capability(index)
        free_bytes, _total = torch.cuda.mem_get_info(index)
        gpus.append(Gpu(f"cuda:{index}", capability, free_bytes, computes_bfloat16=capability >= (8, 0)))
    return tuple(gpus)


def _apple_gpu() -> tuple[Gpu, ...]:
    if not torch.backends.mps.is_available():
        return ()
    # Apple's GPU shares main memory; Metal says how much of it one program should take.
    free_bytes = min(int(torch.mps.recommended_max_memory()), int(psutil.virtual_memory().available))
    return (Gpu("mps", None, free_bytes, computes_bfloat16=_mps_computes_bfloat16()),)


def _mps_computes_bfloat16() -> bool:
    return bool(torch.backends.mps.is_macos_or_newer(14, 0))


def _cpu_computes_bfloat16() -> bool:
    """Whether bfloat16 is quicker than float32 on the processor.

    AMX, AVX512-BF16 and Arm's instructions make it so. With torch 2.13 and weights in oneDNN's order (see `fuse`) an
    AVX512-BF16 processor took one row through an 896 x 9728 layer in 0.6 ms in bfloat16 and 1.2 ms in float32, 256 rows
    in 10 and 20 ms.
    """
    if platform.machine().lower() in ("arm64", "aarch64"):
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def measure_bandwidth(device: torch.device) -> float:
    """Bytes per second that a device reads from its memory, the best of a few sums over half a gigabyte."""
    data = torch.ones(_BANDWIDTH_BYTES // 4, device=device)
    best_s = math.inf
    for _ in range(_BANDWIDTH_ROUNDS):
        started = time.perf_counter()
        data.sum().item()  # waits for the device
        best_s = min(best_s, time.perf_counter() - started)
    return _BANDWIDTH_BYTES / best_s


class PeakMemory:
    """The most memory that was taken since it was made or reset: a GPU's by torch, or the process' own.

    Args:
        device: of a placement: "cuda:0", "auto", "mps" or "cpu".
    """

    def __init__(self, device: str) -> None:
        self._is_cuda = torch.cuda.is_available() and device != "cpu"
        self._most_bytes = 0
        self._process = psutil.Process()
        self.reset()
        if not self._is_cuda:
            threading.Thread(target=self._watch, args=(weakref.ref(self),), daemon=True).start()

    def reset(self) -> None:
        """Begins anew."""
        if self._is_cuda:
            for index in range(torch.cuda.device_count()):
                torch.cuda.reset_peak_memory_stats(index)
        self._most_bytes = self._process.memory_info().rss

    def read(self) -> int:
        """The most bytes so far."""
        if self._is_cuda:
            return sum(torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count()))
        return max(self._most_bytes, self._process.memory_info().rss)

    @staticmethod
    def _watch(reference: "weakref.ref[PeakMemory]") -> None:
        while (peak := reference()) is not None:
            peak._most_bytes = max(peak._most_bytes, peak._process.memory_info().rss)
            del peak
            time.sleep(_WATCH_S)
