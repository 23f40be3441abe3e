"""Reading sweeps: their jobs by state, rate, remaining time and problems."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from services.monitoring.workers import count_living_workers, list_problems
from services.sweeps.rate import SAMPLE, Span
from services.sweeps.time_left import NO_FORECAST, Forecast, Held, forecast
from shared.db.models import Sweep
from shared.db.queries.live import changes as live_queries
from shared.db.queries.monitoring.worker_problems import ProblemRow
from shared.db.queries.sweeps import sweeps as sweep_queries
from shared.domain.errors import SweepNotFoundError
from shared.domain.page_tokens import Page, read_page_by_id
from shared.domain.status import UNFINISHED_JOB_STATUSES, JobStatus, SweepStatus


@dataclass(frozen=True, slots=True)
class SweepState:
    """A sweep with its jobs by state and its forecast."""

    sweep: Sweep
    counts: dict[JobStatus, int]  # they add up to the sweep's total
    forecast: Forecast = NO_FORECAST  # empty unless it runs, and in lists
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
    """Returns a sweep with its jobs by state, its forecast and its problems.

    Raises:
        SweepNotFoundError: there is no such sweep.
    """
    state = SweepState(*_find(session, sweep_id), problems=list_problems(session, sweep_id))
    if state.sweep.status != SweepStatus.RUNNING:
        return state
    return replace(state, forecast=_forecast(session, state))


def _find(session: Session, sweep_id: int) -> tuple[Sweep, dict[JobStatus, int]]:
    row = sweep_queries.find_sweep(session, sweep_id)
    if row is None:
        raise SweepNotFoundError(f"There is no sweep {sweep_id}.", field="sweep_id")
    return row


def _forecast(session: Session, state: SweepState) -> Forecast:
    now, rows = live_queries.select_recent_leases(session, state.sweep.id, SAMPLE)
    leases = [
        Held(
            Span(row.jobs, row.claimed_at, row.ended_at, completed=row.outcome == "completed"),
            row.lost_until,
        )
        for row in rows
    ]
    return forecast(
        leases,
        now,
        pending=state.counts[JobStatus.PENDING],
        unfinished=state.unfinished,
        workers=_missing_worker(session, state),
    )


def _missing_worker(session: Session, state: SweepState) -> str:
    """Returns what a sweep that no worker works on waits for."""
    living = count_living_workers(session)
    if not living:
        return "a worker: none is running"
    if len({row.worker_id for row in state.problems if row.training_id is None}) >= living:
        return "a worker that can serve it: see its problems"
    return "a free worker"


def list_sweeps(
    session: Session, *, page_size: int = 50, page_token: str | None = None
) -> Page[SweepState]:
    """Returns a page of sweeps with their jobs by state, newest first; without their rates.

    Raises:
        InvalidPageTokenError: the token is damaged or comes from another listing.
    """

    def select(before_id: int | None, limit: int) -> list[SweepState]:
        rows = sweep_queries.select_sweeps(session, before_id=before_id, limit=limit)
        return [SweepState(sweep, counts) for sweep, counts in rows]

    return read_page_by_id(["sweeps"], page_token, page_size, select, lambda state: state.sweep.id)
