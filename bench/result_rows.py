"""Sweeps with any number of results at once, and a process that writes more of them.

The rows are made inside Postgres, since what is measured is reading them: accuracies and
throughputs at random, layers from the published grid, two device models, no trials underneath.
``python -m bench.result_rows SWEEP FIRST_GROUP GROUPS RATE``: claims and completes groups of 36
through the same services as a worker, at that many results a second, and says how many it made.
"""

import sys
import time
import uuid

import httpx
from sqlalchemy import Engine, text

from bench.queue_growth import GROUP_JOBS, space_of
from services.leasing.group_leases import claim_group, complete_claim
from services.monitoring.workers import register_worker
from shared.db.session import make_engine, make_session_factory
from shared.domain.measurements import (
    Environment,
    JobOutcome,
    Throughput,
    ThroughputSource,
    TrialResult,
)
from shared.domain.status import JobStatus
from shared.settings import get_settings

HERE = Environment("bench", "cuda", "most jobs", "digits", "00" * 32, {})
_ENVIRONMENTS = """
    INSERT INTO environments
        (code_version, device_class, device, dataset, dataset_hash, versions, fingerprint)
    VALUES ('bench', 'cuda', 'most jobs', 'digits', 'x', '{}', 'most'),
           ('bench', 'cuda', 'few jobs', 'digits', 'x', '{}', 'few')
    ON CONFLICT (fingerprint) DO UPDATE SET fingerprint = excluded.fingerprint RETURNING id
"""
_GROUPS = """
    INSERT INTO groups (sweep_id, index, position)
    SELECT :sweep, :first_group + n, :first_group + n FROM generate_series(0, :groups - 1) n
"""
_FIGURES = """round(CAST(least(0.6, greatest(0.1, random_normal(0.3, 0.03))) AS numeric), 4)
    AS accuracy"""
_JOBS = f"""
    INSERT INTO jobs (sweep_id, space_index, group_index, architecture_hash, channels, kernel_size,
        stride, dilation, padding, activation, ratio, parameters, flops, status, attempt,
        trials_done, trials_target, accuracy, accuracy_sd, accuracy_min, accuracy_max,
        train_accuracy, fit_s, environment_id, finished_at)
    SELECT :sweep, :total + n, :first_group + n / 36, sha256(CAST('bench ' || n AS bytea)),
        ARRAY[1000 + n / 46656, 32, 32],
        ARRAY[3 + 2 * (n / 11664 % 4), 3 + 2 * (n / 324 % 4), 3 + 2 * (n / 9 % 4)],
        ARRAY[1 + n / 3888 % 3, 1 + n / 108 % 3, 1 + n / 3 % 3],
        ARRAY[1 + n / 1296 % 3, 1 + n / 36 % 3, 1 + n % 3],
        ARRAY[0, 0, 0], ARRAY['relu', 'relu', 'relu'], random(), 1000 + n % 90000,
        100000 + 7 * n, 'completed', 1, 5, 5, accuracy, 0.01, accuracy - 0.02, accuracy + 0.02,
        0.9, 0.01,
        CASE WHEN random() < 0.9 THEN CAST(:most AS bigint) ELSE CAST(:few AS bigint) END,
        clock_timestamp()
    FROM (
        SELECT n, {_FIGURES}
        FROM generate_series(0, :rows - 1) n
    ) figures
"""
_COMPLETE = f"""
    UPDATE jobs SET status = 'completed', attempt = 1, trials_done = trials_target,
        accuracy = figures.accuracy, accuracy_sd = 0.01, accuracy_min = figures.accuracy - 0.02,
        accuracy_max = figures.accuracy + 0.02, train_accuracy = 0.9,
        fit_s = 0.01,
        ratio = coalesce(ratio, 0), environment_id = :most, finished_at = clock_timestamp()
    FROM (
        SELECT id, {_FIGURES}
        FROM jobs WHERE sweep_id = :sweep
    ) figures
    WHERE jobs.id = figures.id
"""
_THROUGHPUTS = """
    INSERT INTO throughputs (job_id, device, sweep_id, throughput, throughput_min, throughput_max,
        throughput_measured)
    SELECT id, device, sweep_id, throughput, throughput * 0.98, throughput * 1.02, true
    FROM (
        SELECT j.id, e.device, j.sweep_id, exp(random_normal(7, 0.8)) AS throughput
        FROM jobs j JOIN environments e ON e.id = j.environment_id
        WHERE j.sweep_id = :sweep AND j.status = 'completed'
    ) figures
"""
_COUNTS = """
    INSERT INTO sweep_environments (sweep_id, environment_id, completed)
    SELECT sweep_id, environment_id, count(*) FROM jobs
    WHERE sweep_id = :sweep AND status = 'completed' GROUP BY sweep_id, environment_id
"""
_TOTAL = "UPDATE sweeps SET total = total + :rows WHERE id = :sweep"


