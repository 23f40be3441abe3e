"""The embedded cluster's supervisor: real Postgres and Valkey, API, dispatcher and workers.

Starts them in order, restarts a process that dies, and stops all of them in the reverse order.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import httpx
import psutil
import structlog

from cli.embedded.local import ClusterInfo, FolderLock, cluster_dir, end_leftovers, write_info
from cli.embedded.log_files import find_logs, limit_logs, open_log
from cli.embedded.servers import Servers, valkey_process
from shared.domain.errors import UnavailableError
from shared.logs import configure_logging
from shared.process import run_main
from shared.settings import Settings, child_environment, get_settings

log = structlog.get_logger(__name__)

READY_TIMEOUT_S = 60.0
WORKER_GRACE_S = 30.0
GRACE_S = 12.0
STEADY_S = 120.0  # a process that has run this long is restarted without a long wait


@dataclass
class Child:
    """A process of the cluster that is restarted when it dies."""

    name: str
    command: list[str]
    grace_s: float = GRACE_S
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    start_after: float = field(default=0.0)
    started: float = field(default=0.0)

    @property
    def is_worker(self) -> bool:
        return self.name.startswith("worker")

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def log_path(self, settings: Settings) -> Path:
        return cluster_dir(settings.data_dir) / "logs" / f"{self.name}.log"

    def last_words(self, settings: Settings) -> str:
        """Returns the last line of the log, which says why a process ended."""
        lines = self.log_path(settings).read_text(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("error: ") if lines else "its log is empty"

    def start(self, settings: Settings) -> None:
        self.started = time.monotonic()
        with open_log(self.log_path(settings)) as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.command],
                env=child_environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    def revive(self, settings: Settings) -> bool:
        """Restarts the process if it has died, after ever longer waits; returns whether it did."""
        if self.process is not None and self.process.poll() is not None:
            if time.monotonic() - self.started > STEADY_S:
                self.failures = 0
            wait_s = min(30.0, 2.0**self.failures - 1)
            log.warning(
                "process_died", name=self.name, status=self.process.returncode, wait_s=wait_s
            )
            self.failures += 1
            self.start_after = time.monotonic() + wait_s
            self.process = None
        if self.process is None and time.monotonic() >= self.start_after:
            self.start(settings)
            return True
        return False

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(self.grace_s)
        except subprocess.TimeoutExpired:
            log.warning("process_killed", name=self.name, grace_s=self.grace_s)
            self.process.kill()
            self.process.wait()


class Supervisor:
    """One embedded cluster on one data folder."""

    def __init__(self, settings: Settings, workers: int) -> None:
        self._lock = FolderLock(settings.data_dir)
        self._folder = cluster_dir(settings.data_dir)
        self._settings = settings
        self._stopped = threading.Event()
        self._servers = Servers(self._folder)
        worker_names = [f"worker-{number}" for number in range(1, workers + 1)]
        self._children = [
            Child("api", ["api"]),
            Child("dispatcher", ["dispatcher"]),
            *(Child(name, ["worker", "run"], WORKER_GRACE_S) for name in worker_names),
        ]

    def run(self) -> None:
        """Runs the cluster until SIGTERM or SIGINT.

        Raises:
            ConvsweepError: a process did not start; those that had started are stopped.
        """
        self._lock.acquire()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        end_leftovers(self._settings.data_dir)
        try:
            self._start()
            while not self._stopped.wait(0.5):
                revived = [child.revive(self._settings) for child in self._children]
                if self._servers.revive() or any(revived):
                    self._write_info()
                limit_logs(find_logs(self._folder))
        finally:
            self._stop()

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopped.set()

    def _start(self) -> None:
        _check_port(self._settings.api_port)
        self._settings = self._settings.model_copy(
            update={
                "api_port": self._settings.api_port or _free_port(),
                "database_url": self._servers.start_postgres(),
                "broker_url": self._servers.start_valkey(),
                # the embedded servers have no passwords
                "database_password": None,
                "database_password_file": None,
                "broker_password": None,
                "broker_password_file": None,
            }
        )
        subprocess.run(
            [sys.executable, "-m", "migrations"], env=child_environment(self._settings), check=True
        )
        for child in self._children:
            child.start(self._settings)
        self._wait_ready()
        self._write_info()
        log.info("cluster_started", url=self._url)

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self._settings.api_port}"

    def _wait_ready(self) -> None:
        """Waits until the API answers and lists every worker."""
        pids = {child.pid for child in self._children if child.is_worker}
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._stopped.wait(0.1):
            for child in self._children:
                if child.process is not None and child.process.poll() is not None:
                    raise UnavailableError(
                        f"{child.name} ended at once: {child.last_words(self._settings)}"
                    )
            state = self._readiness(pids)
            if state is None:
                return
            if time.monotonic() > deadline:
                raise UnavailableError(f"After {READY_TIMEOUT_S:.0f} s {state}.")

    def _readiness(self, pids: set[int | None]) -> str | None:
        """Returns what is still missing, or None."""
        try:
            answer = httpx.get(f"{self._url}/v1/workers", timeout=2, trust_env=False)
        except httpx.TransportError as error:
            return f"the API does not answer ({error})"
        if not answer.is_success:
            return f"the API answers {answer.status_code}"
        known = {worker["pid"] for worker in answer.json()}
        return None if pids <= known else "not every worker has registered"

    def _write_info(self) -> None:
        pids = {child.name: child.process.pid for child in self._children if child.process}
        me = psutil.Process()
        if valkey := valkey_process():
            pids[valkey.name()] = valkey.pid
        write_info(
            ClusterInfo(
                supervisor_pid=me.pid,
                supervisor_started=me.create_time(),
                url=self._url,
                data_dir=str(self._settings.data_dir),
                processes={
                    name: [pid, psutil.Process(pid).create_time()] for name, pid in pids.items()
                },
            )
        )

    def _stop(self) -> None:
        workers = [child for child in self._children if child.is_worker]
        for child in workers:
            if child.process is not None:
                child.process.terminate()
        for child in [*workers, *(child for child in self._children if child not in workers)]:
            child.stop()
        self._servers.stop()
        (self._folder / "cluster.json").unlink(missing_ok=True)
        log.info("cluster_stopped")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UnavailableError(
                f"Port {port} is taken. Name another with --port, or 0 for any free one."
            ) from error


def main() -> None:
    """Runs a supervisor; the first argument is the number of workers."""
    os.umask(0o077)
    settings = get_settings()
    configure_logging(settings)
    Supervisor(settings, workers=int(sys.argv[1])).run()


if __name__ == "__main__":
    run_main(main)
