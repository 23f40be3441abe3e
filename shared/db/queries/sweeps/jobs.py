"""SQL that reads jobs and their trials."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.db.models import Environment, Job, Trial
from shared.domain.status import JobStatus


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


def select_trials(session: Session, job_id: int) -> list[tuple[Trial, Environment]]:
    """Returns a job's trials in order, each with where it was measured."""
    statement = (
        select(Trial, Environment)
        .join(Environment, Environment.id == Trial.environment_id)
        .where(Trial.job_id == job_id)
        .order_by(Trial.trial)
    )
    return [(row[0], row[1]) for row in session.execute(statement)]
