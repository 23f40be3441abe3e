"""SQL about jobs and their trials: seeding, claiming, completing, handing back, reading."""

import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from shared.db.models import Environment, Job, Trial
from shared.db.queries.statements import affected_rows, copy_rows, sql
from shared.domain.status import JobStatus

_JOB_COLUMNS = (
    "sweep_id, space_index, group_index, architecture_hash, channels, kernel_size, stride, "
    "dilation, padding, activation, ratio, parameters, flops, trials_target"
)


def insert_jobs(session: Session, lines: Iterable[str]) -> None:
    """Adds jobs from lines in COPY's text format, columns in the order of ``_JOB_COLUMNS``."""
    copy_rows(session, f"COPY jobs ({_JOB_COLUMNS}) FROM STDIN", lines)


def claim_jobs(
    session: Session,
    *,
    sweep_id: int,
    group: int,
    worker_id: uuid.UUID,
    token: uuid.UUID,
    lease_s: float,
    limit: int,
) -> list[Row[Any]]:
    """Leases up to ``limit`` pending jobs of a group of a running sweep and returns them.

    Jobs that another claim holds at this moment are passed over. The sweep is locked in share
    mode: a pause that has committed is seen by every later claim. Jobs whose last attempt was lost
    come after the others and one at a time, so that one that kills its worker takes no siblings
    with it. Each row has the job's id, architecture and trials, and in ``group_pending`` how many
    jobs of the group were pending before.

    The commit does not wait for the disk: a claim that a crash of Postgres forgets leaves its jobs
    pending, and its results are refused. That costs time, never a result.
    """
    statement = sql("""
        SET LOCAL synchronous_commit = off;
        WITH sweep AS (
            SELECT id FROM sweeps WHERE id = :sweep_id AND status = 'running' FOR SHARE
        ), fresh AS (
            SELECT EXISTS (SELECT FROM jobs WHERE sweep_id = :sweep_id AND group_index = :group
                           AND status = 'pending' AND attempt = 0) AS exist
        ), claimable AS (
            SELECT jobs.id FROM jobs JOIN sweep ON sweep.id = jobs.sweep_id CROSS JOIN fresh
            WHERE jobs.sweep_id = :sweep_id AND jobs.group_index = :group
              AND jobs.status = 'pending' AND (jobs.attempt = 0 OR NOT fresh.exist)
            ORDER BY jobs.id LIMIT (SELECT CASE WHEN exist THEN :limit ELSE 1 END FROM fresh)
            FOR UPDATE OF jobs SKIP LOCKED
        ), lease AS (
            INSERT INTO leases (token, sweep_id, group_index, worker_id, jobs, expires_at)
            SELECT :token, :sweep_id, :group, :worker_id, count(*),
                   clock_timestamp() + make_interval(secs => :lease_s)
            FROM claimable HAVING count(*) > 0
            RETURNING token
        )
        UPDATE jobs SET status = 'running', attempt = jobs.attempt + 1, lease_token = lease.token
        FROM claimable, lease WHERE jobs.id = claimable.id
        RETURNING jobs.id, jobs.channels, jobs.kernel_size, jobs.stride, jobs.dilation,
            jobs.padding, jobs.activation, jobs.trials_done, jobs.trials_target,
            (SELECT pending FROM groups WHERE sweep_id = :sweep_id AND index = :group)
                AS group_pending
    """)
    values = {
        "sweep_id": sweep_id,
        "group": group,
        "worker_id": worker_id,
        "token": token,
        "lease_s": lease_s,
        "limit": limit,
    }
    return sorted(session.execute(statement, values), key=lambda row: row.id)


