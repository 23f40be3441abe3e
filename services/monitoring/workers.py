"""Which worker processes exist, what they do, and what keeps them from it."""

import uuid

from sqlalchemy.orm import Session

from shared.db.queries.monitoring import workers as worker_queries
from shared.db.queries.monitoring.workers import WorkerRow

SEEN_WITHIN_S = 120.0
RATED_OVER_S = 300.0


def register_worker(
    session: Session,
    worker_id: uuid.UUID,
    *,
    hostname: str,
    pid: int,
    device_class: str,
    device: str,
    code_version: str,
    datasets: dict[str, list[str]] | None = None,
) -> None:
    """Adds a worker process that starts now.

    Args:
        datasets: the names it can read, each with the content hashes of what it loaded of it.
    """
    worker_queries.insert_worker(
        session,
        {
            "id": worker_id,
            "hostname": hostname,
            "pid": pid,
            "device_class": device_class,
            "device": device,
            "code_version": code_version,
            "datasets": datasets or {},
        },
    )


def note_worker_seen(session: Session, worker_id: uuid.UUID) -> None:
    """Notes that a worker is alive."""
    worker_queries.update_worker_seen(session, worker_id)


def note_worker_problem(
    session: Session, worker_id: uuid.UUID, sweep_id: int, problem: str | None
) -> None:
    """Notes what keeps a worker from working for a sweep and what to do about it; None clears it.

    It is shown while that sweep runs: then the worker soon meets it again, and finds out when its
    cause is gone.
    """
    worker_queries.update_worker_problem(session, worker_id, sweep_id, problem)


def note_worker_waiting(session: Session, worker_id: uuid.UUID, problem: str) -> None:
    """Notes what keeps a worker from all work; ``note_worker_device`` clears it."""
    worker_queries.update_worker_waiting(session, worker_id, problem)


def note_worker_device(session: Session, worker_id: uuid.UUID, device: str) -> None:
    """Notes which device model a worker computes on, and that nothing keeps it from working."""
    worker_queries.update_worker_device(session, worker_id, device)


def note_worker_datasets(
    session: Session, worker_id: uuid.UUID, datasets: dict[str, list[str]]
) -> None:
    """Notes what datasets a worker has by now."""
    worker_queries.update_worker_datasets(session, worker_id, datasets)


def note_worker_stopped(session: Session, worker_id: uuid.UUID) -> None:
    """Notes that a worker has ended in good order."""
    worker_queries.update_worker_stopped(session, worker_id)


def list_workers(session: Session) -> list[WorkerRow]:
    """Returns the workers seen in the last two minutes, each with the group it holds, if any."""
    return worker_queries.select_workers(session, seen_within_s=SEEN_WITHIN_S)


def rate_workers(session: Session) -> dict[uuid.UUID, float]:
    """Returns jobs per second of work, by worker, over the groups finished in five minutes."""
    return worker_queries.select_rates(session, within_s=RATED_OVER_S)
