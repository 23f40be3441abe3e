"""SQL about what has just changed: the best jobs since, recent leases, the database's clock."""

import datetime as dt
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from shared.db.queries.statements import sql

_COLUMNS = """
    id, accuracy, throughput, trials_done, finished_at, architecture_hash,
    channels, kernel_size, stride, dilation, padding, activation
"""


def select_now(session: Session) -> dt.datetime:
    """Returns the time by the database's clock."""
    now: dt.datetime = session.execute(sql("SELECT clock_timestamp()")).scalar_one()
    return now


def select_best(
    session: Session, sweep_id: int, *, leaders: int, floor: float | None, limit: int
) -> list[Row[Any]]:
    """Returns a sweep's ``leaders`` most accurate completed jobs, best first, ties by id.

    With a floor all that are at least as accurate come too, the best ``limit`` of them.
    """
    statement = sql(f"""
        SELECT * FROM (
            (SELECT {_COLUMNS} FROM jobs WHERE sweep_id = :sweep_id AND status = 'completed'
             ORDER BY accuracy DESC NULLS LAST, id LIMIT :leaders)
            UNION
            (SELECT {_COLUMNS} FROM jobs WHERE sweep_id = :sweep_id AND status = 'completed'
             AND accuracy >= :floor ORDER BY accuracy DESC NULLS LAST, id LIMIT :limit)
        ) best ORDER BY accuracy DESC NULLS LAST, id
    """)  # noqa: S608
    values = {"sweep_id": sweep_id, "leaders": leaders, "floor": floor, "limit": limit}
    return list(session.execute(statement, values))


def select_recent_leases(
    session: Session, sweep_id: int, limit: int
) -> tuple[dt.datetime, list[Row[Any]]]:
    """Returns the time, a sweep's open leases and the latest ``limit`` that ended within a day.

    Each is (jobs, claimed_at, ended_at, outcome).
    """
    statement = sql("""
        WITH recent AS (
            (SELECT jobs, claimed_at, ended_at, outcome FROM leases
             WHERE sweep_id = :sweep_id AND group_index IS NOT NULL
                AND ended_at IS NULL AND expires_at > clock_timestamp())
            UNION ALL
            (SELECT jobs, claimed_at, ended_at, outcome FROM leases
             WHERE sweep_id = :sweep_id AND group_index IS NOT NULL
                AND ended_at > clock_timestamp() - interval '1 day'
             ORDER BY ended_at DESC LIMIT :limit)
        )
        SELECT clock_timestamp() AS now, recent.* FROM (SELECT) AS once LEFT JOIN recent ON true
    """)
    rows = list(session.execute(statement, {"sweep_id": sweep_id, "limit": limit}))
    return rows[-1].now, [row for row in rows if row.jobs is not None]
