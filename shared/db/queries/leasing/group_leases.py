"""SQL about the jobs of a group under a lease: claim, complete, release."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from shared.db.queries.rows import LayerColumns, read_row, read_rows
from shared.db.queries.statements import affected_rows, sql
from shared.db.queries.sweeps.attempts import RECORDED


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementsRow:
    """What a worker must be able to do for a sweep."""

    protocol: dict[str, Any]
    dataset_hash: str | None  # content of its images; None before its first trials


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedRow(LayerColumns):
    """A job that was just claimed."""

    id: int
    trials_done: int
    trials_target: int
    timed: bool  # whether the worker need not time it
    group_pending: int  # pending jobs of the group before this claim


def find_requirements(session: Session, sweep_id: int) -> RequirementsRow | None:
    """Returns what a worker must be able to do for a sweep; None unless the sweep runs."""
    statement = sql("""
        SELECT protocol, dataset_hash FROM sweeps WHERE id = :sweep_id AND status = 'running'
    """)
    return read_row(RequirementsRow, session.execute(statement, {"sweep_id": sweep_id}))


# The steps of a claim, each a CTE of one statement.
_RUNNING_SWEEP = """sweep AS (
    SELECT id FROM sweeps WHERE id = :sweep_id AND status = 'running' FOR SHARE
)"""
_WANTED = "SELECT FROM wanted_timings w WHERE w.job_id = jobs.id"
_WANTED_HERE = f"""EXISTS (
    {_WANTED} AND w.device = (SELECT device FROM workers WHERE id = :worker_id)
)"""  # noqa: S608
# What is left of a network with all trials is a timing.
_FOR_THIS_WORKER = f"""status = 'pending' AND (trials_done < trials_target
    OR CASE WHEN {_WANTED_HERE} THEN :can_time ELSE :times AND NOT EXISTS ({_WANTED}) END)"""
_NEW_JOBS_EXIST = f"""fresh AS (
    SELECT EXISTS (SELECT FROM jobs WHERE sweep_id = :sweep_id AND group_index = :group
                   AND {_FOR_THIS_WORKER} AND attempt = 0) AS exist
)"""  # noqa: S608
_CLAIMABLE_JOBS = f"""claimable AS (
    SELECT jobs.id FROM jobs JOIN sweep ON sweep.id = jobs.sweep_id CROSS JOIN fresh
    WHERE jobs.sweep_id = :sweep_id AND jobs.group_index = :group
      AND {_FOR_THIS_WORKER} AND (jobs.attempt = 0 OR NOT fresh.exist)
    ORDER BY jobs.id LIMIT (SELECT CASE WHEN exist THEN :limit ELSE 1 END FROM fresh)
    FOR UPDATE OF jobs SKIP LOCKED
)"""  # noqa: S608
_NEW_LEASE = """lease AS (
    INSERT INTO leases (token, sweep_id, group_index, worker_id, jobs, expires_at)
    SELECT :token, :sweep_id, :group, :worker_id, count(*),
           clock_timestamp() + make_interval(secs => :lease_s)
    FROM claimable HAVING count(*) > 0
    RETURNING token
)"""
_CLAIM = f"""
    SET LOCAL synchronous_commit = off;
    WITH {_RUNNING_SWEEP}, {_NEW_JOBS_EXIST}, {_CLAIMABLE_JOBS}, {_NEW_LEASE}
    UPDATE jobs SET status = 'running', attempt = jobs.attempt + 1, lease_token = lease.token
    FROM claimable, lease WHERE jobs.id = claimable.id
    RETURNING jobs.id, jobs.channels, jobs.kernel_size, jobs.stride, jobs.dilation,
        jobs.padding, jobs.activation, jobs.trials_done, jobs.trials_target,
        CASE WHEN {_WANTED_HERE} THEN NOT :can_time ELSE NOT :times OR EXISTS (
            SELECT FROM throughputs t JOIN workers w ON w.device = t.device
            WHERE t.job_id = jobs.id AND w.id = :worker_id
        ) END AS timed,
        (SELECT pending FROM groups WHERE sweep_id = :sweep_id AND index = :group)
            AS group_pending
