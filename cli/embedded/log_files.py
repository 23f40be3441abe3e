"""The embedded cluster's log files: closed to other users, and limited in size."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import structlog

log = structlog.get_logger(__name__)

MAX_LOG_BYTES = 16 * 2**20  # of a file; the part before it, ``NAME.log.1``, is as large


def make_logs_dir(cluster_dir: Path) -> Path:
    """Returns the folder of the processes' logs; closes it where it is open to other users."""
    folder = cluster_dir / "logs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def open_log(path: Path) -> BinaryIO:
    """Opens a log for appending, and closes it to other users."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "ab")


def find_logs(cluster_dir: Path) -> Iterator[Path]:
    """Yields the logs of the processes, of Postgres and of Valkey."""
    yield from (cluster_dir / "logs").glob("*.log")
    yield from (cluster_dir / "postgres" / "log", cluster_dir / "valkey" / "valkey.log")


def limit_logs(paths: Iterable[Path], max_bytes: int = MAX_LOG_BYTES) -> None:
    """Empties logs that are larger than ``max_bytes`` and keeps the end of each beside it.

    The processes go on writing to the same files: all of them append, so that what they write next
    is the start of the emptied file. A line that comes in the moment of the change may be lost.
    """
    for path in paths:
        if path.exists() and path.stat().st_size > max_bytes:
            _keep_end(path, max_bytes)
            os.truncate(path, 0)
            log.info("log_rotated", path=str(path))


def _keep_end(path: Path, max_bytes: int) -> None:
    """Copies the last ``max_bytes`` of a log to the file that ends with ``.1``."""
    kept = path.with_name(f"{path.name}.1")
    try:
        kept.unlink(missing_ok=True)
        with path.open("rb") as source, open_log(kept) as target:
            source.seek(-max_bytes, os.SEEK_END)
            shutil.copyfileobj(source, target)
    except OSError as error:  # a full disk; emptying the log makes room
        log.warning("log_not_kept", path=str(path), error=str(error))
        with suppress(OSError):
            kept.unlink(missing_ok=True)
