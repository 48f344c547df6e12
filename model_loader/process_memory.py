"""What a process does with memory beyond its own objects: the garbage collector and the C library's allocator."""

import contextlib
import ctypes
import gc

_M_ARENA_MAX = -8
"""As in glibc's malloc.h."""


def share_one_heap() -> None:
    """Lets all threads allocate from one heap; call it before there are any.

    glibc gives each thread one of many, as far as there are some left, and every answer is a thread: what is free in
    one heap is of no use to the others, and a page under traffic grows by megabytes an hour.
    """
    _call_libc("mallopt", _M_ARENA_MAX, 1)


def settle() -> None:
    """Lets the garbage collector pass over all that is there now, once libraries have been imported.

    A full collection looks at every object: 0.15 s with gradio imported, 0.4 s with torch and transformers, in which no
    thread goes on. Objects that are let go are freed all the same, unless they hold one another.
    """
    gc.collect()
    gc.freeze()


def trim() -> None:
    """Returns to the system what was let go and is still kept by Python's and the C library's allocators."""
    gc.collect()
    _call_libc("malloc_trim", 0)


def _call_libc(function: str, *arguments: int) -> None:
    """Calls a function that glibc alone has; on Windows there is not even a library without a name."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        getattr(ctypes.CDLL(None), function)(*arguments)
