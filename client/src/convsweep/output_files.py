"""Opening the files that users name for output."""

import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from convsweep.errors import OutputFileError

_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")
_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}


@contextmanager
def open_output(file: Path, *, replace: bool = True) -> Iterator[BinaryIO]:
    """Opens a file that a user named for output.

    A regular file appears, or replaces the previous one, when the block ends without an error: the
    content goes into a temporary file of the same folder first. Links lead to their targets and
    stay. A device, a pipe or a stream such as ``/dev/stdout`` is written directly.

    Args:
        replace: whether a regular file of this name may be replaced.

    Raises:
        OutputFileError: the file cannot be written; the message names the file and the reason.
    """
    try:
        descriptor = _open_stream(file)
        if descriptor is None:
            with _open_regular(file, replace) as sink:
                yield sink
        else:
            with os.fdopen(descriptor, "wb") as sink:
                yield sink
    except OSError as error:
        raise OutputFileError(f"{file} cannot be written: {error.strerror or error}.") from error


def _open_stream(file: Path) -> int | None:
    """Returns a descriptor of something that must not be renamed over; None for regular files."""
    number = _descriptor_number(file)
    if number is not None:
        return os.dup(number)  # opening it anew would start at the beginning of its file
    try:
        kind = file.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(kind):
        raise OutputFileError(f"{file} is a folder; name a file.")
    return None if stat.S_ISREG(kind) else os.open(file, os.O_WRONLY)


def _descriptor_number(file: Path) -> int | None:
    path = os.path.abspath(file)  # noqa: PTH100  (resolving would follow the link)
    match = _DESCRIPTOR.fullmatch(path)
    return int(match[1]) if match else _STREAMS.get(path)


@contextmanager
def _open_regular(file: Path, replace: bool) -> Iterator[BinaryIO]:
    target = file.resolve()
    folder = target.parent
    if not folder.is_dir():
        raise OutputFileError(f"{file}: the folder {folder} does not exist.")
    _check_replaceable(file, target, replace)
    partial = folder / f".convsweep-{uuid.uuid4().hex}.part"  # of a length that always fits
    try:
        with partial.open("xb") as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        _move(partial, target, replace)
    finally:
        partial.unlink(missing_ok=True)


def _check_replaceable(file: Path, target: Path, replace: bool) -> None:
    if target.exists():
        if not replace:
            raise OutputFileError(f"{file} is there already; choose another name.")
        if not os.access(target, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise OutputFileError(f"{file} is read-only; choose another name.")


def _move(partial: Path, target: Path, replace: bool) -> None:
    if not replace:
        os.link(partial, target)  # unlike a rename it never replaces a file that came meanwhile
        return
    with suppress(FileNotFoundError):
        previous = target.stat()
        partial.chmod(stat.S_IMODE(previous.st_mode))
    partial.replace(target)