def complete_jobs(
    session: Session,
    *,
    token: uuid.UUID,
    environment_id: int,
    jobs: list[dict[str, Any]],
    trials: list[dict[str, Any]],
) -> list[int]:
    """Writes outcomes and trials of the jobs that ``token`` still holds; returns their ids.

    One statement: what the token no longer holds is left alone, with all its trials. Totals are
    computed from the trials themselves, those already there and those that arrive.

    Args:
        jobs: ``id status reason error`` per job.
        trials: ``job_id`` and the columns of ``trials`` but for environment, attempt and time;
            ``correct_bits`` in hexadecimal.
    """
    statement = sql("""
        WITH outcome AS (
            SELECT * FROM jsonb_to_recordset(CAST(:jobs AS jsonb))
                AS o(id bigint, status text, reason text, error text)
        ), held AS (
            SELECT jobs.id, jobs.attempt, jobs.lease_token, outcome.status, outcome.error
            FROM jobs JOIN outcome USING (id)
            WHERE jobs.lease_token = :token AND jobs.status = 'running'
            ORDER BY jobs.id FOR UPDATE OF jobs
        ), recorded AS (
            INSERT INTO attempts
                (job_id, lease_token, attempt, worker_id, started_at, outcome, error)
            SELECT held.id, leases.token, held.attempt, leases.worker_id, leases.claimed_at,
                held.status, held.error
            FROM held JOIN leases ON leases.token = held.lease_token
        ), arrived AS (
            INSERT INTO trials (job_id, trial, accuracy, train_accuracy, fit_s, images_per_s,
                images_per_s_spread, timing_runs, throughput_source, weights_seed, correct_bits,
                environment_id, attempt)
            SELECT t.job_id, t.trial, t.accuracy, t.train_accuracy, t.fit_s, t.images_per_s,
                t.images_per_s_spread, t.timing_runs, t.throughput_source, t.weights_seed,
                decode(t.correct_bits, 'hex'), :environment_id, held.attempt
            FROM jsonb_to_recordset(CAST(:trials AS jsonb)) AS t(
                job_id bigint, trial smallint, accuracy float8, train_accuracy float8,
                fit_s float8, images_per_s float8, images_per_s_spread float8, timing_runs int,
                throughput_source text, weights_seed bigint, correct_bits text)
            JOIN held ON held.id = t.job_id
            RETURNING job_id, accuracy, train_accuracy, fit_s, images_per_s, throughput_source
        ), every_trial AS (
            SELECT * FROM arrived
            UNION ALL
            SELECT t.job_id, t.accuracy, t.train_accuracy, t.fit_s,
                CASE WHEN there.device = here.device THEN t.images_per_s END,
                CASE WHEN there.device = here.device THEN t.throughput_source END
            FROM trials t JOIN environments there ON there.id = t.environment_id
            JOIN environments here ON here.id = :environment_id
            WHERE t.job_id IN (SELECT id FROM held)
        ), total AS (
            SELECT job_id, count(*) AS trials, avg(accuracy) AS accuracy,
                stddev_samp(accuracy) AS accuracy_sd, min(accuracy) AS accuracy_min,
                max(accuracy) AS accuracy_max, avg(train_accuracy) AS train_accuracy,
                avg(images_per_s) AS throughput, min(images_per_s) AS throughput_min,
                max(images_per_s) AS throughput_max,
                bool_and(throughput_source = 'measured') AS throughput_measured,
                avg(fit_s) AS fit_s
            FROM every_trial GROUP BY job_id
        )
        UPDATE jobs SET
            status = outcome.status, reason = outcome.reason, error = outcome.error,
            lease_token = NULL, finished_at = clock_timestamp(),
            trials_done = coalesce(total.trials, 0), accuracy = total.accuracy,
            accuracy_sd = total.accuracy_sd, accuracy_min = total.accuracy_min,
            accuracy_max = total.accuracy_max, train_accuracy = total.train_accuracy,
            throughput = total.throughput, throughput_min = total.throughput_min,
            throughput_max = total.throughput_max,
            throughput_measured = total.throughput_measured, fit_s = total.fit_s,
            environment_id = :environment_id
        FROM held JOIN outcome ON outcome.id = held.id LEFT JOIN total ON total.job_id = held.id
        WHERE jobs.id = held.id
        RETURNING jobs.id
    """)
    values = {
        "token": token,
        "environment_id": environment_id,
        "jobs": json.dumps(jobs),
        "trials": json.dumps(trials),
    }
    return list(session.execute(statement, values).scalars())


def release_jobs(session: Session, token: uuid.UUID) -> int:
    """Hands back what ``token`` still holds, without burning the attempt; returns how many."""
    statement = sql("""
        WITH held AS (
            SELECT id, attempt, lease_token FROM jobs
            WHERE lease_token = :token AND status = 'running' ORDER BY id FOR UPDATE
        ), recorded AS (
            INSERT INTO attempts
                (job_id, lease_token, attempt, worker_id, started_at, outcome, error)
            SELECT held.id, leases.token, held.attempt, leases.worker_id, leases.claimed_at,
                'released', NULL
            FROM held JOIN leases ON leases.token = held.lease_token
        )
        UPDATE jobs SET status = 'pending', attempt = jobs.attempt - 1, lease_token = NULL
        FROM held WHERE jobs.id = held.id
    """)
    return affected_rows(session.execute(statement, {"token": token}))