"""  # noqa: S608


def claim_jobs(
    session: Session,
    *,
    sweep_id: int,
    group: int,
    worker_id: uuid.UUID,
    token: uuid.UUID,
    lease_s: float,
    limit: int,
    times: bool = True,
    can_time: bool = True,
) -> list[ClaimedRow]:
    """Leases up to ``limit`` pending jobs of a group of a running sweep; returns them by id.

    Jobs that need trials are for every worker. Those that need only a timing are for workers with
    ``times``, or, where device models are named for them, for workers on these with ``can_time``.

    Skips jobs that another transaction locks. The sweep is locked in share mode: every claim after
    a committed pause sees it. Jobs whose last attempt was lost are claimed after all others and
    one at a time, so that a job that kills its worker costs no sibling an attempt.

    The commit does not wait for the disk: if Postgres crashes and loses a claim, its jobs are
    pending and its results are refused. That costs time, never a result.
    """
    values = {
        "sweep_id": sweep_id,
        "group": group,
        "worker_id": worker_id,
        "token": token,
        "lease_s": lease_s,
        "limit": limit,
        "times": times,
        "can_time": can_time,
    }
    claimed = read_rows(ClaimedRow, session.execute(sql(_CLAIM), values))
    return sorted(claimed, key=lambda job: job.id)


def select_awaited_models(session: Session, sweep_id: int, group: int) -> list[str | None]:
    """Returns the device models that a group's pending jobs with all trials wait for, by name.

    None among them stands for any model. Empty where there are no such jobs, or the sweep does not
    run.
    """
    statement = sql("""
        SELECT DISTINCT coalesce(w.device, s.protocol #>> '{timing,device_model}') AS device
        FROM sweeps s
        JOIN jobs j ON j.sweep_id = s.id AND j.group_index = :group AND j.status = 'pending'
        LEFT JOIN wanted_timings w ON w.job_id = j.id
        WHERE s.id = :sweep_id AND s.status = 'running' AND j.trials_done >= j.trials_target
        ORDER BY device
    """)
    values = {"sweep_id": sweep_id, "group": group}
    return list(session.execute(statement, values).scalars())


def lock_held_jobs(session: Session, token: uuid.UUID) -> None:
    """Locks the jobs of a lease, so that what is asked of them meanwhile waits.

    The next statement then sees every timing that was asked for before.
    """
    statement = sql("""
        SELECT id FROM jobs WHERE lease_token = :token AND status = 'running'
        ORDER BY id FOR UPDATE
    """)
    session.execute(statement, {"token": token})


# The steps of a completion, each a CTE of one statement.
_OUTCOMES = """outcome AS (
    SELECT * FROM jsonb_to_recordset(CAST(:jobs AS jsonb))
        AS o(id bigint, status text, reason text, error text, throttled boolean)
)"""
_HELD_JOBS = """held AS (
    SELECT jobs.id, jobs.attempt, jobs.lease_token, outcome.status AS outcome, outcome.error,
        outcome.throttled
    FROM jobs JOIN outcome USING (id)
    WHERE jobs.lease_token = :token AND jobs.status = 'running'
    ORDER BY jobs.id FOR UPDATE OF jobs
)"""
# One time for all of them, once every lock is taken: only their ids order the jobs of a completion.
_CLOCK = """clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now FROM (SELECT count(*) FROM held) AS locked
)"""
_NEW_TRIALS = """arrived AS (
    INSERT INTO trials (job_id, trial, accuracy, train_accuracy, fit_s, weights_seed, correct_bits,
        environment_id, attempt)
    SELECT t.job_id, t.trial, t.accuracy, t.train_accuracy, t.fit_s, t.weights_seed,
        decode(t.correct_bits, 'hex'), :environment_id, held.attempt
    FROM jsonb_to_recordset(CAST(:trials AS jsonb)) AS t(
        job_id bigint, trial smallint, accuracy float8, train_accuracy float8,
        fit_s float8, weights_seed bigint, correct_bits text)
    JOIN held ON held.id = t.job_id
    RETURNING job_id, accuracy, train_accuracy, fit_s
)"""
# A trigger totals them by job and device model.
_NEW_TIMINGS = """timed AS (
    INSERT INTO timings (job_id, trial, environment_id, images_per_s, spread, runs, source, attempt,
        unit, conditions)
    SELECT t.job_id, t.trial, :environment_id, t.images_per_s, t.spread, t.runs, t.source,
        held.attempt, t.conditions ->> 'unit', t.conditions - 'unit'
    FROM jsonb_to_recordset(CAST(:timings AS jsonb)) AS t(
        job_id bigint, trial smallint, images_per_s float8, spread float8, runs int, source text,
        conditions jsonb)
    JOIN held ON held.id = t.job_id
    RETURNING job_id
)"""
_STILL_WANTED = """satisfied AS (
    DELETE FROM wanted_timings w USING timed WHERE w.job_id = timed.job_id AND w.device = :device
), throttled AS (
    INSERT INTO wanted_timings (job_id, device, reason)
    SELECT id, :device, 'throttled' FROM held WHERE throttled AND outcome = 'completed'
    ON CONFLICT DO NOTHING
)"""
# Probed, but a device model that must time it has not: pending again, with no attempt so far.
_UNTIMED = """untimed AS (
    SELECT held.id FROM held
    WHERE held.outcome = 'completed' AND (held.throttled
        OR EXISTS (SELECT FROM wanted_timings w WHERE w.job_id = held.id AND NOT (
            w.device = :device AND EXISTS (SELECT FROM timed WHERE timed.job_id = held.id)))
        OR (CAST(:timing_model AS text) IS NOT NULL
            AND NOT EXISTS (SELECT FROM throughputs t
                WHERE t.job_id = held.id AND t.device = :timing_model)
            AND NOT (:device = :timing_model
                AND EXISTS (SELECT FROM timed WHERE timed.job_id = held.id))))
)"""
# Of jobs with new trials: the totals of others stay.
_ALL_TRIALS = """every_trial AS (
    SELECT * FROM arrived
    UNION ALL
    SELECT t.job_id, t.accuracy, t.train_accuracy, t.fit_s
    FROM trials t WHERE t.job_id IN (SELECT job_id FROM arrived)
)"""
_TOTALS = """total AS (
    SELECT job_id, count(*) AS trials, avg(accuracy) AS accuracy,
        stddev_samp(accuracy) AS accuracy_sd, min(accuracy) AS accuracy_min,
        max(accuracy) AS accuracy_max, avg(train_accuracy) AS train_accuracy, avg(fit_s) AS fit_s
    FROM every_trial GROUP BY job_id
)"""
_TOTAL_COLUMNS = (
    "accuracy", "accuracy_sd", "accuracy_min", "accuracy_max", "train_accuracy", "fit_s",
)  # fmt: skip
_NEW_TOTALS = ", ".join(
    f"{name} = CASE WHEN total.job_id IS NULL THEN jobs.{name} ELSE total.{name} END"
    for name in _TOTAL_COLUMNS
)
_COMPLETION = f"""
    WITH {_OUTCOMES}, {_HELD_JOBS}, {_CLOCK}, {RECORDED}, {_NEW_TRIALS}, {_NEW_TIMINGS},
        {_STILL_WANTED}, {_UNTIMED}, {_ALL_TRIALS}, {_TOTALS}
    UPDATE jobs SET
        status = CASE WHEN untimed.id IS NULL THEN outcome.status ELSE 'pending' END,
        attempt = CASE WHEN untimed.id IS NULL THEN jobs.attempt ELSE 0 END,
        reason = outcome.reason, error = outcome.error,
        lease_token = NULL, trials_done = coalesce(total.trials, jobs.trials_done), {_NEW_TOTALS},
        finished_at = CASE WHEN total.job_id IS NULL AND jobs.trials_done > 0
                           THEN jobs.finished_at ELSE clock.now END,
        environment_id = CASE WHEN total.job_id IS NULL AND jobs.trials_done > 0
                              THEN jobs.environment_id ELSE :environment_id END
    FROM held JOIN outcome ON outcome.id = held.id LEFT JOIN total ON total.job_id = held.id
        LEFT JOIN untimed ON untimed.id = held.id CROSS JOIN clock
    WHERE jobs.id = held.id
    RETURNING jobs.id
