"""SQL about leases: renewing, ending, and finding the expired ones."""

import uuid
from collections.abc import Sequence

from sqlalchemy import Row
from sqlalchemy.orm import Session

from shared.db.queries.statements import affected_rows, sql


def renew_lease(session: Session, token: uuid.UUID, lease_s: float) -> bool:
    """Pushes an open lease's expiry out by the database's clock; False when it is over."""
    statement = sql("""
        UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => :lease_s)
        WHERE token = :token AND ended_at IS NULL
    """)
    return affected_rows(session.execute(statement, {"token": token, "lease_s": lease_s})) > 0


def end_leases(session: Session, tokens: Sequence[uuid.UUID], outcome: str) -> int:
    """Closes open leases and returns how many were open.

    ``outcome`` is ``completed``, ``released``, ``failed`` or ``expired``.

    Every transaction that ends leases does so before it touches their jobs, so that none waits
    for another in a circle.
    """
    statement = sql("""
        UPDATE leases SET ended_at = clock_timestamp(), outcome = :outcome
        WHERE token = ANY(:tokens) AND ended_at IS NULL
    """)
    values = {"tokens": list(tokens), "outcome": outcome}
    return affected_rows(session.execute(statement, values))


def find_lease_outcome(session: Session, token: uuid.UUID) -> str | None:
    """Returns how a lease ended; None while it is open, or where it was never committed."""
    statement = sql("SELECT outcome FROM leases WHERE token = :token")
    outcome: str | None = session.execute(statement, {"token": token}).scalar_one_or_none()
    return outcome


def cancel_leases(session: Session, sweep_id: int) -> None:
    """Closes every open lease of a sweep's jobs; its workers notice at their next heartbeat."""
    statement = sql("""
        UPDATE leases SET ended_at = clock_timestamp(), outcome = 'cancelled'
        WHERE sweep_id = :sweep_id AND group_index IS NOT NULL AND ended_at IS NULL
    """)
    session.execute(statement, {"sweep_id": sweep_id})


def lock_expired_leases(
    session: Session, limit: int = 1000
) -> list[Row[uuid.UUID, int, int | None]]:
    """Returns (token, sweep_id, group_index) of expired leases, locked; passes over locked ones.

    A training's lease has no group.
    """
    statement = sql("""
        SELECT token, sweep_id, group_index FROM leases
        WHERE ended_at IS NULL AND expires_at < clock_timestamp()
        ORDER BY expires_at LIMIT :limit
        FOR UPDATE SKIP LOCKED
    """)
    return list(session.execute(statement, {"limit": limit}))
