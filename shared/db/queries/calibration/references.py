"""SQL about runs of the reference networks, and the timings between them."""

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from shared.db.queries.rows import read_row, read_rows
from shared.db.queries.statements import sql


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBefore:
    """The last run of the references in a process."""

    id: int
    images_per_s: list[float]  # of each reference


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run of the references on one unit."""

    device: str  # model
    device_class: str
    unit: str
    images_per_s: list[float]  # of each reference
    speed_change: float | None  # against the run before of the same process
    invalidated: int  # timings before it that lost their validity
    clock_mhz: float | None  # afterwards, like the temperature
    temperature_c: float | None
    finished_at: dt.datetime


def select_runs(
    session: Session, devices: Sequence[str], version: int, since: dt.datetime
) -> list[RunRow]:
    """Returns the runs of a version of the references on device models since a time, in order."""
    statement = sql("""
        SELECT device, device_class, unit, images_per_s, speed_change, invalidated,
            CAST(conditions #>> '{after,clock_mhz}' AS float8) AS clock_mhz,
            CAST(conditions #>> '{after,temperature_c}' AS float8) AS temperature_c, finished_at
        FROM reference_runs
        WHERE device = ANY(:devices) AND reference_version = :version AND finished_at >= :since
        ORDER BY id
    """)
    values = {"devices": list(devices), "version": version, "since": since}
    return read_rows(RunRow, session.execute(statement, values))


def find_run_before(session: Session, worker_id: uuid.UUID, version: int) -> RunBefore | None:
    """Returns the last run of a version of the references by a worker, if there is one."""
    statement = sql("""
        SELECT id, images_per_s FROM reference_runs
        WHERE worker_id = :worker_id AND reference_version = :version
        ORDER BY id DESC LIMIT 1
    """)
    values = {"worker_id": worker_id, "version": version}
    return read_row(RunBefore, session.execute(statement, values))


def insert_run(session: Session, **run: Any) -> int:
    """Adds a run of the references; returns its id."""
    statement = sql("""
        INSERT INTO reference_runs (worker_id, unit, device_class, device, versions,
            reference_version, images_per_s, conditions, speed_change)
        VALUES (:worker_id, :unit, :device_class, :device, CAST(:versions AS jsonb), :version,
            :images_per_s, CAST(:conditions AS jsonb), :speed_change)
        RETURNING id
    """)
    return int(session.execute(statement, run).scalar_one())


def invalidate_before(session: Session, run_id: int, most_repeats: int) -> int:
    """Ends the validity of a unit's timings between two runs of one worker; returns their number.

    Their networks are wanted again. Networks with ``most_repeats`` invalid timings on the unit keep
    the one they have. What came before a worker's first run belongs to its first interval.
    """
    statement = sql("""
        WITH run AS (
            SELECT r.*, coalesce((
                SELECT b.finished_at FROM reference_runs b
                WHERE b.worker_id = r.worker_id AND b.reference_version = r.reference_version
                    AND b.id < r.id AND EXISTS (
                        SELECT FROM reference_runs a WHERE a.worker_id = b.worker_id
                            AND a.reference_version = b.reference_version AND a.id < b.id)
                ORDER BY b.id DESC LIMIT 1
            ), w.started_at) AS since
            FROM reference_runs r JOIN workers w ON w.id = r.worker_id WHERE r.id = :id
        )
        SELECT invalidate_timings(unit, since, finished_at, CAST(:most AS int)) FROM run
    """)
    found = session.execute(statement, {"id": run_id, "most": most_repeats}).scalar_one()
    session.execute(
        sql("UPDATE reference_runs SET invalidated = :found WHERE id = :id"),
        {"found": found, "id": run_id},
    )
    return int(found)
