"""Ranked results, single jobs with their trials, and lists of jobs by state."""

from dataclasses import dataclass

from sqlalchemy import RowMapping
from sqlalchemy.orm import Session

from services.sweeps import get_sweep
from shared.db.models import Environment, Job, Trial
from shared.db.queries import attempts as attempt_queries
from shared.db.queries import jobs as job_queries
from shared.db.queries import leaderboard as leaderboard_queries
from shared.errors import InvalidInputError, JobNotFoundError
from shared.status import JobStatus

SORT_FIELDS = tuple(leaderboard_queries.SORT_COLUMNS)


@dataclass(frozen=True, slots=True)
class JobDetail:
    """A job, its trials in order, and its attempts in order, one that still runs last."""

    job: Job
    trials: list[tuple[Trial, Environment]]
    attempts: list[RowMapping]


def rank_jobs(
    session: Session,
    sweep_id: int,
    *,
    min_accuracy: float | None = None,
    min_throughput: float | None = None,
    max_ratio: float | None = None,
    sort: str = "-accuracy",
    limit: int = 100,
) -> list[tuple[Job, str | None]]:
    """Returns the completed jobs that pass the filters, best first, each with its device.

    Args:
        sort: a field of ``SORT_FIELDS``; a minus before it ranks the largest first.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: the sort field is not known.
    """
    get_sweep(session, sweep_id)
    field = sort.removeprefix("-")
    if field not in SORT_FIELDS:
        raise InvalidInputError(
            f"Cannot sort by {field!r}; known are {', '.join(SORT_FIELDS)}.", field="sort"
        )
    return leaderboard_queries.select_leaders(
        session,
        sweep_id,
        min_accuracy=min_accuracy,
        min_throughput=min_throughput,
        max_ratio=max_ratio,
        sort=field,
        descending=sort.startswith("-"),
        limit=limit,
    )


def list_jobs(
    session: Session, sweep_id: int, *, status: JobStatus | None, after_id: int, limit: int
) -> list[Job]:
    """Returns jobs of a sweep by id, from just after ``after_id``.

    Raises:
        SweepNotFoundError: there is no such sweep.
    """
    get_sweep(session, sweep_id)
    return job_queries.select_jobs(session, sweep_id, status=status, after_id=after_id, limit=limit)


def get_job(session: Session, job_id: int) -> JobDetail:
    """Returns a job with its trials, where each was measured, and every attempt at it.

    Raises:
        JobNotFoundError: there is no such job.
    """
    job = job_queries.find_job(session, job_id)
    if job is None:
        raise JobNotFoundError(f"There is no job {job_id}.", field="job_id")
    return JobDetail(
        job,
        job_queries.select_trials(session, job_id),
        attempt_queries.select_attempts(session, job_id),
    )