def add_sweep(client: httpx.Client, engine: Engine, rows: int, pending: int) -> tuple[int, int]:
    """Creates a sweep with ``rows`` results and about ``pending`` jobs to do.

    Returns its id and how many groups are to do, from group 0 on.
    """
    answer = client.post("/v1/sweeps", json=space_of(pending))
    answer.raise_for_status()
    sweep, total = answer.json()["id"], answer.json()["total"]
    groups = total // GROUP_JOBS
    values = {"sweep": sweep, "total": total, "first_group": groups, "rows": rows}
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT setseed(0.5)"))
        most, few = connection.execute(text(_ENVIRONMENTS)).scalars()
        connection.execute(text(_GROUPS), values | {"groups": rows // GROUP_JOBS + 1})
        connection.execute(text(_JOBS), values | {"most": most, "few": few})
        connection.execute(text(_THROUGHPUTS), values)
        connection.execute(text(_COUNTS), values)
        connection.execute(text(_TOTAL), values)
    return sweep, groups


def add_published_sweep(client: httpx.Client, engine: Engine) -> tuple[int, int]:
    """Creates the published sweep with a result for each of its jobs; returns its id and size."""
    answer = client.post("/v1/sweeps", json={"preset": "random-cnn-2025"})
    created = answer.raise_for_status().json()
    sweep, total = int(created["id"]), int(created["total"])
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT setseed(0.5)"))
        most, _ = connection.execute(text(_ENVIRONMENTS)).scalars()
        connection.execute(text(_COMPLETE), {"sweep": sweep, "most": most})
        connection.execute(text(_THROUGHPUTS), {"sweep": sweep})
    return sweep, total


def write_results(sweep: int, first: int, groups: int, rate: float) -> float:
    """Completes groups of a sweep at a rate; returns the results a second that came about."""
    engine = make_engine(get_settings(), pool_size=1, ping_after_s=1.0)
    factory = make_session_factory(engine)
    worker_id = uuid.uuid4()
    with factory.begin() as session:
        register_worker(
            session, worker_id, hostname="bench", pid=0, device_class="cuda", device="most jobs",
            code_version="bench",
        )  # fmt: skip
    started, written = time.perf_counter(), 0
    for group in range(first, first + groups):
        with factory.begin() as session:
            claim = claim_group(
                session, sweep_id=sweep, group=group, worker_id=worker_id, lease_s=600, limit=64
            )
        assert claim is not None
        outcomes = [_outcome(job.id) for job in claim.jobs]
        with factory.begin() as session:
            written += complete_claim(session, claim, outcomes, HERE)
        ahead = written / rate - (time.perf_counter() - started)
        if ahead > 0:
            time.sleep(ahead)
    engine.dispose()
    return written / (time.perf_counter() - started)


def _outcome(number: int) -> JobOutcome:
    speed = Throughput(1000.0 + number % 977, 0.01, 9, ThroughputSource.MEASURED)
    accuracy = 0.2 + (number * 37 % 500) / 2000
    trial = TrialResult(0, accuracy, 0.9, 0.01, 0, correct_bits=bytes(63), throughput=speed)
    return JobOutcome(JobStatus.COMPLETED, trials=(trial,))


if __name__ == "__main__":
    sweep_id, first_group, group_count = map(int, sys.argv[1:4])
    print(write_results(sweep_id, first_group, group_count, float(sys.argv[4])))
