"""SQL of filters and of fitness: expressions over jobs, every value a bound parameter."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Float, and_, case, cast, false, literal, null, or_
from sqlalchemy.orm import InstrumentedAttribute

from shared.db.models import Job
from shared.ranking import Condition, FitnessScale, Range
from shared.status import JobStatus

COLUMNS: Mapping[str, InstrumentedAttribute[Any]] = {
    "accuracy": Job.accuracy,
    "train_accuracy": Job.train_accuracy,
    "throughput": Job.throughput,
    "ratio": Job.ratio,
    "parameters": Job.parameters,
    "flops": Job.flops,
    "fit_seconds": Job.fit_s,
    "trials": Job.trials_done,
    "status": Job.status,
    "reason": Job.reason,
}


def conditions_sql(
    conditions: Iterable[Condition], scale: FitnessScale
) -> list[ColumnElement[bool]]:
    """Returns what a job must be like to meet all conditions."""
    return [_meets(condition, scale) for condition in conditions]


def measured_on(
    environment_ids: Sequence[int], conditions: Sequence[Condition]
) -> ColumnElement[bool]:
    """Returns that a job's results come from one of these environments.

    A job without any result meets it too, where the conditions let such jobs in.
    """
    measured = Job.environment_id.in_(environment_ids) if environment_ids else false()
    if is_completed_only(conditions):
        return measured
    return or_(measured, Job.environment_id.is_(None))


def is_completed_only(conditions: Sequence[Condition]) -> bool:
    """Says whether the conditions let no other than completed jobs in."""
    wanted = (JobStatus.COMPLETED.value,)
    return any(one.field == "status" and set(one.values) == set(wanted) for one in conditions)


def column_sql(field: str, scale: FitnessScale, layer: int | None = None) -> ColumnElement[Any]:
    """Returns the value of a field of a job; null where it has none."""
    if field == "fitness":
        return fitness_sql(scale)
    if layer is not None:
        return getattr(Job, field)[layer + 1]  # type: ignore[no-any-return]
    return COLUMNS[field]  # type: ignore[return-value]


def fitness_sql(scale: FitnessScale) -> ColumnElement[Any]:
    """Returns the fitness of a completed job on the scale; null for every other job."""
    accuracy = _normalized(Job.accuracy, scale.least_accuracy, scale.greatest_accuracy)
    throughput = _normalized(Job.throughput, scale.least_throughput, scale.greatest_throughput)
    if accuracy is None or throughput is None or not scale.environment_ids:
        return cast(null(), Float)
    ranked = and_(
        Job.status == JobStatus.COMPLETED.value, Job.environment_id.in_(scale.environment_ids)
    )
    return case((ranked, accuracy + literal(scale.weight, Float) * throughput), else_=None)


def _normalized(
    column: InstrumentedAttribute[float | None], least: float | None, greatest: float | None
) -> ColumnElement[float] | None:
    if least is None or greatest is None:
        return None
    span = greatest - least
    if span <= 0:  # all alike; the column still decides whether there is a value
        return column * literal(0.0, Float)  # type: ignore[return-value]
    return (column - literal(least, Float)) / literal(span, Float)  # type: ignore[return-value]


def _meets(condition: Condition, scale: FitnessScale) -> ColumnElement[bool]:
    column = column_sql(condition.field, scale, condition.layer)
    exact = [value for value in condition.values if not isinstance(value, Range)]
    ranges = [value for value in condition.values if isinstance(value, Range)]
    parts = [_within(column, one) for one in ranges]
    if exact:
        parts.append(column == exact[0] if len(exact) == 1 else column.in_(exact))
    return or_(*parts) if len(parts) > 1 else parts[0]


def _within(column: ColumnElement[Any], wanted: Range) -> ColumnElement[bool]:
    ends = []
    if wanted.low is not None:
        ends.append(column >= wanted.low)
    if wanted.high is not None:
        ends.append(column <= wanted.high)
    return and_(*ends)
