"""SQL that changes a sweep's jobs on request: cancel, retry, extend."""

from sqlalchemy.orm import Session

from shared.db.models import RANKED
from shared.db.queries.statements import affected_rows, sql
from shared.db.queries.sweeps.attempts import RECORDED
from shared.db.queries.sweeps.devices import NOT_SLOW


def cancel_jobs(session: Session, sweep_id: int) -> int:
    """Ends every pending or running job of a sweep; returns the number of jobs.

    Those with results are completed with the trials and timings that they have, the others are
    cancelled. End their leases first, so that late results are refused.
    """
    statement = sql(f"""
        WITH unfinished AS (
            SELECT id, attempt, lease_token FROM jobs
            WHERE sweep_id = :sweep_id AND status IN ('pending', 'running')
            ORDER BY id FOR UPDATE
        ), held AS (
            SELECT *, 'cancelled' AS outcome, CAST(NULL AS text) AS error
            FROM unfinished WHERE lease_token IS NOT NULL
        ), {RECORDED}, unwanted AS (
            DELETE FROM wanted_timings w USING unfinished WHERE w.job_id = unfinished.id
        )
        UPDATE jobs SET lease_token = NULL,
            status = CASE WHEN trials_done > 0 THEN 'completed' ELSE 'cancelled' END,
            trials_target = CASE WHEN trials_done > 0 THEN trials_done ELSE trials_target END,
            finished_at = CASE WHEN trials_done > 0 THEN finished_at ELSE clock_timestamp() END
        FROM unfinished WHERE jobs.id = unfinished.id
    """)  # noqa: S608
    return affected_rows(session.execute(statement, {"sweep_id": sweep_id}))


def retry_failed_jobs(session: Session, sweep_id: int) -> int:
    """Makes a sweep's failed jobs pending, attempts counted from zero; returns their number."""
    statement = sql("""
        UPDATE jobs SET status = 'pending', attempt = 0, reason = NULL, error = NULL,
                        finished_at = CASE WHEN trials_done > 0 THEN finished_at END
        WHERE sweep_id = :sweep_id AND status = 'failed'
    """)
    return affected_rows(session.execute(statement, {"sweep_id": sweep_id}))


def extend_jobs(session: Session, sweep_id: int, trials: int) -> int:
    """Raises the target of completed and pending jobs to ``trials``; returns the number raised.

    Completed jobs become pending, attempts counted from zero; they keep their results and when
    these came. Running jobs do not change, nor do jobs whose target is at least ``trials``.
    """
    statement = sql("""
        UPDATE jobs SET trials_target = :trials,
            attempt = CASE WHEN status = 'completed' THEN 0 ELSE attempt END, status = 'pending'
        WHERE sweep_id = :sweep_id AND status IN ('completed', 'pending')
          AND trials_target < :trials
    """)
    values = {"sweep_id": sweep_id, "trials": trials}
    return affected_rows(session.execute(statement, values))


def extend_leaders(
    session: Session,
    sweep_id: int,
    trials: int,
    top: int,
    *,
    device: str | None,
    min_throughput: float | None,
) -> int:
    """Raises the target of the ``top`` most accurate ranked jobs; returns the number raised.

    Jobs that are slower than ``min_throughput`` on the device model are left out. Of the others,
    those that completed or are pending change as in ``extend_jobs``.
    """
    statement = sql(f"""
        WITH leaders AS (
            SELECT id FROM jobs WHERE sweep_id = :sweep_id AND {RANKED}
                AND {NOT_SLOW}
            ORDER BY accuracy DESC NULLS LAST, id LIMIT :top FOR UPDATE
        )
        UPDATE jobs SET trials_target = :trials,
            attempt = CASE WHEN status = 'completed' THEN 0 ELSE attempt END, status = 'pending'
        FROM leaders WHERE jobs.id = leaders.id AND jobs.status IN ('completed', 'pending')
          AND jobs.trials_target < :trials
    """)  # noqa: S608
    values = {
        "sweep_id": sweep_id,
        "trials": trials,
        "top": top,
        "device": device,
        "min_throughput": min_throughput,
    }
    return affected_rows(session.execute(statement, values))
