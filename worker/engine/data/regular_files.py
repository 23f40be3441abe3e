"""Opening files of datasets: regular files only, and none that declares more than a limit."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from shared.domain.errors import DatasetCorruptError

MAX_BYTES = 4 * 2**30  # of a dataset, unpacked


def open_regular(path: Path) -> BinaryIO:
    """Returns a regular file, opened for reading; links are followed.

    A pipe without a writer does not block, and a device is never read.

    Raises:
        DatasetCorruptError: the path leads to something else, or cannot be opened.
        FileNotFoundError: it leads nowhere.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DatasetCorruptError(f"{path} cannot be opened: {error}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise DatasetCorruptError(f"{path} is not a regular file.")
    return os.fdopen(handle, "rb")


def check_folder(folder: Path, max_bytes: int) -> None:
    """Returns if a folder contains only regular files and folders, within a limit in all.

    Raises:
        DatasetCorruptError: it contains something else, or more.
    """
    total = 0
    for path in sorted(folder.rglob("*")):
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            continue
        if not stat.S_ISREG(status.st_mode):
            raise DatasetCorruptError(f"{path} is not a regular file.")
        total += status.st_size
    check_size(folder, total, max_bytes)


def check_size(path: Path, size: int, max_bytes: int) -> None:
    """Returns if a dataset of ``size`` bytes is within the limit.

    Raises:
        DatasetCorruptError: it is not.
    """
    if size > max_bytes:
        raise DatasetCorruptError(
            f"{path} declares {size / 2**30:,.1f} GiB of data; at most "
            f"{max_bytes / 2**30:,.1f} GiB are read (CONVSWEEP_MAX_DATASET_BYTES)."
        )
