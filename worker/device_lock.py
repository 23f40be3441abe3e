"""One lock per device across the processes of a machine."""

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

LOCK_POLL_S = 0.02
YIELD_LIMIT_S = 0.5

REPORT_AFTER_S = 60.0  # a wait of this length is a problem that people should see

Progress = Callable[[], None]
ReportWaiting = Callable[[str | None], None]  # what a long wait is for; None once it is over


def ignore_waiting(_problem: str | None) -> None:
    """Reports nothing."""


class DeviceLock:
    """A lock on a device, kept in the file ``path``: ``shared`` to compute, ``exclusive`` to time.

    A process that waits for the exclusive lock keeps new sharers out, and a process that has held
    it lets one of the waiting processes go first. The operating system releases the lock when a
    process ends, for any reason. The file is in a folder of the user that is closed to others, so
    that other users cannot hold the lock. ``report`` hears of waits that last long.

    ``fasteners.InterProcessReaderWriterLock`` is not used because it polls a single lock and keeps
    no order: a steady flow of readers starves a writer, and a writer that locks again at once
    starves all others.
    """

    def __init__(self, path: Path, report: ReportWaiting = ignore_waiting) -> None:
        self._path = path
        self._report = report
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
                    self._wait(handle, kind, on_progress)
            yield

    def _wait(self, handle: int, kind: int, on_progress: Progress) -> None:
        started, reported = time.monotonic(), False
        try:
            while not _try_lock(handle, kind):
                on_progress()
                if not reported and time.monotonic() - started > REPORT_AFTER_S:
                    reported = True
                    self._report(
                        f"Waits for its device: another process has held the lock {self._path} "
                        f"for {REPORT_AFTER_S:.0f} s. It works again when that process lets go."
                    )
                time.sleep(LOCK_POLL_S)
        finally:
            if reported:
                self._report(None)

    @contextlib.contextmanager
    def _open(self, part: str) -> Iterator[int]:
        """Opens a file of this lock; closing it releases what was locked through it."""
        handle = _open_own(self._path.with_name(self._path.name + part))
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


def _open_own(path: Path) -> int:
    """Opens a lock file of this user in a folder that no other user can write to.

    Raises:
        OSError: the folder or the file is a link, or belongs or is open to another user.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check_own(folder, path.parent, 0o022)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        handle = os.open(path.name, flags, 0o600, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        _check_own(handle, path, 0o077)
    except OSError:
        os.close(handle)
        raise
    return handle


def _check_own(handle: int, path: Path, forbidden: int) -> None:
    status = os.fstat(handle)
    if status.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to another user", str(path))
    if stat.S_IMODE(status.st_mode) & forbidden:
        raise PermissionError(errno.EPERM, "it is open to other users", str(path))
