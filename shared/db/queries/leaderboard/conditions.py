"""SQL of filters and of fitness: expressions over jobs in which every value is a parameter.

A statement depends on the form of a question alone and takes its values by their names, so the same
question with other values is the same statement.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Float,
    and_,
    any_,
    bindparam,
    case,
    cast,
    or_,
)
from sqlalchemy.orm import InstrumentedAttribute

from shared.db.models import Job
from shared.domain.ranking import Condition, FitnessScale, Range
from shared.domain.status import JobStatus

COLUMNS: Mapping[str, InstrumentedAttribute[Any]] = {
    "id": Job.id,
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


@dataclass(frozen=True, slots=True)
class Form:
    """A condition with the names of parameters in the place of its values."""

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
        ends = tuple((named(one.low), named(one.high)) for one in ranges)
        return Form(condition.field, condition.layer, named(exact), ends)

    return tuple(map(form, conditions)), values


def conditions_sql(
    forms: Iterable[Form], *, ranked_only: bool = False
) -> list[ColumnElement[bool]]:
    """Returns what a job must be like to meet all conditions of these forms."""
    return [_meets(form, ranked_only) for form in forms]


def measured_on(*, completed_only: bool) -> ColumnElement[bool]:
    """Returns that a job's results come from one of ``environment_ids``.

    A job without any result meets it too, unless the conditions let only completed jobs in.
    """
    measured = among_environments(Job.environment_id)
    return measured if completed_only else or_(measured, Job.environment_id.is_(None))


def among_environments(column: InstrumentedAttribute[Any]) -> ColumnElement[bool]:
    """Returns that a column is one of ``environment_ids``."""
    return column == any_(bindparam("environment_ids", type_=ARRAY(BigInteger)))


def is_completed_only(conditions: Sequence[Condition]) -> bool:
    """Says whether the conditions let no other than completed jobs in."""
    wanted = (JobStatus.COMPLETED.value,)
    return any(one.field == "status" and set(one.values) == set(wanted) for one in conditions)


def column_sql(
    field: str, layer: int | None = None, *, ranked_only: bool = False
) -> ColumnElement[Any]:
    """Returns the value of a field of a job; null where it has none."""
    if field == "fitness":
        return fitness_sql(ranked_only=ranked_only)
    if layer is not None:
        return getattr(Job, field)[layer + 1]  # type: ignore[no-any-return]
    return COLUMNS[field]  # type: ignore[return-value]


def fitness_sql(*, ranked_only: bool = False) -> ColumnElement[Any]:
    """Returns the fitness of a completed job on a scale; null for every other job.

    Args:
        ranked_only: the statement has no other jobs, so that an index has all that is needed.
    """
    accuracy, throughput = normalized_sql("accuracy"), normalized_sql("throughput")
    fitness = accuracy + parameter("fitness_weight") * throughput
    if ranked_only:
        return fitness
    ranked = and_(Job.status == JobStatus.COMPLETED.value, measured_on(completed_only=True))
    return case((ranked, fitness), else_=None)


def normalized_sql(field: str) -> ColumnElement[Any]:
    """Returns an accuracy or a throughput on the scale, where 0 to 1 is what there was."""
    return (COLUMNS[field] - parameter(f"least_{field}")) / parameter(f"{field}_span")


def parameter(name: str) -> ColumnElement[Any]:
    """Returns a number that the statement is given under this name; null where it is None."""
    return cast(bindparam(name), Float)


def scale_values(scale: FitnessScale) -> dict[str, Any]:
    """Returns what a statement with a fitness in it is given for its parameters."""
    return {
        "environment_ids": list(scale.environment_ids),
        "fitness_weight": scale.weight,
        "least_accuracy": scale.least_accuracy,
        "accuracy_span": _span(scale.least_accuracy, scale.greatest_accuracy),
        "least_throughput": scale.least_throughput,
        "throughput_span": _span(scale.least_throughput, scale.greatest_throughput),
    }


def _span(least: float | None, greatest: float | None) -> float | None:
    if least is None or greatest is None:
        return None
    return greatest - least if greatest > least else math.inf  # all alike: all of them are at zero


def _meets(form: Form, ranked_only: bool) -> ColumnElement[bool]:
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
