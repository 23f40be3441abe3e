"""SQL about the devices that measured a sweep."""

from sqlalchemy.orm import Session

from shared.db.queries.statements import sql


def count_by_device(session: Session, sweep_id: int) -> list[tuple[str, int, int]] | None:
    """Returns by device model how many ranked jobs it measured, and how many jobs it timed.

    None where there is no such sweep.
    """
    statement = sql("""
        WITH measured AS (
            SELECT e.device, sum(k.completed) AS jobs
            FROM sweep_environments k JOIN environments e ON e.id = k.environment_id
            WHERE k.sweep_id = :sweep_id GROUP BY e.device
        ), timed AS (
            SELECT device, timed AS jobs FROM sweep_devices WHERE sweep_id = :sweep_id
        )
        SELECT device, coalesce(measured.jobs, 0)::int, coalesce(timed.jobs, 0)
        FROM measured FULL JOIN timed USING (device)
        RIGHT JOIN sweeps s ON true
        WHERE s.id = :sweep_id
    """)
    rows = [tuple(row) for row in session.execute(statement, {"sweep_id": sweep_id})]
    return [row for row in rows if row[0] is not None] if rows else None
