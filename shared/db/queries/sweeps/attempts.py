"""SQL about attempts: reading the record of how often and why a job was handed out."""

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session


def select_attempts(session: Session, job_id: int) -> list[RowMapping]:
    """Returns a job's attempts in the order they began, with their worker's machine.

    One that still runs comes last, its ``ended_at``, ``outcome`` and ``error`` null.
    """
    statement = text("""
        SELECT a.*, w.hostname, w.pid FROM (
            SELECT lease_token, attempt, worker_id, started_at, ended_at, outcome, error
            FROM attempts WHERE job_id = :job_id
            UNION ALL
            SELECT l.token, j.attempt, l.worker_id, l.claimed_at, NULL, NULL, NULL
            FROM jobs j JOIN leases l ON l.token = j.lease_token WHERE j.id = :job_id
        ) a LEFT JOIN workers w ON w.id = a.worker_id
        ORDER BY a.started_at, a.ended_at
    """)
    return list(session.execute(statement, {"job_id": job_id}).mappings())
