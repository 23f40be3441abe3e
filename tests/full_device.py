"""A device node of a test's own that is always full."""

import os
import stat
from pathlib import Path

import pytest


def make_full_device(path: Path) -> None:
    """Creates a device node that behaves as ``/dev/full``; skips where that is not permitted."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 7))
        with path.open("wb", buffering=0), path.open("rb"):
            pass
    except PermissionError:
        path.unlink(missing_ok=True)
        pytest.skip("only root makes device nodes, where the container permits it")
