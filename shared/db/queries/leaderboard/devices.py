"""SQL about the devices that measured a sweep."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from shared.db.queries.statements import sql


@dataclass(frozen=True, slots=True)
class MeasuredEnvironment:
    """An environment that measured jobs of a sweep."""

    id: int
    device: str
    ranked: int  # jobs of the sweep with results from there


def select_environments(session: Session, sweep_id: int) -> list[MeasuredEnvironment] | None:
    """Returns the environments that measured a sweep, by id; None where there is no such sweep."""
    statement = sql("""
        SELECT e.id, e.device, counted.completed
        FROM sweeps s
        LEFT JOIN sweep_environments counted ON counted.sweep_id = s.id
        LEFT JOIN environments e ON e.id = counted.environment_id
        WHERE s.id = :sweep_id ORDER BY e.id
    """)
    rows = list(session.execute(statement, {"sweep_id": sweep_id}))
    return [MeasuredEnvironment(*row) for row in rows if row.id is not None] if rows else None
