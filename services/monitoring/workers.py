"""Worker processes: their state, leases and problems."""

import uuid

from sqlalchemy.orm import Session

from shared.db.queries.monitoring import worker_problems as problem_queries
from shared.db.queries.monitoring import workers as worker_queries
from shared.db.queries.monitoring.worker_problems import ProblemRow
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
    """Adds a worker process that starts now; forgets the problems of workers that are gone.

    Args:
        datasets: names it can read, each with the content hashes that it has loaded.
    """
    problem_queries.delete_problems_of_gone_workers(session, seen_within_s=SEEN_WITHIN_S)
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
    """Records that a worker is alive."""
    worker_queries.update_worker_seen(session, worker_id)


def note_worker_problem(
    session: Session,
    worker_id: uuid.UUID,
    sweep_id: int,
    problem: str,
    *,
    training_id: int | None = None,
) -> None:
    """Records why a worker cannot serve a sweep or a training, and what to do about it.

    The problem is shown with that sweep while the worker lives and the work waits.
    """
    problem_queries.upsert_problem(session, worker_id, sweep_id, training_id, problem)


def clear_worker_problem(
    session: Session, worker_id: uuid.UUID, sweep_id: int, *, training_id: int | None = None
) -> None:
    """Records that a worker can serve a sweep or a training again."""
    problem_queries.delete_problem(session, worker_id, sweep_id, training_id)


def count_living_workers(session: Session) -> int:
    """Returns the number of workers that are alive."""
    return worker_queries.count_living_workers(session, seen_within_s=SEEN_WITHIN_S)


def list_problems(session: Session, sweep_id: int | None = None) -> list[ProblemRow]:
    """Returns what keeps living workers from one sweep, or from any, the oldest first."""
    return problem_queries.select_problems(session, seen_within_s=SEEN_WITHIN_S, sweep_id=sweep_id)


def note_worker_waiting(session: Session, worker_id: uuid.UUID, problem: str | None) -> None:
    """Records why a worker cannot do any work; None, or ``note_worker_device``, clears it."""
    worker_queries.update_worker_waiting(session, worker_id, problem)


def note_worker_device(session: Session, worker_id: uuid.UUID, device: str) -> None:
    """Records the device model that a worker computes on, and clears its problem."""
    worker_queries.update_worker_device(session, worker_id, device)


def note_worker_datasets(
    session: Session, worker_id: uuid.UUID, datasets: dict[str, list[str]]
) -> None:
    """Records which datasets a worker has."""
    worker_queries.update_worker_datasets(session, worker_id, datasets)


def note_worker_stopped(session: Session, worker_id: uuid.UUID) -> None:
    """Records that a worker has stopped regularly; its problems go with it."""
    problem_queries.delete_problems_of_worker(session, worker_id)
    worker_queries.update_worker_stopped(session, worker_id)


def list_workers(session: Session) -> list[WorkerRow]:
    """Returns the workers seen in the last two minutes, each with its lease."""
    return worker_queries.select_workers(session, seen_within_s=SEEN_WITHIN_S)


def rate_workers(session: Session) -> dict[uuid.UUID, float]:
    """Returns jobs per second of leased time, by worker, over leases completed in 5 minutes."""
    return worker_queries.select_rates(session, within_s=RATED_OVER_S)
