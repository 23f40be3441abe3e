"""A sweep where every process has a role of its own that may do no more than its work."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.orm import Session

from convsweep import Client
from migrations.grants import COUNTED_BY_TRIGGER, EVERY_TABLE, GRANTS, UPDATED_COLUMNS
from services.leasing.training_leases import begin_training, claim_training, complete_training
from services.trainings.creation import create_trainings
from shared.domain.recipe import EpochResult, Recipe
from shared.domain.results.selection import ByRank
from shared.settings import Settings, child_environment
from tests.acceptance.conftest import small_sweep
from tests.acceptance.faults.invariants import broken
from tests.acceptance.faults.site import LEASE_S, ROOT, Broker, Postgres, Site
from tests.conftest import free_port
from tests.integration.scenario import (
    add_sweep,
    add_worker,
    claimed,
    complete,
    environment,
    finish_sweep,
)

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
        timed = small_sweep(trials=1, timing={"max_s": 0.01})
        first = client.create_sweep(timed, idempotency_key="one")["id"]
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
        model = client.devices(first)["models"][0]["device"]
        assert client.build_bridge(first, [model], share=1.0)["wanted"] == 0
        assert client.calibrate(first, model)["measured"] > 30
        assert client.calibrate(first, model)["predicted"] == 0  # in place of the one before
        recipe = {"epochs": 2, "train_images": 100, "validation_images": 50}
        asked = {"select": {"by": "rank", "count": 1}, "recipe": recipe}
        training = client.create_trainings(first, asked)["trainings"][0]["id"]
        trained = lambda: client.get_training(training)["status"] == "completed"  # noqa: E731
        site.wait(trained, "the training's end")
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
                   "INSERT INTO sweeps DEFAULT VALUES", "CREATE TABLE mine ()",
                   "UPDATE jobs SET accuracy = 1", "UPDATE sweeps SET name = 'mine'"],
    "worker": ["SELECT * FROM api_keys", "UPDATE trials SET accuracy = 1", "DELETE FROM jobs",
               "INSERT INTO sweeps DEFAULT VALUES", "DROP TABLE trials", "CREATE TABLE mine ()",
               "DELETE FROM trials", "UPDATE attempts SET attempt = 1",
               "UPDATE sweeps SET name = 'mine'", "UPDATE sweeps SET space = '{}'",
               "UPDATE sweeps SET protocol = '{}'", "UPDATE sweeps SET total = 1",
               "UPDATE sweeps SET idempotency_key = 'mine'", "UPDATE sweep_progress SET failed = 1",
               "UPDATE sweep_environments SET completed = 1", "UPDATE groups SET pending = 0",
               "UPDATE timings SET images_per_s = 1", "DELETE FROM timings",
               "UPDATE throughputs SET throughput = 1", "UPDATE sweep_devices SET timed = 1",
               "INSERT INTO throughputs SELECT * FROM throughputs",
               "UPDATE jobs SET channels = '{1}'", "UPDATE jobs SET flops = 1",
               "UPDATE jobs SET trials_target = 1", "UPDATE trainings SET recipe = '{}'",
               "UPDATE training_epochs SET train_loss = 0", "UPDATE leases SET jobs = 1",
               "UPDATE environments SET device = 'mine'", "UPDATE workers SET code_version = '9'",
               "UPDATE dataset_labels SET labels = '{}'", "TRUNCATE trials",
               "ALTER TABLE jobs DISABLE TRIGGER ALL", "DROP TRIGGER keep_finished ON jobs",
               "SET ROLE convsweep_api"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("process", "statement"),
    [(process, statement) for process, denied in DENIED.items() for statement in denied],
)
def test_no_process_may_do_more_than_its_work(
    process: str, statement: str, roles: str, postgres: Postgres
) -> None:
    assert_denied(postgres, roles, process, statement)


def assert_denied(postgres: Postgres, database: str, process: str, statement: str) -> None:
    refusals = r"permission denied|must be owner|row-level security"
    with (
        role_session(postgres, database, process) as session,
        pytest.raises(ProgrammingError, match=refusals),
    ):
        session.execute(text(statement))


@contextmanager
def role_session(postgres: Postgres, database: str, process: str) -> Iterator[Session]:
    """Yields a session that a process's role opens."""
    address = url(postgres, database, process).replace("postgresql:", "postgresql+psycopg2:")
    engine = create_engine(address)
    with Session(engine) as session:
        yield session
    engine.dispose()


@pytest.fixture(scope="module")
def measured(roles: str, postgres: Postgres) -> dict[str, int]:
    """Ids of work that the roles of API and worker did: two sweeps, one half done, a training."""
    with role_session(postgres, roles, "api") as api:
        finished, half = add_sweep(api), add_sweep(api)
        with role_session(postgres, roles, "worker") as worker:
            finish_sweep(worker, finished)
            complete(worker, claimed(worker, half, 0))
            claimed(worker, half, 1, lease_s=3600)
            recipe = Recipe(epochs=1)
            row = create_trainings(api, finished, ByRank(by="rank", count=1), [recipe]).trainings[0]
            api.commit()
            train(worker, row.id)
    return {"finished": finished, "half": half, "training": row.id}


