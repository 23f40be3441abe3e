"""SQL about worker processes and the environments they measure in."""

import datetime as dt
import json
import uuid
from typing import Any

from sqlalchemy import Row, RowMapping
from sqlalchemy.orm import Session

from shared.db.queries.statements import sql


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
    """Notes which datasets a worker can read, and the hashes of what it has loaded of each."""
    statement = sql("UPDATE workers SET datasets = CAST(:datasets AS jsonb) WHERE id = :id")
    session.execute(statement, {"id": worker_id, "datasets": json.dumps(datasets)})


def update_worker_seen(session: Session, worker_id: uuid.UUID) -> None:
    """Notes that a worker is alive now."""
    statement = sql("UPDATE workers SET last_seen_at = clock_timestamp() WHERE id = :id")
    session.execute(statement, {"id": worker_id})


def update_worker_problem(
    session: Session, worker_id: uuid.UUID, sweep_id: int, problem: str | None
) -> None:
    """Notes what keeps a worker from working for a sweep, or that nothing does any more."""
    statement = sql("""
        UPDATE workers SET problem = :problem, last_seen_at = clock_timestamp(),
            problem_sweep_id = CASE WHEN :problem IS NOT NULL THEN :sweep_id END,
            problem_at = CASE WHEN :problem IS NOT NULL THEN clock_timestamp() END
        WHERE id = :id AND (problem, problem_sweep_id) IS DISTINCT FROM (:problem, :sweep_id)
    """)
    session.execute(statement, {"id": worker_id, "problem": problem, "sweep_id": sweep_id})


def update_worker_waiting(session: Session, worker_id: uuid.UUID, problem: str) -> None:
    """Notes what keeps a worker from all work, whatever the sweep."""
    statement = sql("""
        UPDATE workers SET problem = :problem, problem_sweep_id = NULL,
            problem_at = clock_timestamp(), last_seen_at = clock_timestamp()
        WHERE id = :id
    """)
    session.execute(statement, {"id": worker_id, "problem": problem})


def update_worker_device(session: Session, worker_id: uuid.UUID, device: str) -> None:
    """Notes what a worker computes on, and that nothing keeps it from working."""
    statement = sql("""
        UPDATE workers SET device = :device, problem = NULL, problem_sweep_id = NULL,
            problem_at = NULL, last_seen_at = clock_timestamp()
        WHERE id = :id
    """)
    session.execute(statement, {"id": worker_id, "device": device})


def update_worker_stopped(session: Session, worker_id: uuid.UUID) -> None:
    """Notes that a worker has ended in good order."""
    statement = sql("UPDATE workers SET stopped_at = clock_timestamp() WHERE id = :id")
    session.execute(statement, {"id": worker_id})


def select_workers(
    session: Session, *, seen_within_s: float, gone_since: dt.datetime | None = None
) -> list[RowMapping]:
    """Returns workers seen lately, each with the group it holds now, if any.

    Their ``gone_at`` is null; with ``gone_since`` those come too that went after that time. A
    problem is shown as long as the sweep runs that it concerns or has trainings that wait, or where
    it concerns none.
    """
    statement = sql("""
        SELECT w.id, w.hostname, w.pid, w.device_class, w.device, w.code_version, w.datasets,
            w.started_at, w.last_seen_at, w.gone_at, l.sweep_id, l.group_index, l.jobs,
            CASE WHEN s.id IS NOT NULL OR w.problem_sweep_id IS NULL THEN w.problem END AS problem,
            CASE WHEN s.id IS NOT NULL OR w.problem_sweep_id IS NULL THEN w.problem_at END
                AS problem_at
        FROM (
            SELECT *, coalesce(stopped_at, CASE WHEN last_seen_at <= clock_timestamp() - silence
                                                THEN last_seen_at + silence END) AS gone_at
            FROM workers, make_interval(secs => :seen_within_s) AS silence
        ) w
        LEFT JOIN LATERAL (
            SELECT sweep_id, group_index, jobs FROM leases
            WHERE worker_id = w.id AND ended_at IS NULL ORDER BY claimed_at DESC LIMIT 1
        ) l ON true
        LEFT JOIN sweeps s ON s.id = w.problem_sweep_id AND (s.status = 'running'
            OR EXISTS (SELECT FROM trainings WHERE sweep_id = s.id AND status = 'pending'))
        WHERE w.gone_at IS NULL OR w.gone_at > :gone_since
        ORDER BY w.hostname, w.started_at
    """)
    values = {"seen_within_s": seen_within_s, "gone_since": gone_since}
    return list(session.execute(statement, values).mappings())


def find_environment(
    session: Session, fingerprint: str, sweep_id: int
) -> Row[int | None, str | None]:
    """Returns the id of an environment, if it is known, and the sweep's pinned dataset hash."""
    statement = sql("""
        SELECT e.id, s.dataset_hash
        FROM sweeps s LEFT JOIN environments e ON e.fingerprint = :fingerprint
        WHERE s.id = :sweep_id
    """)
    values = {"fingerprint": fingerprint, "sweep_id": sweep_id}
    return session.execute(statement, values).one()


def upsert_environment(session: Session, environment: dict[str, Any]) -> int:
    """Adds an environment, or finds the one that somebody else just added; returns its id.

    Look with ``find_environment`` first: to touch its row makes every completion on the same kind
    of device wait for the one before.
    """
    statement = sql("""
        INSERT INTO environments
            (code_version, device_class, device, dataset, dataset_hash, versions, fingerprint)
        VALUES (:code_version, :device_class, :device, :dataset, :dataset_hash,
                CAST(:versions AS jsonb), :fingerprint)
        ON CONFLICT (fingerprint) DO UPDATE SET fingerprint = excluded.fingerprint
        RETURNING id
    """)
    return int(session.execute(statement, environment).scalar_one())


def select_rates(session: Session, *, within_s: float) -> list[Row[uuid.UUID, float]]:
    """Returns (worker_id, jobs a second of held leases) over leases that ended lately.

    Leases of sweeps that run are looked at alone: the index leads to those.
    """
    statement = sql("""
        SELECT l.worker_id, CAST(sum(l.jobs)
                / nullif(sum(extract(epoch FROM l.ended_at - l.claimed_at)), 0) AS float8)
        FROM sweeps s JOIN leases l ON l.sweep_id = s.id
        WHERE s.status = 'running' AND l.outcome = 'completed' AND l.group_index IS NOT NULL
          AND l.ended_at > clock_timestamp() - make_interval(secs => :within_s)
        GROUP BY l.worker_id
    """)
    return list(session.execute(statement, {"within_s": within_s}))


def insert_labels(session: Session, dataset_hash: str, labels: list[int]) -> None:
    """Keeps the labels of a dataset's validation images, unless they are kept already."""
    statement = sql("""
        INSERT INTO dataset_labels (dataset_hash, labels) VALUES (:dataset_hash, :labels)
        ON CONFLICT (dataset_hash) DO NOTHING
    """)
    session.execute(statement, {"dataset_hash": dataset_hash, "labels": labels})


def select_one(session: Session) -> None:
    """Asks the database for nothing but an answer."""
    session.execute(sql("SELECT 1"))
