"""SQL that changes a sweep's jobs on request: cancel, retry, extend."""

from sqlalchemy.orm import Session

from shared.db.queries.statements import affected_rows, sql
from shared.db.queries.sweeps.attempts import RECORDED


def cancel_jobs(session: Session, sweep_id: int) -> int:
    """Cancels every pending or running job of a sweep; returns the number of jobs.

    End their leases first, so that late results are refused.
    """
    statement = sql(f"""
        WITH unfinished AS (
            SELECT id, attempt, lease_token FROM jobs
            WHERE sweep_id = :sweep_id AND status IN ('pending', 'running')
            ORDER BY id FOR UPDATE
        ), held AS (
            SELECT *, 'cancelled' AS outcome, CAST(NULL AS text) AS error
            FROM unfinished WHERE lease_token IS NOT NULL
        ), {RECORDED}
        UPDATE jobs SET status = 'cancelled', lease_token = NULL, finished_at = clock_timestamp()
        FROM unfinished WHERE jobs.id = unfinished.id
    """)  # noqa: S608
    return affected_rows(session.execute(statement, {"sweep_id": sweep_id}))


def retry_failed_jobs(session: Session, sweep_id: int) -> int:
    """Makes a sweep's failed jobs pending, attempts counted from zero; returns their number."""
    statement = sql("""
        UPDATE jobs SET status = 'pending', attempt = 0, reason = NULL, error = NULL,
                        finished_at = NULL
        WHERE sweep_id = :sweep_id AND status = 'failed'
    """)
    return affected_rows(session.execute(statement, {"sweep_id": sweep_id}))


def extend_jobs(session: Session, sweep_id: int, trials: int) -> int:
    """Raises the target of completed and pending jobs to ``trials``; returns the number raised.

    Completed jobs become pending, attempts counted from zero. Running jobs do not change, nor do
    jobs whose target is at least ``trials``.
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
    """Raises the target of the ``top`` most accurate completed jobs; returns the number raised.

    They become pending, attempts counted from zero. Those whose target is at least ``trials`` do
    not change.
    """
    statement = sql("""
        WITH leaders AS (
            SELECT id FROM jobs WHERE sweep_id = :sweep_id AND status = 'completed'
            ORDER BY accuracy DESC NULLS LAST, id LIMIT :top FOR UPDATE
        )
        UPDATE jobs SET trials_target = :trials, attempt = 0, finished_at = NULL,
                        status = 'pending'
        FROM leaders WHERE jobs.id = leaders.id AND jobs.status = 'completed'
          AND jobs.trials_target < :trials
    """)
    values = {"sweep_id": sweep_id, "trials": trials, "top": top}
    return affected_rows(session.execute(statement, values))
