"""Logs of the embedded cluster: their modes, and their limit while processes write to them."""

import stat
import subprocess
import sys
import time
from pathlib import Path

from cli.embedded.log_files import limit_logs, make_logs_dir, open_log

WRITER = """
import sys
for number in range(2000):
    print(f"line {number:04}" + "." * 90, flush=True)
    sys.stdin.read(1)
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_logs_that_were_open_to_other_users_are_closed(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "api.log"
    path.parent.mkdir()
    path.write_text("old\n")
    path.chmod(0o644)
    path.parent.chmod(0o755)
    assert make_logs_dir(tmp_path) == path.parent
    with open_log(path) as log:
        log.write(b"new\n")
    assert (mode(path.parent), mode(path)) == (0o700, 0o600)
    assert path.read_text() == "old\nnew\n"


def test_a_log_stays_below_its_limit_while_a_process_goes_on_writing(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    with (
        open_log(path) as sink,
        subprocess.Popen(
            [sys.executable, "-c", WRITER], stdin=subprocess.PIPE, stdout=sink
        ) as writer,
    ):
        assert writer.stdin is not None
        for number in range(2000):
            wait_for_line(path, number)
            limit_logs([path, tmp_path / "missing.log"], max_bytes=10_000)
            assert path.stat().st_size <= 10_000
            writer.stdin.write(b"\n")
            writer.stdin.flush()
    kept = tmp_path / "api.log.1"
    assert mode(kept) == 0o600
    assert kept.stat().st_size == 10_000
    lines = (kept.read_text() + path.read_text()).splitlines()[1:]  # the first one is cut
    numbers = [int(line[5:9]) for line in lines]
    assert numbers == list(range(numbers[0], 2000))
    assert "\0" not in path.read_text()


def wait_for_line(path: Path, number: int) -> None:
    """Returns when the writer has written a line."""
    deadline = time.monotonic() + 30
    while f"line {number:04}" not in path.read_text():
        assert time.monotonic() < deadline, number
        time.sleep(0.001)


def test_a_log_is_emptied_even_where_its_end_cannot_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    path.write_text("x" * 200)
    (tmp_path / "api.log.1").mkdir()  # in the way, as a full disk would be
    limit_logs([path], max_bytes=100)
    assert path.stat().st_size == 0