def train(session: Session, training_id: int) -> None:
    token, worker_id = uuid.uuid4(), add_worker(session)
    assert claim_training(session, training_id, worker_id=worker_id, token=token, lease_s=60)
    epoch = EpochResult(1, 2.0, 0.1, 2.0, 0.1, 1e-3, 1.0, 100.0, "a processor")
    begin_training(session, token, [epoch], environment(), parameters=9, note=None)
    complete_training(session, token, None)
    session.commit()


FINISHED = "sweep_id = {finished}"
NEW_TRIAL = (
    "INSERT INTO trials SELECT job_id, 99, 1, 1, 1, 1, 0, 1, 'measured', 1, correct_bits, "
    "trials.environment_id, 1, now() FROM trials JOIN jobs ON jobs.id = job_id "
    "WHERE sweep_id = {finished} LIMIT 1"
)
NEW_TIMING = (
    "INSERT INTO timings (job_id, environment_id, images_per_s, source, attempt) "
    "SELECT id, environment_id, 1e9, 'measured', 1 FROM jobs WHERE sweep_id = {finished} LIMIT 1"
)
REFUSED = [
    f"UPDATE jobs SET accuracy = 1 WHERE {FINISHED}",
    f"UPDATE jobs SET throughput = 1e9, throughput_measured = true WHERE {FINISHED}",
    f"UPDATE jobs SET error = 'mine' WHERE {FINISHED}",
    f"UPDATE jobs SET status = 'pending' WHERE {FINISHED}",
    f"UPDATE jobs SET status = 'rejected', reason = 'x' WHERE {FINISHED}",
    f"UPDATE jobs SET status = 'running', lease_token = (SELECT min(token::text)::uuid FROM leases "
    f"WHERE ended_at IS NULL) WHERE {FINISHED}",
    "UPDATE jobs SET status = 'cancelled' WHERE sweep_id = {half} AND status = 'pending'",
    "UPDATE jobs SET status = 'cancelled', lease_token = NULL "
    "WHERE sweep_id = {half} AND status = 'running'",
    "UPDATE jobs SET accuracy = 1 WHERE sweep_id = {half} AND status = 'pending'",
    NEW_TRIAL,
    NEW_TIMING,
    "INSERT INTO trials SELECT j.id, 0, 1, 1, 1, 1, 0, 1, 'measured', 1, '', 1, 1, now() "
    "FROM jobs j WHERE sweep_id = {half} AND status = 'pending'",
    "UPDATE sweeps SET status = 'cancelled' WHERE id = {half}",
    "UPDATE sweeps SET status = 'paused' WHERE id = {half}",
    "UPDATE sweeps SET status = 'completed' WHERE id = {half}",
    "UPDATE sweeps SET status = 'running' WHERE id = {finished}",
    "UPDATE sweeps SET dataset_hash = 'mine' WHERE id = {finished}",
    "UPDATE sweeps SET completed_at = now() WHERE id = {finished}",
    "UPDATE trainings SET weights = 'mine' WHERE id = {training}",
    "UPDATE trainings SET status = 'pending', epochs_done = 0 WHERE id = {training}",
    "INSERT INTO training_epochs SELECT training_id, 2, 0, 1, 0, 1, 0, 1, 1, 'mine' "
    "FROM training_epochs WHERE training_id = {training}",
    "UPDATE leases SET outcome = 'failed' WHERE sweep_id = {finished}",
    "UPDATE environments SET fingerprint = 'mine'",
]


@pytest.mark.parametrize("statement", REFUSED)
def test_the_worker_role_changes_no_finished_work(
    statement: str, roles: str, postgres: Postgres, measured: dict[str, int]
) -> None:
    assert_denied(postgres, roles, "worker", statement.format(**measured))


def test_the_worker_role_deletes_no_epoch_of_a_finished_training(
    roles: str, postgres: Postgres, measured: dict[str, int]
) -> None:
    with role_session(postgres, roles, "worker") as session:
        deleted = session.execute(text("DELETE FROM training_epochs RETURNING epoch")).all()
    assert deleted == []


def test_the_worker_role_swaps_no_counts_of_sweeps(
    roles: str, postgres: Postgres, measured: dict[str, int]
) -> None:
    statement = "UPDATE sweep_progress SET sweep_id = {half} WHERE sweep_id = {finished}"
    with (
        role_session(postgres, roles, "worker") as session,
        pytest.raises(IntegrityError, match="sweep_progress_pkey"),
    ):
        session.execute(text(statement.format(**measured)))


def test_every_table_is_decided_about() -> None:
    """The grants name the processes that write a new table."""
    written = {
        table
        for grants in GRANTS.values()
        for kind in ("INSERT", "UPDATE")
        for table in grants.get(kind, ())
    }
    assert written | COUNTED_BY_TRIGGER == EVERY_TABLE
    assert {table for columns in UPDATED_COLUMNS.values() for table in columns} <= EVERY_TABLE
