"""SQL about recent changes: the best jobs, recent leases, the database's clock."""

import datetime as dt
from dataclasses import dataclass

from sqlalchemy.orm import Session

from shared.db.models import RANKED
from shared.db.queries.rows import LayerColumns, read_rows
from shared.db.queries.statements import sql
from shared.db.queries.sweeps.devices import NOT_SLOW

_COLUMNS = """
    id, accuracy, trials_done, finished_at, architecture_hash,
    channels, kernel_size, stride, dilation, padding, activation, environment_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BestRow(LayerColumns):
    """A ranked job among the most accurate."""

    id: int
    architecture_hash: bytes
    accuracy: float  # fraction, mean over trials
    throughput: float | None  # images/s on the device model of its last trials
    device: str
    trials_done: int
    finished_at: dt.datetime


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """A lease of a group that is open or ended recently."""

    jobs: int
    claimed_at: dt.datetime
    ended_at: dt.datetime | None  # None while it is open
    outcome: str | None
    lost_until: dt.datetime | None  # when it expires, if its worker is lost; None otherwise


def select_now(session: Session) -> dt.datetime:
    """Returns the time by the database's clock."""
    now: dt.datetime = session.execute(sql("SELECT clock_timestamp()")).scalar_one()
    return now


def select_best(
    session: Session,
    sweep_id: int,
    *,
    leaders: int,
    floor: float | None,
    limit: int,
    device: str | None,
    min_throughput: float | None,
) -> list[BestRow]:
    """Returns a sweep's ``leaders`` most accurate ranked jobs, best first, ties by id.

    With a floor (an accuracy) the result also has the best ``limit`` jobs at or above it. Jobs that
    are slower than ``min_throughput`` on the device model are left out.
    """
    ranked = RANKED if min_throughput is None else f"{RANKED} AND {NOT_SLOW}"
    statement = sql(f"""
        WITH best AS (
            (SELECT {_COLUMNS} FROM jobs WHERE sweep_id = :sweep_id AND {ranked}
             AND accuracy IS NOT NULL
             ORDER BY accuracy DESC NULLS LAST, id LIMIT :leaders)
            UNION
            (SELECT {_COLUMNS} FROM jobs WHERE sweep_id = :sweep_id AND {ranked}
             AND accuracy >= :floor ORDER BY accuracy DESC NULLS LAST, id LIMIT :limit)
        ), placed AS (
            SELECT *, (SELECT device FROM environments e WHERE e.id = environment_id) AS device
            FROM best
        )
        SELECT id, accuracy, trials_done, finished_at, architecture_hash, channels, kernel_size,
            stride, dilation, padding, activation, device,
            (SELECT throughput FROM throughputs t
             WHERE t.job_id = placed.id AND t.device = placed.device) AS throughput
        FROM placed ORDER BY accuracy DESC NULLS LAST, id
    """)  # noqa: S608
    values = {
        "sweep_id": sweep_id,
        "leaders": leaders,
        "floor": floor,
        "limit": limit,
        "device": device,
        "min_throughput": min_throughput,
    }
    return read_rows(BestRow, session.execute(statement, values))


def select_recent_leases(
    session: Session, sweep_id: int, limit: int
) -> tuple[dt.datetime, list[LeaseRow]]:
    """Returns the time, a sweep's open leases and the latest ``limit`` that ended within a day.

    A worker is lost if it has stopped, or was not seen for half of the time that its lease was
    valid for when it was; it shows itself four times in that time.
    """
    statement = sql("""
        WITH recent AS (
            (SELECT l.jobs, l.claimed_at, l.ended_at, l.outcome,
                CASE WHEN w.stopped_at IS NOT NULL
                    OR clock_timestamp() - w.last_seen_at > (l.expires_at - w.last_seen_at) / 2
                    THEN l.expires_at END AS lost_until
             FROM leases l JOIN workers w ON w.id = l.worker_id
             WHERE l.sweep_id = :sweep_id AND l.group_index IS NOT NULL AND l.ended_at IS NULL)
            UNION ALL
            (SELECT jobs, claimed_at, ended_at, outcome, NULL FROM leases
             WHERE sweep_id = :sweep_id AND group_index IS NOT NULL
                AND ended_at > clock_timestamp() - interval '1 day'
             ORDER BY ended_at DESC LIMIT :limit)
        )
        SELECT clock_timestamp() AS now, recent.*
        FROM (SELECT) AS once LEFT JOIN recent ON true
    """)
    rows = list(session.execute(statement, {"sweep_id": sweep_id, "limit": limit}))
    leases = [LeaseRow(*lease) for _, *lease in rows if lease[0] is not None]
    return rows[-1].now, leases
