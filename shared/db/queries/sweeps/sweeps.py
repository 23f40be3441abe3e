"""SQL about sweeps and their progress."""

from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.db.models import RANKED, Sweep, SweepProgress
from shared.db.queries.statements import affected_rows, sql
from shared.domain.status import JobStatus, SweepStatus

Counts = dict[JobStatus, int]


def insert_sweep(
    session: Session,
    name: str,
    space: dict[str, Any],
    protocol: dict[str, Any],
    total: int,
    *,
    idempotency_key: str | None = None,
    idempotency_scope: str = "",
    request_hash: str | None = None,
) -> Sweep | None:
    """Adds a running sweep without jobs and returns it; None if its idempotency key is taken.

    A key is taken within its scope. Waits for other transactions that insert the same key.
    """
    values = {
        "name": name,
        "space": space,
        "protocol": protocol,
        "total": total,
        "idempotency_key": idempotency_key,
        "idempotency_scope": idempotency_scope,
        "request_hash": request_hash,
    }
    statement = insert(Sweep).values(values)
    statement = statement.on_conflict_do_nothing(constraint="sweeps_idempotency_key")
    sweep = session.execute(statement.returning(Sweep)).scalar_one_or_none()
    if sweep is not None:
        session.execute(insert(SweepProgress).values(sweep_id=sweep.id))
    return sweep


def find_sweep_by_key(session: Session, idempotency_key: str, scope: str) -> Sweep | None:
    """Returns the sweep that was created under an idempotency key; None where there is none."""
    statement = select(Sweep).where(
        Sweep.idempotency_key == idempotency_key, Sweep.idempotency_scope == scope
    )
    return session.execute(statement).scalar_one_or_none()


def _with_progress(*conditions: ColumnElement[bool]) -> Select[Sweep, SweepProgress]:
    return (
        select(Sweep, SweepProgress)
        .join(SweepProgress, SweepProgress.sweep_id == Sweep.id)
        .where(*conditions)
        .execution_options(populate_existing=True)
    )


_ONE_SWEEP = _with_progress(Sweep.id == bindparam("sweep_id"))


def find_sweep(session: Session, sweep_id: int) -> tuple[Sweep, Counts] | None:
    """Returns a sweep with its jobs by state; None where there is no such sweep."""
    row = session.execute(_ONE_SWEEP, {"sweep_id": sweep_id}).one_or_none()
    return None if row is None else (row[0], _counts(row[1]))


def get_counts(session: Session, sweep_id: int) -> Counts:
    """Returns the jobs of an existing sweep by state."""
    statement = select(SweepProgress).where(SweepProgress.sweep_id == sweep_id)
    fresh = statement.execution_options(populate_existing=True)
    return _counts(session.execute(fresh).scalar_one())


def select_sweeps(
    session: Session, *, before_id: int | None, limit: int
) -> list[tuple[Sweep, Counts]]:
    """Returns sweeps with their jobs by state, newest first."""
    statement = _with_progress(*([] if before_id is None else [Sweep.id < before_id]))
    rows = session.execute(statement.order_by(Sweep.id.desc()).limit(limit))
    return [(row[0], _counts(row[1])) for row in rows]


def count_ranked(session: Session, sweep_id: int) -> int:
    """Returns the number of a sweep's jobs whose results count."""
    counts = get_counts(session, sweep_id)
    return counts[JobStatus.COMPLETED] + sum(count_ranked_in_work(session, sweep_id).values())


def count_ranked_in_work(session: Session, sweep_id: int) -> dict[JobStatus, int]:
    """Returns the ranked jobs of a sweep that have not completed, by state; an index holds them."""
    statement = sql(f"""
        SELECT status, count(*) FROM jobs
        WHERE sweep_id = :sweep_id AND {RANKED} AND status <> 'completed' GROUP BY status
    """)  # noqa: S608
    rows = session.execute(statement, {"sweep_id": sweep_id})
    return {JobStatus(status): count for status, count in rows}


def _counts(progress: SweepProgress) -> Counts:
    return {status: getattr(progress, status.value) for status in JobStatus}


def lock_sweep(session: Session, sweep_id: int) -> Sweep | None:
    """Returns a sweep, its state locked until the transaction ends; None if there is none."""
    statement = select(Sweep).where(Sweep.id == sweep_id).with_for_update(key_share=True)
    statement = statement.execution_options(populate_existing=True)
    return session.execute(statement).scalar_one_or_none()


def update_sweep_status(session: Session, sweep_id: int, status: SweepStatus) -> None:
    """Sets the state of a sweep."""
    statement = update(Sweep).where(Sweep.id == sweep_id)
    values: dict[str, Any] = {"status": status.value, "updated_at": text("clock_timestamp()")}
    if status is SweepStatus.RUNNING:
        values["completed_at"] = None
    elif status is SweepStatus.COMPLETED:
        values["completed_at"] = text("clock_timestamp()")
    session.execute(statement.values(values))


def update_finished_sweeps(session: Session, sweep_id: int | None = None) -> int:
    """Completes sweeps (all, or one) that have no unfinished job; returns their number.

    A caller whose transaction has changed jobs of the sweep holds the progress row and sees every
    earlier change: of two last completions exactly one finds no unfinished job. Skips sweeps that
    another transaction locks, such as a cancellation that waits for the caller's lease. The
    progress row is locked too, so that its current version counts and not the one before a retry.
    """
    statement = sql("""
        WITH finished AS (
            SELECT s.id FROM sweeps s JOIN sweep_progress p ON p.sweep_id = s.id
            WHERE s.id = coalesce(:sweep_id, s.id) AND s.status IN ('running', 'paused')
              AND p.pending = 0 AND p.running = 0
            FOR NO KEY UPDATE OF s, p SKIP LOCKED
        )
        UPDATE sweeps SET status = 'completed', completed_at = clock_timestamp(),
                          updated_at = clock_timestamp()
        FROM finished WHERE sweeps.id = finished.id
    """)
    return affected_rows(session.execute(statement, {"sweep_id": sweep_id}))
