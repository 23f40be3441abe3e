"""Writing a download to a file that appears only when it is complete."""

import uuid
from collections.abc import Callable, Iterable
from pathlib import Path


def write_whole(file: Path, pieces: Iterable[bytes], on_bytes: Callable[[bytes], object]) -> None:
    """Writes ``pieces`` to a temporary file beside ``file`` and renames it when all are written.

    An existing file is replaced; after a failure it is unchanged and the temporary file is gone.

    Args:
        on_bytes: called with every piece after it was written.
    """
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex}.part")
    try:
        with partial.open("xb") as sink:
            for piece in pieces:
                sink.write(piece)
                on_bytes(piece)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
