"""Garbage collection that looks at little, and one heap for all threads."""

import platform
import subprocess
import sys

import pytest

COUNT_HEAPS = """
import ctypes, sys, threading
from model_loader.process_memory import share_one_heap

if sys.argv[1] == "one":
    share_one_heap()
held = []
barrier = threading.Barrier(8)

def allocate():
    barrier.wait()
    held.extend(bytes(5000 + number) for number in range(500))
    barrier.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info(0, ctypes.c_void_p(libc.fdopen(1, b"w")))
libc.fflush(None)
"""


def test_a_settled_process_collects_without_looking_at_its_libraries() -> None:
    program = (
        "import gc, asyncio, email, json\n"
        "from model_loader.process_memory import settle\n"
        "settle()\n"
        "print(gc.get_freeze_count(), len(gc.get_objects()))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    num_frozen, num_watched = map(int, said.split())
    assert num_frozen > 10_000
    assert num_watched < 1_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have no arenas")
def test_threads_share_one_heap() -> None:
    def num_heaps(how: str) -> int:
        program = [sys.executable, "-c", COUNT_HEAPS, how]
        return subprocess.run(program, capture_output=True, text=True, check=True).stdout.count("<heap nr=")

    assert num_heaps("one") == 1
    assert num_heaps("many") > 1
