"""SQL about what keeps workers from sweeps and from trainings."""

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from shared.db.queries.rows import read_rows
from shared.db.queries.statements import affected_rows, sql

# a sweep's problem counts while the sweep runs, a training's while the training is pending
_OPEN = """
    worker_problems p
    JOIN workers w ON w.id = p.worker_id AND w.stopped_at IS NULL
        AND w.last_seen_at > clock_timestamp() - make_interval(secs => :seen_within_s)
    JOIN sweeps s ON s.id = p.sweep_id
    LEFT JOIN trainings t ON t.id = p.training_id
    WHERE CASE WHEN p.training_id IS NULL THEN s.status = 'running' ELSE t.status = 'pending' END
"""


@dataclass(frozen=True, slots=True)
class ProblemRow:
    """Why a living worker cannot serve a sweep, or trainings of it."""

    worker_id: uuid.UUID
    hostname: str
    sweep_id: int
    training_id: int | None  # the first training that it concerns; None for the sweep's networks
    problem: str
    since: dt.datetime


@dataclass(frozen=True, slots=True)
class HinderedSweep:
    """A running sweep whose networks some living workers cannot serve."""

    sweep_id: int
    unable: int  # living workers that cannot serve it
    able: int  # other living workers
    hinted_s: float  # seconds since its last hint in spite of that


def upsert_problem(
    session: Session,
    worker_id: uuid.UUID,
    sweep_id: int,
    training_id: int | None,
    problem: str,
) -> None:
    """Sets why a worker cannot serve a sweep or a training; a repeat changes nothing."""
    statement = sql("""
        INSERT INTO worker_problems AS known (worker_id, sweep_id, training_id, problem)
        VALUES (:worker_id, :sweep_id, :training_id, :problem)
        ON CONFLICT (worker_id, sweep_id, training_id) DO UPDATE
            SET problem = excluded.problem, since = clock_timestamp()
            WHERE known.problem <> excluded.problem
    """)
    values = {
        "worker_id": worker_id,
        "sweep_id": sweep_id,
        "training_id": training_id,
        "problem": problem,
    }
    session.execute(statement, values)


def delete_problem(
    session: Session, worker_id: uuid.UUID, sweep_id: int, training_id: int | None
) -> None:
    """Deletes the problem of a worker with a sweep or a training."""
    statement = sql("""
        DELETE FROM worker_problems WHERE worker_id = :worker_id AND sweep_id = :sweep_id
            AND training_id IS NOT DISTINCT FROM CAST(:training_id AS bigint)
    """)
    values = {"worker_id": worker_id, "sweep_id": sweep_id, "training_id": training_id}
    session.execute(statement, values)


def delete_problems_of_worker(session: Session, worker_id: uuid.UUID) -> None:
    """Deletes every problem of a worker."""
    statement = sql("DELETE FROM worker_problems WHERE worker_id = :worker_id")
    session.execute(statement, {"worker_id": worker_id})


def delete_problems_of_gone_workers(session: Session, *, seen_within_s: float) -> int:
    """Deletes the problems of workers that went without a word; returns their number."""
    statement = sql("""
        DELETE FROM worker_problems p USING workers w
        WHERE w.id = p.worker_id
          AND w.last_seen_at <= clock_timestamp() - make_interval(secs => :seen_within_s)
    """)
    return affected_rows(session.execute(statement, {"seen_within_s": seen_within_s}))


def select_problems(
    session: Session, *, seen_within_s: float, sweep_id: int | None = None
) -> list[ProblemRow]:
    """Returns the open problems of living workers, of all sweeps or of one, the oldest first.

    Trainings of a sweep that have the same problem on a worker are one row.
    """
    statement = sql(f"""
        SELECT p.worker_id, w.hostname, p.sweep_id, min(p.training_id) AS training_id, p.problem,
            min(p.since) AS since
        FROM {_OPEN} AND p.sweep_id = coalesce(CAST(:sweep_id AS bigint), p.sweep_id)
        GROUP BY p.worker_id, w.hostname, p.sweep_id, p.training_id IS NULL, p.problem
        ORDER BY since, p.worker_id
    """)  # noqa: S608
    values = {"seen_within_s": seen_within_s, "sweep_id": sweep_id}
    return read_rows(ProblemRow, session.execute(statement, values))


def select_hindered_sweeps(session: Session, *, seen_within_s: float) -> list[HinderedSweep]:
    """Returns the running sweeps that some living workers cannot serve, the least hinted first.

    A worker that can do no work at all counts as neither able nor unable.
    """
    statement = sql(f"""
        SELECT sweep_id, unable, hinted_s,
            (SELECT count(*) FROM workers WHERE stopped_at IS NULL AND problem IS NULL
             AND last_seen_at > clock_timestamp() - make_interval(secs => :seen_within_s))
                - unable AS able
        FROM (
            SELECT p.sweep_id, count(*) AS unable,
                CAST(extract(epoch FROM clock_timestamp() - max(p.hinted_at)) AS float8)
                    AS hinted_s
            FROM {_OPEN} AND p.training_id IS NULL AND w.problem IS NULL GROUP BY p.sweep_id
        ) hindered ORDER BY hinted_s DESC, sweep_id
    """)  # noqa: S608
    rows = session.execute(statement, {"seen_within_s": seen_within_s})
    return read_rows(HinderedSweep, rows)


def mark_hindered_sweeps_hinted(session: Session, sweep_ids: Sequence[int]) -> None:
    """Records that these sweeps are hinted now in spite of their problems."""
    statement = sql("""
        UPDATE worker_problems SET hinted_at = clock_timestamp()
        WHERE sweep_id = ANY(:sweep_ids) AND training_id IS NULL
    """)
    session.execute(statement, {"sweep_ids": list(sweep_ids)})
