"""How the process's allocator treats memory that is freed."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of <malloc.h>
_GREATEST_MMAP_THRESHOLD = 32 << 20  # glibc takes no greater one
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Makes freed memory wait for its next use instead of going back to the system.

    On a CPU every layer of every batch needs memory of the same sizes again; fetching it anew from
    the system cost about a quarter of a small network's training step, on two threads. The process
    keeps what it once used. Returns False where the allocator is not glibc's, which
    then stays as it is.
    """
    change = getattr(ctypes.CDLL(None), "mallopt", None)
    if change is None:
        return False
    kept = change(_MMAP_THRESHOLD, _GREATEST_MMAP_THRESHOLD)
    return bool(kept and change(_TRIM_THRESHOLD, _NEVER))
