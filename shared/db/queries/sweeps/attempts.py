"""SQL about attempts: the record of every lease of a job, and how each ended."""

import datetime as dt
import uuid
from dataclasses import dataclass

from sqlalchemy.orm import Session

from shared.db.queries.rows import read_rows
from shared.db.queries.statements import sql

# Part of every statement that takes jobs from a lease. Its CTE "held" has the columns id, attempt,
# lease_token, outcome and error of these jobs.
RECORDED = """recorded AS (
            INSERT INTO attempts
                (job_id, lease_token, attempt, worker_id, started_at, outcome, error)
            SELECT held.id, leases.token, held.attempt, leases.worker_id, leases.claimed_at,
                held.outcome, held.error
            FROM held JOIN leases ON leases.token = held.lease_token
        )"""


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One lease of a job; ``ended_at``, ``outcome`` and ``error`` are None while it runs."""

    lease_token: uuid.UUID
    attempt: int  # from 1; a released attempt's number is used again
    worker_id: uuid.UUID
    hostname: str | None
    pid: int | None
    started_at: dt.datetime
    ended_at: dt.datetime | None
    outcome: str | None
    error: str | None


def select_attempts(session: Session, job_id: int) -> list[AttemptRow]:
    """Returns a job's attempts in the order they began, the running one last."""
    statement = sql("""
        SELECT a.*, w.hostname, w.pid FROM (
            SELECT lease_token, attempt, worker_id, started_at, ended_at, outcome, error
            FROM attempts WHERE job_id = :job_id
            UNION ALL
            SELECT l.token, j.attempt, l.worker_id, l.claimed_at, NULL, NULL, NULL
            FROM jobs j JOIN leases l ON l.token = j.lease_token WHERE j.id = :job_id
        ) a LEFT JOIN workers w ON w.id = a.worker_id
        ORDER BY a.started_at, a.ended_at
    """)
    return read_rows(AttemptRow, session.execute(statement, {"job_id": job_id}))