def release_lost_jobs(
    session: Session,
    tokens: Sequence[uuid.UUID],
    *,
    outcome: str,
    max_attempts: int,
    error: str,
) -> int:
    """Takes jobs back from leases that ended without a result, the attempt burnt.

    They are pending again, or failed with ``error`` after their last attempt. The attempt is
    recorded as ``outcome``, ``failed`` or ``expired``.
    """
    statement = sql("""
        WITH held AS (
            SELECT id, attempt, lease_token FROM jobs
            WHERE lease_token = ANY(:tokens) AND status = 'running' ORDER BY id FOR UPDATE
        ), recorded AS (
            INSERT INTO attempts
                (job_id, lease_token, attempt, worker_id, started_at, outcome, error)
            SELECT held.id, leases.token, held.attempt, leases.worker_id, leases.claimed_at,
                :outcome, :error
            FROM held JOIN leases ON leases.token = held.lease_token
        )
        UPDATE jobs SET lease_token = NULL, error = :error,
            status = CASE WHEN jobs.attempt < :max_attempts THEN 'pending' ELSE 'failed' END,
            reason = CASE WHEN jobs.attempt < :max_attempts THEN NULL
                          ELSE 'attempts_exhausted' END,
            finished_at = CASE WHEN jobs.attempt < :max_attempts THEN NULL
                               ELSE clock_timestamp() END
        FROM held WHERE jobs.id = held.id
    """)
    values = {
        "tokens": list(tokens),
        "outcome": outcome,
        "max_attempts": max_attempts,
        "error": error,
    }
    return affected_rows(session.execute(statement, values))


def cancel_jobs(session: Session, sweep_id: int) -> int:
    """Cancels every unfinished job of a sweep; late results find their lease gone."""
    statement = sql("""
        WITH unfinished AS (
            SELECT id, attempt, lease_token FROM jobs
            WHERE sweep_id = :sweep_id AND status IN ('pending', 'running')
            ORDER BY id FOR UPDATE
        ), held AS (
            SELECT * FROM unfinished WHERE lease_token IS NOT NULL
        ), recorded AS (
            INSERT INTO attempts
                (job_id, lease_token, attempt, worker_id, started_at, outcome, error)
            SELECT held.id, leases.token, held.attempt, leases.worker_id, leases.claimed_at,
                'cancelled', NULL
            FROM held JOIN leases ON leases.token = held.lease_token
        )
        UPDATE jobs SET status = 'cancelled', lease_token = NULL, finished_at = clock_timestamp()
        FROM unfinished WHERE jobs.id = unfinished.id
    """)
    return affected_rows(session.execute(statement, {"sweep_id": sweep_id}))


def retry_failed_jobs(session: Session, sweep_id: int) -> int:
    """Makes a sweep's failed jobs pending again with a fresh attempt counter; returns how many."""
    statement = sql("""
        UPDATE jobs SET status = 'pending', attempt = 0, reason = NULL, error = NULL,
                        finished_at = NULL
        WHERE sweep_id = :sweep_id AND status = 'failed'
    """)
    return affected_rows(session.execute(statement, {"sweep_id": sweep_id}))


def extend_jobs(session: Session, sweep_id: int, trials: int) -> int:
    """Raises the trials that jobs which completed or wait shall have; returns how many it raised.

    Completed jobs become pending with a fresh attempt counter. Jobs that run at this moment, and
    those that have or want as many trials already, stay as they are.
    """
    statement = sql("""
        UPDATE jobs SET trials_target = :trials,
            attempt = CASE WHEN status = 'completed' THEN 0 ELSE attempt END,
            finished_at = NULL, status = 'pending'
        WHERE sweep_id = :sweep_id AND status IN ('completed', 'pending')
          AND trials_target < :trials
    """)
    values = {"sweep_id": sweep_id, "trials": trials}
    return affected_rows(session.execute(statement, values))


def extend_leaders(session: Session, sweep_id: int, trials: int, top: int) -> int:
    """Raises the trials of the ``top`` most accurate completed jobs; returns how many it raised.

    They become pending with a fresh attempt counter; those with as many trials stay as they are.
    """
    statement = sql("""
        WITH leaders AS (
            SELECT id FROM jobs WHERE sweep_id = :sweep_id AND status = 'completed'
            ORDER BY accuracy DESC NULLS LAST, id LIMIT :top FOR UPDATE
        )
        UPDATE jobs SET trials_target = :trials, attempt = 0, finished_at = NULL,
                        status = 'pending'
        FROM leaders WHERE jobs.id = leaders.id AND jobs.trials_target < :trials
    """)
    values = {"sweep_id": sweep_id, "trials": trials, "top": top}
    return affected_rows(session.execute(statement, values))


def find_job(session: Session, job_id: int) -> Job | None:
    """Returns one job."""
    return session.get(Job, job_id)


def select_jobs(
    session: Session, sweep_id: int, *, status: JobStatus | None, after_id: int, limit: int
) -> list[Job]:
    """Returns a sweep's jobs by id, from just after ``after_id``."""
    statement = select(Job).where(Job.sweep_id == sweep_id, Job.id > after_id)
    if status is not None:
        statement = statement.where(Job.status == status.value)
    return list(session.execute(statement.order_by(Job.id).limit(limit)).scalars())


def select_trials(session: Session, job_id: int) -> list[tuple[Trial, Environment]]:
    """Returns a job's trials in order, each with where it was measured."""
    statement = (
        select(Trial, Environment)
        .join(Environment, Environment.id == Trial.environment_id)
        .where(Trial.job_id == job_id)
        .order_by(Trial.trial)
    )
    return [(row[0], row[1]) for row in session.execute(statement)]
