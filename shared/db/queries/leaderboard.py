"""SQL about ranked and exported jobs."""

from collections.abc import Iterator

from sqlalchemy import Row, Select, select
from sqlalchemy.orm import Session

from shared.db.models import Environment, Job
from shared.status import JobStatus

SORT_COLUMNS = {
    "accuracy": Job.accuracy,
    "throughput": Job.throughput,
    "ratio": Job.ratio,
    "parameters": Job.parameters,
    "flops": Job.flops,
}


def _jobs_with_device(sweep_id: int) -> Select[Job, str | None]:
    return (
        select(Job, Environment.device)
        .outerjoin(Environment, Environment.id == Job.environment_id)
        .where(Job.sweep_id == sweep_id)
    )


def select_leaders(
    session: Session,
    sweep_id: int,
    *,
    min_accuracy: float | None,
    min_throughput: float | None,
    max_ratio: float | None,
    sort: str,
    descending: bool,
    limit: int,
) -> list[tuple[Job, str | None]]:
    """Returns completed jobs with their device, ranked by ``sort``, ties by id."""
    statement = _jobs_with_device(sweep_id).where(Job.status == JobStatus.COMPLETED.value)
    if min_accuracy is not None:
        statement = statement.where(Job.accuracy >= min_accuracy)
    if min_throughput is not None:
        statement = statement.where(Job.throughput >= min_throughput)
    if max_ratio is not None:
        statement = statement.where(Job.ratio <= max_ratio)
    column = SORT_COLUMNS[sort]
    order = column.desc().nulls_last() if descending else column.asc().nulls_last()
    rows = session.execute(statement.order_by(order, Job.id).limit(limit))
    return [(row[0], row[1]) for row in rows]


def stream_jobs(session: Session, sweep_id: int) -> Iterator[Row[Job, str | None]]:
    """Yields every job of a sweep with its device, in order, without holding them."""
    statement = _jobs_with_device(sweep_id).order_by(Job.id)
    return iter(session.execute(statement.execution_options(yield_per=2000)))