"""  # noqa: S608


def complete_jobs(
    session: Session,
    *,
    token: uuid.UUID,
    environment_id: int,
    jobs: list[dict[str, Any]],
    trials: list[dict[str, Any]],
    timings: list[dict[str, Any]],
    device: str,
    timing_model: str | None = None,
) -> list[int]:
    """Writes what became of the jobs that ``token`` still holds; returns their ids.

    One statement: a job that the token no longer holds does not change and gets no trials. Totals
    are computed from all trials, stored and new; a job without new ones keeps its results.

    Args:
        jobs: ``id status reason error throttled`` per job.
        trials: ``job_id`` and the columns of ``trials`` except environment, attempt and time;
            ``correct_bits`` in hexadecimal.
        timings: ``job_id trial images_per_s spread runs source conditions`` per timing.
        device: the environment's model.
        timing_model: the device model that must time every network before its job completes.
    """
    values = {
        "token": token,
        "environment_id": environment_id,
        "jobs": json.dumps(jobs),
        "trials": json.dumps(trials),
        "timings": json.dumps(timings),
        "device": device,
        "timing_model": timing_model,
    }
    return list(session.execute(sql(_COMPLETION), values).scalars())


def release_jobs(session: Session, token: uuid.UUID) -> int:
    """Makes the jobs that ``token`` holds pending; consumes no attempt; returns their number."""
    statement = sql(f"""
        WITH held AS (
            SELECT id, attempt, lease_token, 'released' AS outcome, CAST(NULL AS text) AS error
            FROM jobs WHERE lease_token = :token AND status = 'running' ORDER BY id FOR UPDATE
        ), {RECORDED}
        UPDATE jobs SET status = 'pending', attempt = jobs.attempt - 1, lease_token = NULL
        FROM held WHERE jobs.id = held.id
    """)  # noqa: S608
    return affected_rows(session.execute(statement, {"token": token}))


def release_lost_jobs(
    session: Session,
    tokens: Sequence[uuid.UUID],
    *,
    outcome: str,
    max_attempts: int,
    error: str,
) -> int:
    """Takes jobs from leases that ended without a result; returns their number.

    Each consumes an attempt: jobs become pending, or failed after ``max_attempts``. The attempt is
    recorded as ``outcome``, which is ``failed`` or ``expired``.
    """
    statement = sql(f"""
        WITH held AS (
            SELECT id, attempt, lease_token, CAST(:outcome AS text) AS outcome,
                CAST(:error AS text) AS error
            FROM jobs WHERE lease_token = ANY(:tokens) AND status = 'running' ORDER BY id FOR UPDATE
        ), {RECORDED}
        UPDATE jobs SET lease_token = NULL, error = :error,
            status = CASE WHEN jobs.attempt < :max_attempts THEN 'pending' ELSE 'failed' END,
            reason = CASE WHEN jobs.attempt < :max_attempts THEN NULL
                          ELSE 'attempts_exhausted' END,
            finished_at = CASE WHEN jobs.trials_done > 0 THEN jobs.finished_at
                               WHEN jobs.attempt < :max_attempts THEN NULL
                               ELSE clock_timestamp() END
        FROM held WHERE jobs.id = held.id
    """)  # noqa: S608
    values = {
        "tokens": list(tokens),
        "outcome": outcome,
        "max_attempts": max_attempts,
        "error": error,
    }
    return affected_rows(session.execute(statement, values))
