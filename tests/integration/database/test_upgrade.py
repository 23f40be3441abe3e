"""An upgrade of a database at work: rows as the first schema had them, today's code afterwards."""

import json
import uuid
from collections.abc import Callable, Iterator

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

from migrations.upgrade import alembic_config
from services.leaderboard.leaders import rank_jobs
from services.leasing.group_leases import Claim, ClaimedJob
from services.sweeps.device_choice import choose_device
from services.sweeps.reading import get_sweep
from shared.db.session import make_engine, make_session_factory
from shared.domain.protocol import Protocol, TimingRepeat
from shared.settings import Settings, get_settings
from tests.integration.scenario import (
    GROUP_SIZE,
    GROUPS,
    assert_counts_add_up,
    claimed,
    complete,
    small_protocol,
    small_space,
)

WORKER, OPEN = uuid.uuid4(), uuid.uuid4()
SWEEP = 1


@pytest.fixture
def engine(
    new_database: Callable[[str], Settings],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Engine]:
    """A database with the first schema and a sweep under way: one group done, one in hand."""
    settings = new_database("upgraded_" + request.node.name[-24:])
    monkeypatch.setenv("CONVSWEEP_DATABASE_URL", settings.database_url)
    get_settings.cache_clear()
    command.upgrade(alembic_config(), "0001")
    engine = make_engine(settings)
    with engine.begin() as connection:
        add_sweep(connection)
        finish_group(connection, 0)
        lease_group(connection, 1)
    yield engine
    engine.dispose()
    get_settings.cache_clear()


def add_sweep(connection: Connection) -> None:
    """Writes a sweep and its jobs with the columns of the first schema."""
    protocol = small_protocol().model_dump(mode="json")
    del protocol["timing"]["repeat"]  # younger than this schema
    space, trials = small_space(), protocol["trials"]
    connection.execute(
        text("INSERT INTO sweeps (name, space, protocol, total) "
             "VALUES ('old', CAST(:space AS jsonb), CAST(:protocol AS jsonb), :total)"),
        {"space": space.model_dump_json(), "protocol": json.dumps(protocol),
         "total": len(space)},
    )  # fmt: skip
    connection.execute(text("INSERT INTO sweep_progress (sweep_id) VALUES (1)"))
    connection.execute(
        text("INSERT INTO groups (sweep_id, index, position) "
             "SELECT 1, n, n FROM generate_series(0, :last) n"), {"last": GROUPS - 1},
    )  # fmt: skip
    names = ("channels", "kernel_size", "stride", "dilation", "padding", "activation")
    rows = [
        {name: [getattr(layer, name) for layer in architecture.layers] for name in names}
        | {"index": index, "group": index // GROUP_SIZE, "hash": architecture.hash,
           "trials": trials}
        for index, architecture in enumerate(space)
    ]  # fmt: skip
    connection.execute(
        text("INSERT INTO jobs (sweep_id, space_index, group_index, architecture_hash, channels, "
             "kernel_size, stride, dilation, padding, activation, trials_target) VALUES (1, "
             ":index, :group, :hash, :channels, :kernel_size, :stride, :dilation, :padding, "
             "CAST(:activation AS text[]), :trials)"),
        rows,
    )  # fmt: skip
    connection.execute(
        text("INSERT INTO workers (id, hostname, pid, device_class, device, code_version) "
             "VALUES (:id, 'box', 7, 'cpu', 'a processor', '0')"), {"id": WORKER},
    )  # fmt: skip


def finish_group(connection: Connection, group: int) -> None:
    """Writes results as the first version did."""
    [environment] = connection.execute(
        text("INSERT INTO environments (code_version, device_class, device, dataset, dataset_hash, "
             "versions, fingerprint) VALUES ('0', 'cpu', 'a processor', 'digits', :hash, "
             "CAST(:versions AS jsonb), 'old') RETURNING id"),
        {"hash": "ab" * 32, "versions": json.dumps({"torch": "2"})},
    ).scalars()  # fmt: skip
    connection.execute(
        text("INSERT INTO trials (job_id, trial, accuracy, train_accuracy, fit_s, images_per_s, "
             "weights_seed, correct_bits, environment_id, attempt) "
             "SELECT id, trial, 0.5, 0.6, 0.25, 100 + trial, 1, '\\xa0', :environment, 1 "
             "FROM jobs, generate_series(0, trials_target - 1) trial WHERE group_index = :group"),
        {"environment": environment, "group": group},
    )  # fmt: skip
    connection.execute(
        text("UPDATE jobs SET status = 'completed', attempt = 1, trials_done = trials_target, "
             "accuracy = 0.5, accuracy_sd = 0, accuracy_min = 0.5, accuracy_max = 0.5, "
             "train_accuracy = 0.6, throughput = 100.5, throughput_min = 100, "
             "throughput_measured = true, fit_s = 0.25, environment_id = :environment, "
             "finished_at = now() WHERE group_index = :group"),
        {"environment": environment, "group": group},
    )  # fmt: skip


def lease_group(connection: Connection, group: int) -> None:
    """Hands a group to a worker that goes on through the upgrade."""
    connection.execute(
        text("INSERT INTO leases (token, sweep_id, group_index, worker_id, jobs, expires_at) "
             "VALUES (:token, 1, :group, :worker, :jobs, now() + interval '1 hour')"),
        {"token": OPEN, "group": group, "worker": WORKER, "jobs": GROUP_SIZE},
    )  # fmt: skip
    connection.execute(
        text("UPDATE jobs SET status = 'running', attempt = 1, lease_token = :token "
             "WHERE group_index = :group"), {"token": OPEN, "group": group},
    )  # fmt: skip


