"""SQL about all leases: renewing, ending, and finding the expired ones."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from shared.db.queries.rows import read_rows
from shared.db.queries.statements import affected_rows, sql


@dataclass(frozen=True, slots=True)
class ExpiredLease:
    """A lease that was not renewed in time."""

    token: uuid.UUID
    sweep_id: int
    group_index: int | None  # None for a training


def renew_lease(session: Session, token: uuid.UUID, lease_s: float) -> bool:
    """Extends an open lease to ``lease_s`` seconds from now; False when it has ended."""
    statement = sql("""
        UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => :lease_s)
        WHERE token = :token AND ended_at IS NULL
    """)
    return affected_rows(session.execute(statement, {"token": token, "lease_s": lease_s})) > 0


def end_leases(session: Session, tokens: Sequence[uuid.UUID], outcome: str) -> int:
    """Ends open leases; returns the number that were open.

    ``outcome`` is ``completed``, ``released``, ``failed`` or ``expired``. Every transaction that
    ends leases does so before it changes their jobs: with one order of locks there is no deadlock.
    """
    statement = sql("""
        UPDATE leases SET ended_at = clock_timestamp(), outcome = :outcome
        WHERE token = ANY(:tokens) AND ended_at IS NULL
    """)
    values = {"tokens": list(tokens), "outcome": outcome}
    return affected_rows(session.execute(statement, values))


def find_lease_outcome(session: Session, token: uuid.UUID) -> str | None:
    """Returns how a lease ended; None while it is open or if it was never committed."""
    statement = sql("SELECT outcome FROM leases WHERE token = :token")
    outcome: str | None = session.execute(statement, {"token": token}).scalar_one_or_none()
    return outcome


def cancel_leases(session: Session, sweep_id: int) -> None:
    """Ends every open lease of a sweep's jobs; workers notice at their next heartbeat."""
    statement = sql("""
        UPDATE leases SET ended_at = clock_timestamp(), outcome = 'cancelled'
        WHERE sweep_id = :sweep_id AND group_index IS NOT NULL AND ended_at IS NULL
    """)
    session.execute(statement, {"sweep_id": sweep_id})


def lock_expired_leases(session: Session, limit: int = 1000) -> list[ExpiredLease]:
    """Locks expired leases and returns them; skips those that another transaction locks."""
    statement = sql("""
        SELECT token, sweep_id, group_index FROM leases
        WHERE ended_at IS NULL AND expires_at < clock_timestamp()
        ORDER BY expires_at LIMIT :limit
        FOR UPDATE SKIP LOCKED
    """)
    return read_rows(ExpiredLease, session.execute(statement, {"limit": limit}))
