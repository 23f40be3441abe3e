"""SQL about the cluster as a whole: counts from indexes and from stored totals."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.domain.status import JobStatus

Counts = dict[JobStatus, int]

_SUMS = ", ".join(f"coalesce(sum({s.value}), 0)::bigint AS {s.value}" for s in JobStatus)
_STATES = ", ".join(f"p.{status.value}" for status in JobStatus)


@dataclass(frozen=True, slots=True)
class PendingGroups:
    """Groups of running sweeps that have pending jobs."""

    pending: int
    hinted: int  # those of them whose hint was sent


def count_sweeps(session: Session) -> dict[str, int]:
    """Returns the number of sweeps by state; states without sweeps are left out."""
    rows = session.execute(text("SELECT status, count(*) AS n FROM sweeps GROUP BY status"))
    return {row.status: row.n for row in rows}


def sum_progress(session: Session) -> Counts:
    """Returns jobs by state over all sweeps, from the stored counts."""
    totals = session.execute(text(f"SELECT {_SUMS} FROM sweep_progress")).one()  # noqa: S608
    return dict(zip(JobStatus, totals, strict=True))


def select_unfinished_progress(session: Session, limit: int) -> dict[int, Counts]:
    """Returns jobs by state of the newest running and paused sweeps, by sweep id."""
    statement = text(f"""
        SELECT p.sweep_id, {_STATES} FROM sweep_progress p JOIN sweeps s ON s.id = p.sweep_id
        WHERE s.status IN ('running', 'paused') ORDER BY s.id DESC LIMIT :limit
    """)  # noqa: S608
    rows = session.execute(statement, {"limit": limit})
    return {sweep_id: dict(zip(JobStatus, counts, strict=True)) for sweep_id, *counts in rows}


def count_pending_groups(session: Session) -> PendingGroups:
    """Returns the numbers of groups that have pending jobs."""
    statement = text("""
        SELECT count(*) AS pending, count(g.hinted_at) AS hinted
        FROM groups g JOIN sweeps s ON s.id = g.sweep_id
        WHERE g.pending > 0 AND s.status = 'running'
    """)
    return PendingGroups(*session.execute(statement).one())


def count_open_leases(session: Session) -> int:
    """Returns the number of open leases."""
    statement = text("SELECT count(*) FROM leases WHERE ended_at IS NULL")
    return int(session.execute(statement).scalar_one())


def count_expired_leases(session: Session) -> int:
    """Returns the number of leases that have ever expired; a partial index lists them."""
    statement = text("SELECT count(*) FROM leases WHERE outcome = 'expired'")
    return int(session.execute(statement).scalar_one())
