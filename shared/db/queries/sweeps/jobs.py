"""SQL that reads jobs and their trials."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.db.models import Environment, Job, Trial
from shared.db.queries.result_columns import timing_of_trial
from shared.db.timing_models import JobThroughput, Timing
from shared.domain.status import JobStatus


@dataclass(frozen=True, slots=True)
class TrialRow:
    """A trial, where it was measured, and the timing that was made with it."""

    trial: Trial
    environment: Environment
    timing: Timing | None


def find_job(session: Session, job_id: int) -> Job | None:
    """Returns one job."""
    return session.get(Job, job_id)


def select_jobs(
    session: Session, sweep_id: int, *, status: JobStatus | None, after_id: int, limit: int
) -> list[Job]:
    """Returns a sweep's jobs by id, from just after ``after_id``."""
    statement = select(Job).where(Job.sweep_id == sweep_id, Job.id > after_id)
    if status is not None:
        statement = statement.where(Job.status == status.value)
    return list(session.execute(statement.order_by(Job.id).limit(limit)).scalars())


def select_trials(session: Session, job_id: int) -> list[TrialRow]:
    """Returns a job's trials in order, each with where it was measured and its timing."""
    statement = (
        select(Trial, Environment, Timing)
        .join(Environment, Environment.id == Trial.environment_id)
        .outerjoin(Timing, timing_of_trial())
        .where(Trial.job_id == job_id)
        .order_by(Trial.trial)
    )
    return [TrialRow(*row) for row in session.execute(statement)]


def select_throughputs(session: Session, job_id: int) -> list[JobThroughput]:
    """Returns a job's throughputs by the names of the device models."""
    statement = select(JobThroughput).where(JobThroughput.job_id == job_id)
    return list(session.execute(statement.order_by(JobThroughput.device)).scalars())
