"""How the process's allocator treats memory that is freed."""

import contextlib
import ctypes
from collections.abc import Iterator

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of <malloc.h>
_NEVER = -1
# Where glibc ends by itself in a process that frees large blocks; what is set by hand stays.
_USUAL = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20}


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[bool]:
    """Meanwhile freed memory waits for its next use instead of going back to the system.

    When a network is trained on a CPU, every layer of every batch needs memory of the same sizes
    again; to fetch it anew from the system costs up to a third of the time, on two threads. Yields
    False where the allocator is not glibc's, which then stays as it is.
    """
    libc = ctypes.CDLL(None)
    change = getattr(libc, "mallopt", None)
    if change is None:
        yield False
        return
    kept = change(_MMAP_MAX, 0)  # blocks of their own would go back whenever they are freed
    try:
        yield bool(kept and change(_TRIM_THRESHOLD, _NEVER))
    finally:
        for setting, value in _USUAL.items():
            change(setting, value)
        libc.malloc_trim(0)
