"""Output files: devices, pipes and links stay what they are, and errors are one line."""

import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from convsweep.errors import OutputFileError
from convsweep.output_files import open_output
from tests.full_device import make_full_device

NOBODY = 65534


def write(file: Path, content: bytes = b"new", *, replace: bool = True) -> None:
    with open_output(file, replace=replace) as sink:
        sink.write(content)


@contextmanager
def users_folder() -> Iterator[Path]:
    """A folder of an ordinary user; the block runs with that user's rights, also under root."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        if root:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            if root:
                os.seteuid(0)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_device_is_written_to_and_stays_a_device(tmp_path: Path) -> None:
    full_device = tmp_path / "full"
    make_full_device(full_device)
    with pytest.raises(OutputFileError, match="full cannot be written: No space left on device"):
        write(full_device)
    assert stat.S_ISCHR(full_device.stat().st_mode)
    assert names(tmp_path) == {"full"}


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write(pipe)
    reader.join()
    assert received == [b"new"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert names(tmp_path) == {"pipe.csv"}


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link_and_its_target_is_written(tmp_path: Path, exists: bool) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "target.csv", tmp_path / "link.csv"
    if exists:
        target.write_bytes(b"old")
    link.symlink_to(target)
    write(link)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert names(target.parent) == {"target.csv"}


def test_a_link_that_leads_to_itself_is_one_line(tmp_path: Path) -> None:
    link = tmp_path / "link.csv"
    link.symlink_to(link)
    with pytest.raises(OutputFileError, match=r"link\.csv cannot be written: .*links"):
        write(link)


def test_files_of_the_user_with_part_in_their_name_are_left_alone(tmp_path: Path) -> None:
    for name in ("x.csv.part", ".x.csv.part"):
        (tmp_path / name).write_bytes(b"mine")
    write(tmp_path / "x.csv")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "x.csv": b"new", "x.csv.part": b"mine", ".x.csv.part": b"mine",
    }  # fmt: skip


def test_a_name_of_the_longest_length_is_written(tmp_path: Path) -> None:
    write(tmp_path / ("x" * 255))
    assert names(tmp_path) == {"x" * 255}


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    file = tmp_path / "private.csv"
    file.write_bytes(b"old")
    file.chmod(0o600)
    write(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_error_in_the_block_leaves_the_previous_file_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(b"old")

    def interrupted() -> None:
        with open_output(file) as sink:
            sink.write(b"half")
            sink.flush()
            assert file.read_bytes() == b"old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == {"x.csv"}


def test_a_file_that_may_not_be_replaced_is_not_even_if_it_comes_meanwhile(tmp_path: Path) -> None:
    file = tmp_path / "x.backup"
    with pytest.raises(OutputFileError, match="File exists"), open_output(file, replace=False):
        file.write_bytes(b"another process's")
    with pytest.raises(OutputFileError, match="is there already"):
        write(file, replace=False)
    assert file.read_bytes() == b"another process's"
    assert names(tmp_path) == {"x.backup"}


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputFileError, match=r"the folder .*/nowhere does not exist\.$"):
        write(tmp_path / "nowhere" / "x.csv")


def test_a_folder_as_target_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputFileError, match="is a folder"):
        write(tmp_path)


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputFileError, match=r"x\.csv cannot be written: Not a directory"):
        write(tmp_path / "file" / "x.csv")


def test_a_read_only_file_is_one_line() -> None:
    with users_folder() as folder:
        file = folder / "x.csv"
        file.write_bytes(b"old")
        file.chmod(0o400)
        with pytest.raises(OutputFileError, match="is read-only"):
            write(file)
        assert file.read_bytes() == b"old"


def test_a_read_only_folder_is_one_line() -> None:
    with users_folder() as folder:
        folder.chmod(0o500)
        try:
            with pytest.raises(OutputFileError, match=r"x\.csv cannot be written: Permission"):
                write(folder / "x.csv")
        finally:
            folder.chmod(0o700)


def test_a_file_beyond_the_limit_of_its_size_is_one_line_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from convsweep.errors import OutputFileError\n"
        "from convsweep.output_files import open_output\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    with open_output(Path(sys.argv[1])) as sink: sink.write(bytes(100_000))\n"
        "except OutputFileError as error: print(error.message)\n"
    )
    file = tmp_path / "x.csv"
    file.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{file} cannot be written: File too large.\n"
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == {"x.csv"}


def test_standard_output_is_continued_where_it_stands(tmp_path: Path) -> None:
    code = (
        "import os; from pathlib import Path; from convsweep.output_files import open_output\n"
        "os.write(1, b'before ')\n"
        "for name in ('/dev/stdout', '/dev/fd/1'):\n"
        "    with open_output(Path(name)) as sink: sink.write(b'content ')\n"
        "os.write(1, b'after')\n"
    )
    file = tmp_path / "redirected"
    with file.open("wb") as sink:
        subprocess.run([sys.executable, "-c", code], stdout=sink, check=True)
    assert file.read_bytes() == b"before content content after"
