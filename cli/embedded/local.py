"""The embedded cluster: starting, finding and stopping its supervisor."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import psutil

from cli.embedded.log_files import make_logs_dir, open_log
from shared.domain.errors import ConflictError, InvalidInputError, UnavailableError
from shared.files import replace_file
from shared.settings import LOOPBACK_NAMES, Settings, child_environment

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """A running cluster, as its supervisor describes it in ``cluster.json``."""

    supervisor_pid: int
    supervisor_started: float  # start time of the process, because pids are reused
    url: str
    data_dir: str
    processes: dict[str, list[float]]  # name -> [pid, start time]


def cluster_dir(data_dir: Path) -> Path:
    """Returns where a cluster keeps its servers' files and logs."""
    return data_dir / "cluster"


def find_cluster(data_dir: Path) -> ClusterInfo | None:
    """Returns the cluster that runs on a data folder, if one does."""
    info = read_info(data_dir)
    if info is None or not is_process(info.supervisor_pid, info.supervisor_started):
        return None
    return info


def read_info(data_dir: Path) -> ClusterInfo | None:
    """Returns what the latest supervisor wrote, whether it still runs or not."""
    try:
        return ClusterInfo(**json.loads((cluster_dir(data_dir) / "cluster.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write_info(info: ClusterInfo) -> None:
    """Writes ``cluster.json``, whole or not at all."""
    with replace_file(cluster_dir(Path(info.data_dir)) / "cluster.json") as file:
        file.write(json.dumps(asdict(info)).encode())


def is_process(pid: int, started: float) -> bool:
    """Whether the process with this pid and start time still runs."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < 1 and process.status() != "zombie"
    except psutil.NoSuchProcess:
        return False


def start_cluster(settings: Settings, *, workers: int) -> ClusterInfo:
    """Starts the cluster in the background and returns when its API is ready.

    Raises:
        ConflictError: a cluster runs on this folder already.
        InvalidInputError: the settings open it to other machines.
        UnavailableError: it did not come up; the message ends with its log.
    """
    settings = _without_keys(settings)
    running = find_cluster(settings.data_dir)
    if running is not None:
        raise ConflictError(
            f"A cluster runs on {settings.data_dir} already: {running.url}. "
            "Stop it with `convsweep down`, or name another --data-dir."
        )
    log_path = make_logs_dir(cluster_dir(settings.data_dir)) / "supervisor.log"
    with open_log(log_path) as log:
        log_start = log.tell()
        supervisor = _start_supervisor(settings, workers, log)
    try:
        info = _wait_started(supervisor, settings.data_dir)
    except KeyboardInterrupt:
        supervisor.terminate()
        supervisor.wait(STOP_TIMEOUT_S)
        raise
    if info is None:
        reason = _failure_reason(log_path, log_start)
        raise UnavailableError(f"The cluster did not come up. {reason}")
    return info


def _start_supervisor(settings: Settings, workers: int, log: BinaryIO) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "cli.embedded.supervisor", str(workers)],
        env=child_environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _failure_reason(log_path: Path, start: int) -> str:
    """Returns the last error that the supervisor logged after ``start``, or the log's end."""
    with log_path.open("rb") as log:
        log.seek(start)
        lines = log.read().decode(errors="replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else "\n".join([f"{log_path} says:", *lines[-40:]])


def _without_keys(settings: Settings) -> Settings:
    """Returns the settings of a cluster that needs no keys, because only this machine reaches it.

    Raises:
        InvalidInputError: other machines would reach it.
    """
    if settings.api_host not in LOOPBACK_NAMES:
        raise InvalidInputError(
            f"CONVSWEEP_API_HOST is {settings.api_host}, but a cluster of `convsweep up` requires "
            "no keys and so listens only on 127.0.0.1. Unset it, or start the processes one by "
            "one, with keys: docs/security.md explains how."
        )
    return settings.model_copy(update={"api_keys": "off"})


def _wait_started(supervisor: subprocess.Popen[bytes], data_dir: Path) -> ClusterInfo | None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while supervisor.poll() is None and time.monotonic() < deadline:
        info = find_cluster(data_dir)
        if info is not None and info.supervisor_pid == supervisor.pid:
            return info
        time.sleep(0.1)
    if supervisor.poll() is None:
        supervisor.terminate()
    return None


def stop_cluster(data_dir: Path) -> bool:
    """Stops the cluster of a data folder and returns when it is down; False if none ran.

    Raises:
        UnavailableError: it did not stop in time.
    """
    info = find_cluster(data_dir)
    if info is None:
        return end_leftovers(data_dir) > 0
    os.kill(info.supervisor_pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while is_process(info.supervisor_pid, info.supervisor_started):
        with suppress(ChildProcessError):  # reap it where this process is its parent
            os.waitpid(info.supervisor_pid, os.WNOHANG)
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"The supervisor (pid {info.supervisor_pid}) still runs after "
                f"{STOP_TIMEOUT_S:.0f} s; see {cluster_dir(data_dir) / 'logs'}."
            )
        time.sleep(0.1)
    return True


def end_leftovers(data_dir: Path) -> int:
    """Ends processes that a killed supervisor left behind; returns how many."""
    info = read_info(data_dir)
    left = [
        psutil.Process(int(pid))
        for pid, started in (info.processes.values() if info else ())
        if is_process(int(pid), started)
    ]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(left, timeout=10)
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return len(left)


class FolderLock:
    """Held by the supervisor of a data folder, so that there is one at a time."""

    def __init__(self, data_dir: Path) -> None:
        self._path = cluster_dir(data_dir) / "lock"

    def acquire(self) -> None:
        """Takes the lock until this process ends.

        Raises:
            ConflictError: another supervisor holds it.
        """
        self._handle = self._path.open("a")
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(f"Another cluster holds {self._path}.") from error
