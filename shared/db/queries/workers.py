"""SQL about worker processes and the environments they measure in."""

import uuid
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session


def insert_worker(session: Session, worker: dict[str, Any]) -> None:
    """Adds a worker process: ``id hostname pid device_class device code_version``."""
    statement = text("""
        INSERT INTO workers (id, hostname, pid, device_class, device, code_version)
        VALUES (:id, :hostname, :pid, :device_class, :device, :code_version)
    """)
    session.execute(statement, worker)


def update_worker_seen(session: Session, worker_id: uuid.UUID) -> None:
    """Notes that a worker is alive now."""
    statement = text("UPDATE workers SET last_seen_at = clock_timestamp() WHERE id = :id")
    session.execute(statement, {"id": worker_id})


def update_worker_problem(session: Session, worker_id: uuid.UUID, problem: str | None) -> None:
    """Notes what keeps a worker from working, or that nothing does any more."""
    statement = text("""
        UPDATE workers SET problem = :problem, last_seen_at = clock_timestamp()
        WHERE id = :id AND problem IS DISTINCT FROM :problem
    """)
    session.execute(statement, {"id": worker_id, "problem": problem})


def update_worker_stopped(session: Session, worker_id: uuid.UUID) -> None:
    """Notes that a worker has ended in good order."""
    statement = text("UPDATE workers SET stopped_at = clock_timestamp() WHERE id = :id")
    session.execute(statement, {"id": worker_id})


def select_workers(session: Session, *, seen_within_s: float) -> list[RowMapping]:
    """Returns workers seen lately, each with the group it holds now, if any."""
    statement = text("""
        SELECT w.*, l.sweep_id, l.group_index, l.jobs, l.claimed_at
        FROM workers w
        LEFT JOIN LATERAL (
            SELECT sweep_id, group_index, jobs, claimed_at FROM leases
            WHERE worker_id = w.id AND ended_at IS NULL ORDER BY claimed_at DESC LIMIT 1
        ) l ON true
        WHERE w.stopped_at IS NULL
          AND w.last_seen_at > clock_timestamp() - make_interval(secs => :seen_within_s)
        ORDER BY w.hostname, w.started_at
    """)
    return list(session.execute(statement, {"seen_within_s": seen_within_s}).mappings())


def upsert_environment(session: Session, environment: dict[str, Any]) -> int:
    """Returns the id of an environment, adding it if it is new.

    One that is known is only read: to touch its row would make every completion on the same kind
    of device wait for the one before.
    """
    known = text("SELECT id FROM environments WHERE fingerprint = :fingerprint")
    added = text("""
        INSERT INTO environments
            (code_version, device_class, device, dataset, dataset_hash, versions, fingerprint)
        VALUES (:code_version, :device_class, :device, :dataset, :dataset_hash,
                CAST(:versions AS jsonb), :fingerprint)
        ON CONFLICT (fingerprint) DO UPDATE SET fingerprint = excluded.fingerprint
        RETURNING id
    """)
    found = session.execute(known, environment).scalar_one_or_none()
    return int(found or session.execute(added, environment).scalar_one())


def select_one(session: Session) -> None:
    """Asks the database for nothing but an answer."""
    session.execute(text("SELECT 1"))