def claim_in_hand(session: Session) -> Claim:
    """Returns the claim that the worker made before the upgrade."""
    architectures = list(small_space())
    jobs = session.execute(text("SELECT id, space_index FROM jobs WHERE lease_token = :token "
                                "ORDER BY id"), {"token": OPEN})  # fmt: skip
    return Claim(
        OPEN, SWEEP, 1,
        tuple(ClaimedJob(job.id, architectures[job.space_index], range(2)) for job in jobs),
    )  # fmt: skip


def test_a_database_at_work_is_upgraded_from_the_first_schema_to_head(engine: Engine) -> None:
    revisions = list(ScriptDirectory.from_config(alembic_config()).walk_revisions())
    sessions = make_session_factory(engine)
    for revision in reversed(revisions[:-1]):
        command.upgrade(alembic_config(), revision.revision)
        with sessions() as session:
            assert assert_counts_add_up(session, SWEEP) == {
                "pending": GROUP_SIZE, "running": GROUP_SIZE, "completed": GROUP_SIZE,
            }  # fmt: skip
    with sessions() as session:
        assert complete(session, claim_in_hand(session)) == GROUP_SIZE
        assert complete(session, claimed(session, SWEEP, 2)) == GROUP_SIZE
        assert assert_counts_add_up(session, SWEEP) == {"completed": GROUP_SIZE * GROUPS}
        status = text("SELECT status FROM sweeps WHERE id = 1")
        assert session.execute(status).scalar_one() == "completed"
        ranked = rank_jobs(session, SWEEP)
        assert len(ranked.rows) == GROUP_SIZE * GROUPS


def test_throughputs_of_trials_are_those_of_the_device_model_after_the_upgrade(
    engine: Engine,
) -> None:
    command.upgrade(alembic_config(), "head")
    with engine.begin() as connection:  # a worker of the release before goes on
        connection.execute(
            text("INSERT INTO trials (job_id, trial, accuracy, train_accuracy, fit_s, "
                 "images_per_s, images_per_s_spread, timing_runs, throughput_source, weights_seed, "
                 "correct_bits, environment_id, attempt) "
                 "SELECT id, 0, 0.5, 0.6, 0.25, 300, 0.01, 9, 'replayed', 1, '\\xa0', 1, 1 "
                 "FROM jobs WHERE group_index = 1")
        )  # fmt: skip
    with make_session_factory(engine)() as session:
        figures = session.execute(
            text("SELECT j.group_index, t.device, t.throughput, t.throughput_min, "
                 "t.throughput_max, t.throughput_measured, count(*) "
                 "FROM throughputs t JOIN jobs j ON j.id = t.job_id GROUP BY 1, 2, 3, 4, 5, 6 "
                 "ORDER BY 1")
        ).all()  # fmt: skip
        assert figures == [
            (0, "a processor", 100.5, 100, 101, True, GROUP_SIZE),
            (1, "a processor", 300, 300, 300, True, GROUP_SIZE),
        ]
        assert choose_device(session, SWEEP).timed == {"a processor": 2 * GROUP_SIZE}


def test_sweeps_from_before_go_on_timing_each_trial(engine: Engine) -> None:
    command.upgrade(alembic_config(), "head")
    with make_session_factory(engine)() as session:
        timing = Protocol.model_validate(get_sweep(session, SWEEP).sweep.protocol).timing
    assert timing is not None
    assert timing.repeat is TimingRepeat.EACH_TRIAL


def test_results_that_an_extension_hid_are_shown_again(engine: Engine) -> None:
    command.upgrade(alembic_config(), "0016")
    hidden = [
        "status = 'rejected', reason = 'accuracy_below_minimum', trials_done = 4, "
        "trials_target = 7",
        "status = 'cancelled', trials_target = 7",
        "status = 'pending', trials_target = 7, finished_at = NULL",
    ]
    with engine.begin() as connection:
        jobs = connection.execute(text("SELECT id FROM jobs WHERE group_index = 0 ORDER BY id"))
        for change, job in zip(hidden, jobs.scalars().all(), strict=False):
            connection.execute(text(f"UPDATE jobs SET {change} WHERE id = :id"), {"id": job})
        screened = "status = 'rejected', trials_done = 1, accuracy = 0.1 WHERE group_index = 2"
        connection.execute(text(f"UPDATE jobs SET {screened}"))
    command.upgrade(alembic_config(), "head")
    with make_session_factory(engine)() as session:
        ranked = rank_jobs(session, SWEEP)
        assert [(row.status, row.trials_done, row.trials_target) for row in ranked.rows] == [
            ("completed", 4, 4), ("completed", 2, 2), ("pending", 2, 7), ("completed", 2, 2),
        ]  # fmt: skip
        assert all(row.finished_at is not None for row in ranked.rows)
        assert ranked.choice.measured == {"a processor": GROUP_SIZE}
        assert assert_counts_add_up(session, SWEEP) == {
            "completed": 3, "pending": 1, "running": GROUP_SIZE, "rejected": GROUP_SIZE,
        }  # fmt: skip


def test_a_sweep_whose_extension_was_cancelled_has_completed_after_the_upgrade(
    engine: Engine,
) -> None:
    command.upgrade(alembic_config(), "0016")
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM jobs WHERE group_index > 0"))
        connection.execute(text("UPDATE sweep_progress SET pending = 0, running = 0"))
        connection.execute(text("UPDATE jobs SET status = 'cancelled', trials_target = 7"))
        connection.execute(text("UPDATE sweeps SET status = 'cancelled'"))
    command.upgrade(alembic_config(), "head")
    with make_session_factory(engine)() as session:
        assert get_sweep(session, SWEEP).sweep.status == "completed"
        assert len(rank_jobs(session, SWEEP).rows) == GROUP_SIZE
