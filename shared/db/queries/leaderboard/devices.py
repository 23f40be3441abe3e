"""SQL about the devices that a sweep was measured on."""

from sqlalchemy import Row
from sqlalchemy.orm import Session

from shared.db.queries.statements import sql


def select_environments(
    session: Session, sweep_id: int
) -> list[Row[int | None, str | None, int | None]] | None:
    """Returns (id, device, completed) of every environment that gave a sweep results.

    ``completed`` counts the sweep's jobs that are completed there now. None where there is no such
    sweep.
    """
    statement = sql("""
        SELECT e.id, e.device, kept.completed
        FROM sweeps s
        LEFT JOIN sweep_environments kept ON kept.sweep_id = s.id
        LEFT JOIN environments e ON e.id = kept.environment_id
        WHERE s.id = :sweep_id ORDER BY e.id
    """)
    rows = list(session.execute(statement, {"sweep_id": sweep_id}))
    return [row for row in rows if row.id is not None] if rows else None
