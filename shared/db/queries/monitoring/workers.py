"""SQL about worker processes."""

import datetime as dt
import json
import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from shared.db.queries.rows import read_rows
from shared.db.queries.statements import sql


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker process, its latest open lease and what keeps it from all work."""

    id: uuid.UUID
    hostname: str
    pid: int
    device_class: str
    device: str
    code_version: str
    datasets: dict[str, list[str]]  # names it can read: content hashes it has loaded
    started_at: dt.datetime
    last_seen_at: dt.datetime
    gone_at: dt.datetime | None  # when it stopped or went silent; None while it is alive
    sweep_id: int | None  # of its lease, as the next two; None without a lease
    group_index: int | None  # None for a training
    jobs: int | None
    problem: str | None  # why it can do no work at all
    problem_at: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Offer:
    """What a running worker can serve."""

    device_class: str
    device: str  # model
    datasets: list[str]  # names


def select_offers(session: Session, *, seen_within_s: float) -> list[Offer]:
    """Returns what the running workers can serve."""
    statement = sql("""
        SELECT DISTINCT device_class, device,
            ARRAY(SELECT jsonb_object_keys(datasets) ORDER BY 1) AS datasets
        FROM workers WHERE stopped_at IS NULL
            AND last_seen_at > clock_timestamp() - make_interval(secs => :seen_within_s)
    """)
    return read_rows(Offer, session.execute(statement, {"seen_within_s": seen_within_s}))


def insert_worker(session: Session, worker: dict[str, Any]) -> None:
    """Adds a worker process: ``id hostname pid device_class device code_version datasets``."""
    statement = sql("""
        INSERT INTO workers (id, hostname, pid, device_class, device, code_version, datasets)
        VALUES (:id, :hostname, :pid, :device_class, :device, :code_version,
                CAST(:datasets AS jsonb))
    """)
    session.execute(statement, worker | {"datasets": json.dumps(worker["datasets"])})


def update_worker_datasets(
    session: Session, worker_id: uuid.UUID, datasets: dict[str, list[str]]
) -> None:
    """Sets the datasets a worker can read, each with the content hashes it has loaded."""
    statement = sql("UPDATE workers SET datasets = CAST(:datasets AS jsonb) WHERE id = :id")
    session.execute(statement, {"id": worker_id, "datasets": json.dumps(datasets)})


def update_worker_seen(session: Session, worker_id: uuid.UUID) -> None:
    """Records that a worker is alive now."""
    statement = sql("UPDATE workers SET last_seen_at = clock_timestamp() WHERE id = :id")
    session.execute(statement, {"id": worker_id})


def update_worker_waiting(session: Session, worker_id: uuid.UUID, problem: str | None) -> None:
    """Sets or clears the reason why a worker cannot do any work."""
    statement = sql("""
        UPDATE workers SET problem = :problem, problem_sweep_id = NULL,
            problem_at = CASE WHEN :problem IS NOT NULL THEN clock_timestamp() END,
            last_seen_at = clock_timestamp()
        WHERE id = :id
    """)
    session.execute(statement, {"id": worker_id, "problem": problem})


def update_worker_device(session: Session, worker_id: uuid.UUID, device: str) -> None:
    """Sets a worker's device model and clears its problem."""
    statement = sql("""
        UPDATE workers SET device = :device, problem = NULL, problem_sweep_id = NULL,
            problem_at = NULL, last_seen_at = clock_timestamp()
        WHERE id = :id
    """)
    session.execute(statement, {"id": worker_id, "device": device})


def update_worker_stopped(session: Session, worker_id: uuid.UUID) -> None:
    """Records that a worker has stopped."""
    statement = sql("UPDATE workers SET stopped_at = clock_timestamp() WHERE id = :id")
    session.execute(statement, {"id": worker_id})


def count_living_workers(session: Session, *, seen_within_s: float) -> int:
    """Returns the number of workers seen within ``seen_within_s`` seconds that have not stopped."""
    statement = sql("""
        SELECT count(*) FROM workers WHERE stopped_at IS NULL
            AND last_seen_at > clock_timestamp() - make_interval(secs => :seen_within_s)
    """)
    count: int = session.execute(statement, {"seen_within_s": seen_within_s}).scalar_one()
    return count


def select_workers(
    session: Session, *, seen_within_s: float, gone_since: dt.datetime | None = None
) -> list[WorkerRow]:
    """Returns living workers, and those gone after ``gone_since``, by host and start.

    A worker is alive if it was seen within ``seen_within_s`` seconds and has not stopped.
    """
    statement = sql("""
        SELECT w.id, w.hostname, w.pid, w.device_class, w.device, w.code_version, w.datasets,
            w.started_at, w.last_seen_at, w.gone_at, l.sweep_id, l.group_index, l.jobs,
            CASE WHEN w.problem_sweep_id IS NULL THEN w.problem END AS problem,
            CASE WHEN w.problem_sweep_id IS NULL THEN w.problem_at END AS problem_at
        FROM (
            SELECT *, coalesce(stopped_at, CASE WHEN last_seen_at <= clock_timestamp() - silence
                                                THEN last_seen_at + silence END) AS gone_at
            FROM workers, make_interval(secs => :seen_within_s) AS silence
        ) w
        LEFT JOIN LATERAL (
            SELECT sweep_id, group_index, jobs FROM leases
            WHERE worker_id = w.id AND ended_at IS NULL ORDER BY claimed_at DESC LIMIT 1
        ) l ON true
        WHERE w.gone_at IS NULL OR w.gone_at > :gone_since
        ORDER BY w.hostname, w.started_at
    """)
    values = {"seen_within_s": seen_within_s, "gone_since": gone_since}
    return read_rows(WorkerRow, session.execute(statement, values))


def select_rates(session: Session, *, within_s: float) -> dict[uuid.UUID, float]:
    """Returns jobs per second of leased time, by worker, over leases completed recently.

    Only running sweeps are considered, so that the index applies. Workers without such leases are
    left out.
    """
    statement = sql("""
        SELECT l.worker_id, CAST(sum(l.jobs)
                / nullif(sum(extract(epoch FROM l.ended_at - l.claimed_at)), 0) AS float8) AS rate
        FROM sweeps s JOIN leases l ON l.sweep_id = s.id
        WHERE s.status = 'running' AND l.outcome = 'completed' AND l.group_index IS NOT NULL
          AND l.ended_at > clock_timestamp() - make_interval(secs => :within_s)
        GROUP BY l.worker_id
    """)
    rows = session.execute(statement, {"within_s": within_s})
    return {row.worker_id: row.rate for row in rows if row.rate is not None}
