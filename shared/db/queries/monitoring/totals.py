"""SQL about the cluster as a whole: counts that indexes and kept totals answer."""

from sqlalchemy import Row, RowMapping, text
from sqlalchemy.orm import Session

from shared.domain.status import JobStatus

_SUMS = ", ".join(f"coalesce(sum({s.value}), 0)::bigint AS {s.value}" for s in JobStatus)


def count_sweeps(session: Session) -> dict[str, int]:
    """Returns how many sweeps there are in each state; states without any are left out."""
    rows = session.execute(text("SELECT status, count(*) AS n FROM sweeps GROUP BY status"))
    return {row.status: row.n for row in rows}


def sum_progress(session: Session) -> RowMapping:
    """Returns jobs by state over all sweeps, from the kept counts."""
    return session.execute(text(f"SELECT {_SUMS} FROM sweep_progress")).mappings().one()  # noqa: S608


def select_unfinished_progress(session: Session, limit: int) -> list[RowMapping]:
    """Returns jobs by state of the newest running and paused sweeps."""
    statement = text("""
        SELECT p.* FROM sweep_progress p JOIN sweeps s ON s.id = p.sweep_id
        WHERE s.status IN ('running', 'paused') ORDER BY s.id DESC LIMIT :limit
    """)
    return list(session.execute(statement, {"limit": limit}).mappings())


def count_pending_groups(session: Session) -> Row[int, int]:
    """Returns (pending, hinted): groups of running sweeps with work, and those hinted about."""
    statement = text("""
        SELECT count(*) AS pending, count(g.hinted_at) AS hinted
        FROM groups g JOIN sweeps s ON s.id = g.sweep_id
        WHERE g.pending > 0 AND s.status = 'running'
    """)
    return session.execute(statement).one()


def count_open_leases(session: Session) -> int:
    """Returns how many leases are held."""
    statement = text("SELECT count(*) FROM leases WHERE ended_at IS NULL")
    return int(session.execute(statement).scalar_one())


def count_expired_leases(session: Session) -> int:
    """Returns how many leases have ever expired; they are rare and have an index of their own."""
    statement = text("SELECT count(*) FROM leases WHERE outcome = 'expired'")
    return int(session.execute(statement).scalar_one())
