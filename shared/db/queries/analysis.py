"""SQL about results as columns: a whole sweep as numpy arrays, and what comparisons need."""

from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Float,
    LargeBinary,
    Row,
    SQLColumnExpression,
    Text,
    cast,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import Session, aliased

from shared.architecture import Activation
from shared.db.models import Job, Trial
from shared.db.queries.conditions import (
    conditions_sql,
    fitness_sql,
    measured_on,
    name_values,
    scale_values,
)
from shared.ranking import Condition, FitnessScale
from shared.status import JobStatus

FloatArray = NDArray[np.float64]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
BLOCK_ROWS = 65_536
_COMPLETED = JobStatus.COMPLETED.value
_MEASURES: dict[str, SQLColumnExpression[Any]] = {
    "job_id": Job.id,
    "accuracy": Job.accuracy,
    "train_accuracy": Job.train_accuracy,
    "throughput": Job.throughput,
    "fit_seconds": Job.fit_s,
    "ratio": Job.ratio,
}


class Parameter(NamedTuple):
    """One thing that a search space may vary: a field of a layer, layers counted from 0."""

    field: str
    layer: int

    def __str__(self) -> str:
        return f"{self.field}[{self.layer}]"


def select_columns(
    session: Session,
    sweep_id: int,
    measures: Sequence[str],
    parameters: Sequence[Parameter],
    *,
    conditions: Sequence[Condition],
    scale: FitnessScale,
) -> tuple[FloatArray, FloatArray]:
    """Returns measures (k, n) and parameters (m, n) of jobs in the order of a sweep's space.

    What a job lacks is NaN: a measurement, or a layer. An activation is its place in
    ``ACTIVATIONS``. Postgres sends columns as bytes, tens of thousands of values at a time, because
    reading a row per network costs many times as much.

    Args:
        conditions: what the jobs must be like.
        scale: what their fitness is measured against; only jobs of its environments are taken.
    """
    known = _MEASURES | {"fitness": fitness_sql()}
    forms, asked = name_values(conditions)
    values = [known[name] for name in measures] + [_layer_value(one) for one in parameters]
    block = Job.space_index // BLOCK_ROWS
    statement = (
        select(*(_as_bytes(value, Job.space_index) for value in values))
        .where(Job.sweep_id == sweep_id, measured_on(completed_only=True), *conditions_sql(forms))
        .group_by(block)
        .order_by(block)
    )
    blocks = list(session.execute(statement, asked | scale_values(scale)))
    columns = [_numbers([row[number] for row in blocks]) for number in range(len(values))]
    return _stacked(columns[: len(measures)]), _stacked(columns[len(measures) :])


def _layer_value(parameter: Parameter) -> SQLColumnExpression[Any]:
    value = getattr(Job, parameter.field)[parameter.layer + 1]  # Postgres counts from 1
    if parameter.field != "activation":
        return cast(value, Float)
    places = cast(list(ACTIVATIONS), ARRAY(Text))
    return func.array_position(places, value) - 1


def _as_bytes(
    value: SQLColumnExpression[Any], order: SQLColumnExpression[Any]
) -> ColumnElement[bytes]:
    number = func.coalesce(cast(value, Float), cast("NaN", Float))
    empty = cast(b"", LargeBinary)
    return func.string_agg(func.float8send(number), aggregate_order_by(empty, order))


def _numbers(parts: Sequence[bytes | None]) -> FloatArray:
    joined = b"".join(part for part in parts if part is not None)
    return np.frombuffer(joined, ">f8").astype(np.float64)


def _stacked(columns: Sequence[FloatArray]) -> FloatArray:
    return np.stack(columns) if columns else np.zeros((0, 0))


def select_shared_accuracies(
    session: Session, first_id: int, second_id: int
) -> tuple[FloatArray, FloatArray]:
    """Returns the accuracies of the architectures that completed in both sweeps, side by side."""
    first, second = aliased(Job), aliased(Job)
    statement = (
        select(*(_as_bytes(job.accuracy, first.space_index) for job in (first, second)))
        .join_from(first, second, first.architecture_hash == second.architecture_hash)
        .where(
            first.sweep_id == first_id,
            second.sweep_id == second_id,
            first.status == _COMPLETED,
            second.status == _COMPLETED,
        )
    )
    row = session.execute(statement).one()
    return _numbers([row[0]]), _numbers([row[1]])


def select_answers(session: Session, job_id: int) -> list[Row[int, bytes]]:
    """Returns (trial, correct_bits) of a job's trials, in order."""
    statement = select(Trial.trial, Trial.correct_bits).where(Trial.job_id == job_id)
    return list(session.execute(statement.order_by(Trial.trial)))


def select_jobs_by_id(session: Session, job_ids: Sequence[int]) -> dict[int, Job]:
    """Returns jobs by their ids."""
    statement = select(Job).where(Job.id == func.any(cast(list(job_ids), ARRAY(BigInteger))))
    return {job.id: job for job in session.execute(statement).scalars()}
