"""One lock per device across the processes of a machine."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

LOCK_POLL_S = 0.02
YIELD_LIMIT_S = 0.5

Progress = Callable[[], None]


class DeviceLock:
    """A lock on a device, kept in the file ``path``: ``shared`` to compute, ``exclusive`` to time.

    A process that waits for the exclusive lock keeps new sharers out, and a process that has held
    it lets one of the waiting processes go first. The operating system releases the lock when a
    process ends, for any reason.

    ``fasteners.InterProcessReaderWriterLock`` is not used because it polls a single lock and keeps
    no order: a steady flow of readers starves a writer, and a writer that locks again at once
    starves all others.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._was_exclusive = False

    @contextlib.contextmanager
    def shared(self, on_progress: Progress) -> Iterator[None]:
        """Held while the device computes untimed work; calls ``on_progress`` while waiting."""
        with contextlib.ExitStack() as held:
            with self._flock(".turn", fcntl.LOCK_SH, on_progress):
                held.enter_context(self._flock("", fcntl.LOCK_SH, on_progress))
            yield

    @contextlib.contextmanager
    def exclusive(self, on_progress: Progress) -> Iterator[None]:
        """Held while the device is timed; calls ``on_progress`` while waiting."""
        if self._was_exclusive:
            self._yield_to_others(on_progress)
        with (
            self._flock(".turn", fcntl.LOCK_EX, on_progress),
            self._flock("", fcntl.LOCK_EX, on_progress),
        ):
            self._was_exclusive = True
            yield

    def _yield_to_others(self, on_progress: Progress) -> None:
        """Waits while other processes wait: they poll, and would otherwise never get the lock."""
        deadline = time.monotonic() + YIELD_LIMIT_S
        with self._open(".queue") as queue:
            while not _try_lock(queue, fcntl.LOCK_EX) and time.monotonic() < deadline:
                on_progress()
                time.sleep(LOCK_POLL_S)

    @contextlib.contextmanager
    def _flock(self, part: str, kind: int, on_progress: Progress) -> Iterator[None]:
        with self._open(part) as handle:
            if not _try_lock(handle, kind):
                with self._open(".queue") as queue:
                    fcntl.flock(queue, fcntl.LOCK_SH)
                    while not _try_lock(handle, kind):
                        on_progress()
                        time.sleep(LOCK_POLL_S)
            yield

    @contextlib.contextmanager
    def _open(self, part: str) -> Iterator[int]:
        """Opens a file of this lock; closing it releases what was locked through it."""
        handle = _open_for_all(self._path.with_name(self._path.name + part))
        try:
            yield handle
        finally:
            os.close(handle)


def _try_lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open_for_all(path: Path) -> int:
    """Opens a lock file that every user of the machine may lock; creates it where it is missing."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags)  # O_CREAT is refused in /tmp for files of other users
    except FileNotFoundError:
        handle = os.open(path, flags | os.O_CREAT, 0o666)
        if os.fstat(handle).st_uid == os.geteuid():
            os.fchmod(handle, 0o666)  # independent of the umask
        return handle
