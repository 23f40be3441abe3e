"""A sweep where every process has a role of its own that may do no more than its work."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import ProgrammingError

from convsweep import Client
from migrations.grants import EVERY_TABLE, GRANTS
from shared.settings import Settings, child_environment
from tests.acceptance.conftest import small_sweep
from tests.acceptance.faults.invariants import broken
from tests.acceptance.faults.site import LEASE_S, ROOT, Broker, Postgres, Site
from tests.conftest import free_port

PROCESSES = ("migrator", "api", "dispatcher", "worker")


@pytest.fixture(scope="module")
def roles(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A migrated database with the roles of the file that operators use; returns its name."""
    name = "with_roles"
    postgres.execute(f"CREATE DATABASE {name}")
    secrets = tmp_path_factory.mktemp("secrets")
    for process in PROCESSES:
        (secrets / process).write_text(f"it's {process}\n")
    script = ROOT / "deploy/postgres/roles.sql"
    address = ("-h", "127.0.0.1", "-p", str(postgres.port), "-U", "postgres", "-d", name)
    subprocess.run(
        [postgres.bin_path / "psql", *address, "-v", f"secrets={secrets}", "-f", script], check=True
    )
    migrator = Settings(database_url=url(postgres, name, "migrator"))
    subprocess.run(
        [sys.executable, "-m", "migrations"], cwd=ROOT, env=child_environment(migrator), check=True
    )
    return name


def url(postgres: Postgres, database: str, process: str) -> str:
    return f"postgresql://convsweep_{process}@127.0.0.1:{postgres.port}/{database}"


@pytest.fixture
def site(roles: str, postgres: Postgres, broker: Broker, tmp_path: Path) -> Iterator[Site]:
    """Processes are started on it with the URL of their own role."""
    settings = Settings(
        database_url=url(postgres, roles, "nobody"),
        broker_url=broker.url(),
        data_dir=tmp_path / "data",
        api_port=free_port(),
        lease_s=LEASE_S,
        resend_s=2,
        device="cpu",
    )
    opened = Site(tmp_path, settings, postgres.url(roles))
    try:
        yield opened
    finally:
        opened.close()


def test_a_sweep_runs_with_one_role_for_each_process(
    site: Site, roles: str, postgres: Postgres
) -> None:
    def of(process: str) -> str:
        return url(postgres, roles, process)

    site.start("api", CONVSWEEP_DATABASE_URL=of("api"))
    site.start_dispatcher(CONVSWEEP_DATABASE_URL=of("dispatcher"))
    killed = site.start_worker({"pace_s": 0.2}, CONVSWEEP_DATABASE_URL=of("worker"))
    with Client(f"http://127.0.0.1:{site.settings.api_port}", make_key(site, of("api"))) as client:
        site.wait(lambda: answers(client), "the API's start")
        first = client.create_sweep(small_sweep(trials=1), idempotency_key="one")["id"]
        site.wait_running(first)
        killed.kill()  # the dispatcher takes its lease back
        site.start_worker(CONVSWEEP_DATABASE_URL=of("worker"))
        site.wait_completed(first)
        assert broken(site.database, first) == []
        client.extend_sweep(first, trials=2)
        second = client.create_sweep(small_sweep(trials=1, seed=5))["id"]
        for action in ("pause", "resume", "cancel"):
            client.control_sweep(second, action)
        site.wait_completed(first)
        assert len(list(client.leaderboard(first))) > 30
        assert client.importance(first)
        assert client.list_workers()
        assert "convsweep_database_up 1.0" in metrics(client)
    assert "permission denied" not in "".join(child.text() for child in site.children)


def make_key(site: Site, database_url: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "key", "create", "tests", "--scope", "write"],
        env=child_environment(site.settings) | {"CONVSWEEP_DATABASE_URL": database_url},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def answers(client: Client) -> bool:
    try:
        return client.list_sweeps() == []
    except Exception:  # noqa: BLE001 - not there yet
        return False


def metrics(client: Client) -> str:
    with client._connection.stream("/metrics") as response:
        return response.read().decode()


DENIED = {
    "api": ["DELETE FROM jobs", "INSERT INTO trials SELECT * FROM trials", "CREATE TABLE mine ()",
            "UPDATE trials SET accuracy = 1", "UPDATE attempts SET attempt = 1"],
    "dispatcher": ["SELECT * FROM api_keys", "SELECT * FROM trials", "DELETE FROM leases",
                   "INSERT INTO sweeps DEFAULT VALUES", "CREATE TABLE mine ()"],
    "worker": ["SELECT * FROM api_keys", "UPDATE trials SET accuracy = 1", "DELETE FROM jobs",
               "INSERT INTO sweeps DEFAULT VALUES", "DROP TABLE trials", "CREATE TABLE mine ()"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("process", "statement"),
    [(process, statement) for process, denied in DENIED.items() for statement in denied],
)
def test_no_process_may_do_more_than_its_work(
    process: str, statement: str, roles: str, postgres: Postgres
) -> None:
    address = url(postgres, roles, process).replace("postgresql:", "postgresql+psycopg2:")
    engine = create_engine(address)
    with (
        engine.connect() as connection,
        pytest.raises(ProgrammingError, match=r"permission denied|must be owner"),
    ):
        connection.execute(text(statement))
    engine.dispose()


def test_every_table_is_decided_about() -> None:
    """The grants name the processes that write a new table."""
    written = {
        table
        for grants in GRANTS.values()
        for kind in ("INSERT", "UPDATE")
        for table in grants[kind]
    }
    assert written == EVERY_TABLE
