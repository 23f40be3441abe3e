"""Reading sweeps: their jobs by state, rate and remaining time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from services.monitoring.workers import list_problems
from services.sweeps.rate import SAMPLE, Span, estimate_rate
from shared.db.models import Sweep
from shared.db.queries.live import changes as live_queries
from shared.db.queries.monitoring.worker_problems import ProblemRow
from shared.db.queries.sweeps import sweeps as sweep_queries
from shared.domain.errors import SweepNotFoundError
from shared.domain.page_tokens import Page, read_page_by_id
from shared.domain.status import UNFINISHED_JOB_STATUSES, JobStatus, SweepStatus


@dataclass(frozen=True, slots=True)
class SweepState:
    """A sweep with its jobs by state, its rate and its remaining time."""

    sweep: Sweep
    counts: dict[JobStatus, int]  # they add up to the sweep's total
    jobs_per_s: float | None  # None when unknown, and in lists
    eta_s: float | None
    problems: Sequence[ProblemRow] = ()  # what keeps workers from it; empty in lists

    @property
    def finished(self) -> int:
        """Number of jobs that need no more work."""
        return self.sweep.total - self.unfinished

    @property
    def unfinished(self) -> int:
        return sum(self.counts[status] for status in UNFINISHED_JOB_STATUSES)


def load_sweep(session: Session, sweep_id: int) -> Sweep:
    """Returns a sweep as it was asked for, by one statement; its progress takes three more.

    Raises:
        SweepNotFoundError: there is no such sweep.
    """
    return _find(session, sweep_id)[0]


def get_sweep(session: Session, sweep_id: int) -> SweepState:
    """Returns a sweep with its jobs by state, its rate, its remaining time and its problems.

    Raises:
        SweepNotFoundError: there is no such sweep.
    """
    state = SweepState(*_find(session, sweep_id), None, None, list_problems(session, sweep_id))
    if state.sweep.status != SweepStatus.RUNNING:
        return state
    rate = _rate(session, sweep_id)
    eta_s = state.unfinished / rate if rate else None
    return replace(state, jobs_per_s=rate, eta_s=eta_s)


def _find(session: Session, sweep_id: int) -> tuple[Sweep, dict[JobStatus, int]]:
    row = sweep_queries.find_sweep(session, sweep_id)
    if row is None:
        raise SweepNotFoundError(f"There is no sweep {sweep_id}.", field="sweep_id")
    return row


def _rate(session: Session, sweep_id: int) -> float | None:
    now, rows = live_queries.select_recent_leases(session, sweep_id, SAMPLE)
    spans = [
        Span(row.jobs, row.claimed_at, row.ended_at, completed=row.outcome == "completed")
        for row in rows
    ]
    return estimate_rate(spans, now)


def list_sweeps(
    session: Session, *, page_size: int = 50, page_token: str | None = None
) -> Page[SweepState]:
    """Returns a page of sweeps with their jobs by state, newest first; without their rates.

    Raises:
        InvalidPageTokenError: the token is damaged or comes from another listing.
    """

    def select(before_id: int | None, limit: int) -> list[SweepState]:
        rows = sweep_queries.select_sweeps(session, before_id=before_id, limit=limit)
        return [SweepState(sweep, counts, None, None) for sweep, counts in rows]

    return read_page_by_id(["sweeps"], page_token, page_size, select, lambda state: state.sweep.id)
