"""Totals of the cluster for monitoring, from stored counts instead of counting jobs."""

from collections import Counter
from dataclasses import dataclass

from sqlalchemy.orm import Session

from services.monitoring.workers import list_problems, list_workers
from shared.db.queries.monitoring import totals as metric_queries
from shared.db.queries.monitoring.workers import WorkerRow
from shared.domain.status import JobStatus, SweepStatus

MAX_SWEEPS = 100  # sweeps with series of their own; limits the size of an answer


@dataclass(frozen=True, slots=True)
class ClusterState:
    """The cluster at one moment, by the database."""

    sweeps: dict[SweepStatus, int]
    jobs: dict[JobStatus, int]  # of all sweeps
    sweep_jobs: dict[int, dict[JobStatus, int]]  # of the newest running and paused sweeps
    groups_pending: int
    groups_hinted: int
    leases_open: int
    leases_expired: int
    workers: dict[str, int]  # busy, idle, blocked


def read_cluster_state(session: Session) -> ClusterState:
    """Returns the cluster's state from a few statements on small tables and indexes."""
    sweeps = metric_queries.count_sweeps(session)
    groups = metric_queries.count_pending_groups(session)
    hindered = {row.worker_id for row in list_problems(session)}
    states = Counter(
        _worker_state(worker, worker.id in hindered) for worker in list_workers(session)
    )
    return ClusterState(
        sweeps={status: sweeps.get(status.value, 0) for status in SweepStatus},
        jobs=metric_queries.sum_progress(session),
        sweep_jobs=metric_queries.select_unfinished_progress(session, MAX_SWEEPS),
        groups_pending=groups.pending,
        groups_hinted=groups.hinted,
        leases_open=metric_queries.count_open_leases(session),
        leases_expired=metric_queries.count_expired_leases(session),
        workers={state: states[state] for state in ("busy", "idle", "blocked")},
    )


def _worker_state(worker: WorkerRow, is_hindered: bool) -> str:
    if worker.problem is not None:
        return "blocked"
    if worker.sweep_id is not None:
        return "busy"
    return "blocked" if is_hindered else "idle"
