"""SQL of filters and of fitness: expressions over jobs in which every value is a parameter.

A statement depends only on the form of a query and takes its values by name, so a query with other
values runs the same statement.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Float,
    FromClause,
    Integer,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    join,
    literal_column,
    or_,
)

from shared.db.models import Job
from shared.db.queries.result_columns import layer_sql, stored_sql
from shared.db.timing_models import JobThroughput
from shared.domain.results.columns import COLUMN
from shared.domain.results.ranking import NOT_SLOW, RANKED, Condition, FitnessScale, Range
from shared.domain.status import JobStatus


@dataclass(frozen=True, slots=True)
class Form:
    """A condition with names of parameters instead of values."""

    field: str
    layer: int | None
    exact: str | None  # name of the list of single values, if there are any
    ranges: tuple[tuple[str | None, str | None], ...]  # names of their ends


def name_values(conditions: Iterable[Condition]) -> tuple[tuple[Form, ...], dict[str, Any]]:
    """Returns the forms of conditions, and their values by name."""
    values: dict[str, Any] = {}

    def named(value: Any) -> str | None:
        if value is None or value == []:
            return None
        name = f"value_{len(values)}"
        values[name] = value
        return name

    def form(condition: Condition) -> Form:
        exact = [value for value in condition.values if not isinstance(value, Range)]
        ranges = [value for value in condition.values if isinstance(value, Range)]
        ends = tuple((named(part.low), named(part.high)) for part in ranges)
        return Form(condition.field, condition.layer, named(exact), ends)

    return tuple(map(form, conditions)), values


def conditions_sql(
    forms: Iterable[Form], *, ranked_only: bool = False
) -> list[ColumnElement[bool]]:
    """Returns an expression per form that is true of jobs which meet the condition."""
    return [_meets(form, ranked_only) for form in forms]


def ranked_sql(jobs: type[Job] = Job) -> ColumnElement[bool]:
    """Returns ``shared.db.models.RANKED``, with its literals, so that the partial indexes serve."""
    literals = literal_column("0", Integer), literal_column("'rejected'", Text)
    return and_(jobs.trials_done > literals[0], jobs.status != literals[1])


def with_throughput(*, timed_only: bool = False) -> FromClause:
    """Returns the jobs, each beside its throughput on the device model of the scale, if it has one.

    Args:
        timed_only: leave out the jobs that the model has not timed.
    """
    of_device = and_(JobThroughput.job_id == Job.id, JobThroughput.device == bindparam("device"))
    return join(Job, JobThroughput, of_device, isouter=not timed_only)


def not_slow_sql(images_per_s: ColumnElement[Any]) -> ColumnElement[bool]:
    """Returns the condition that a job's throughput, if it has one, is not below a number."""
    return or_(JobThroughput.throughput >= images_per_s, JobThroughput.throughput.is_(None))


def is_ranked_only(conditions: Sequence[Condition]) -> bool:
    """Says whether the conditions select only ranked jobs; all completed ones are."""
    completed = Condition("status", (JobStatus.COMPLETED.value,))
    return any(condition in (RANKED, completed) for condition in conditions)


def column_sql(
    field: str, layer: int | None = None, *, ranked_only: bool = False
) -> ColumnElement[Any]:
    """Returns a column of ``with_throughput``, or of a layer; null where a job has no value."""
    if layer is not None:
        return layer_sql(field, layer)
    if field == "fitness":
        return fitness_sql(ranked_only=ranked_only)
    element: ColumnElement[Any]
    element = stored_sql(COLUMN[field])  # type: ignore[assignment]
    return element


def fitness_sql(*, ranked_only: bool = False) -> ColumnElement[Any]:
    """Returns the fitness of a ranked job on the scale; null for every other job.

    Args:
        ranked_only: the statement selects only ranked jobs.
    """
    accuracy, throughput = normalized_sql("accuracy"), normalized_sql("throughput")
    fitness = accuracy + parameter("fitness_weight") * throughput
    return fitness if ranked_only else case((ranked_sql(), fitness), else_=None)


def normalized_sql(field: str) -> ColumnElement[Any]:
    """Returns an accuracy or a throughput on the scale from 0, the least, to 1, the greatest."""
    return (stored_sql(COLUMN[field]) - parameter(f"least_{field}")) / parameter(f"{field}_span")


def parameter(name: str) -> ColumnElement[Any]:
    """Returns the number that the statement takes under this name; null for None."""
    return cast(bindparam(name), Float)


def scale_values(scale: FitnessScale) -> dict[str, Any]:
    """Returns the parameters of a statement that reads a fitness."""
    return {
        "device": scale.device,
        "fitness_weight": scale.weight,
        "least_accuracy": scale.least_accuracy,
        "accuracy_span": _span(scale.least_accuracy, scale.greatest_accuracy),
        "least_throughput": scale.least_throughput,
        "throughput_span": _span(scale.least_throughput, scale.greatest_throughput),
    }


def _span(least: float | None, greatest: float | None) -> float | None:
    if least is None or greatest is None:
        return None
    return greatest - least if greatest > least else math.inf  # all are equal: each is at zero


def _meets(form: Form, ranked_only: bool) -> ColumnElement[bool]:
    if form.field == RANKED.field:
        return ranked_sql()
    if form.field == NOT_SLOW:
        return not_slow_sql(cast(bindparam(form.ranges[0][0]), Float))
    column = column_sql(form.field, form.layer, ranked_only=ranked_only)
    parts = [_within(column, *ends) for ends in form.ranges]
    if form.exact is not None:
        parts.append(column == any_(bindparam(form.exact, type_=ARRAY(column.type))))
    return or_(*parts)


def _within(column: ColumnElement[Any], low: str | None, high: str | None) -> ColumnElement[bool]:
    ends = []
    if low is not None:
        ends.append(column >= bindparam(low, type_=column.type))
    if high is not None:
        ends.append(column <= bindparam(high, type_=column.type))
    return and_(*ends)
