"""SQL about results as columns: a whole sweep as numpy arrays, and what comparisons need."""

from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Float,
    LargeBinary,
    Row,
    Select,
    SQLColumnExpression,
    Text,
    cast,
    func,
    select,
)
from sqlalchemy.orm import Session, aliased

from shared.db.models import DatasetLabels, Job, Trial
from shared.db.queries.leaderboard.conditions import (
    conditions_sql,
    fitness_sql,
    measured_on,
    name_values,
    scale_values,
)
from shared.db.queries.statements import BINARY, copy_out
from shared.domain.architecture import Activation
from shared.domain.ranking import Condition, FitnessScale
from shared.domain.status import JobStatus

FloatArray = NDArray[np.float64]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
_HEADER_BYTES, _TRAILER_BYTES = 19, 2  # of the binary format
_COMPLETED = JobStatus.COMPLETED.value
_MEASURES: dict[str, SQLColumnExpression[Any]] = {
    "job_id": Job.id,
    "space_index": Job.space_index,
    "accuracy": Job.accuracy,
    "accuracy_sd": Job.accuracy_sd,
    "train_accuracy": Job.train_accuracy,
    "throughput": Job.throughput,
    "fit_seconds": Job.fit_s,
    "ratio": Job.ratio,
    "parameters": Job.parameters,
    "flops": Job.flops,
    "trials": Job.trials_done,
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
    ``ACTIVATIONS``. Postgres sends rows in its binary format, which become columns as they are:
    an object of Python's per number would cost many times as much.

    Args:
        conditions: what the jobs must be like.
        scale: what their fitness is measured against; only jobs of its environments are taken.
    """
    known = _MEASURES | {"fitness": fitness_sql()}
    forms, asked = name_values(conditions)
    values = [known[name] for name in measures] + [_layer_value(one) for one in parameters]
    statement = _select_numbers(Job.space_index, values).where(
        Job.sweep_id == sweep_id, measured_on(completed_only=True), *conditions_sql(forms)
    )
    columns = _read(session, statement.params(asked | scale_values(scale)))
    return columns[: len(measures)], columns[len(measures) :]


def _layer_value(parameter: Parameter) -> SQLColumnExpression[Any]:
    value = getattr(Job, parameter.field)[parameter.layer + 1]  # Postgres counts from 1
    if parameter.field != "activation":
        return cast(value, Float)
    places = cast(list(ACTIVATIONS), ARRAY(Text))
    return func.array_position(places, value) - 1


def _select_numbers(
    order: SQLColumnExpression[Any], values: Sequence[SQLColumnExpression[Any]]
) -> Select[*tuple[Any, ...]]:
    """Returns rows of what orders them and values, all of them numbers, NaN where one is null."""
    numbers = (func.coalesce(cast(one, Float), cast("NaN", Float)) for one in (order, *values))
    return select(*numbers)


def _read(session: Session, statement: Select[*tuple[Any, ...]]) -> FloatArray:
    """Returns the columns (k, n) of a statement of ``_select_numbers``, put in order here.

    Source: "Binary Format" in PostgreSQL's documentation of COPY.
    """
    width = len(statement.selected_columns)
    row = np.dtype([("fields", ">i2"), ("numbers", [("bytes", ">i4"), ("value", ">f8")], (width,))])
    data = copy_out(session, statement, BINARY)
    rows = (len(data) - _HEADER_BYTES - _TRAILER_BYTES) // row.itemsize
    table = np.frombuffer(data, row, rows, _HEADER_BYTES)["numbers"]["value"]
    ordered = np.argsort(table[:, 0])
    return np.stack([table[ordered, number] for number in range(1, width)]).astype(np.float64)


def select_shared_accuracies(
    session: Session, first_id: int, second_id: int
) -> tuple[FloatArray, FloatArray]:
    """Returns the accuracies of the architectures that completed in both sweeps, side by side."""
    first, second = aliased(Job), aliased(Job)
    statement = (
        _select_numbers(first.space_index, [first.accuracy, second.accuracy])
        .join_from(first, second, first.architecture_hash == second.architecture_hash)
        .where(
            first.sweep_id == first_id,
            second.sweep_id == second_id,
            first.status == _COMPLETED,
            second.status == _COMPLETED,
        )
    )
    accuracies = _read(session, statement)
    return accuracies[0], accuracies[1]


def select_answers(session: Session, job_id: int) -> list[Row[int, bytes]]:
    """Returns (trial, correct_bits) of a job's trials, in order."""
    statement = select(Trial.trial, Trial.correct_bits).where(Trial.job_id == job_id)
    return list(session.execute(statement.order_by(Trial.trial)))


def select_jobs_by_id(session: Session, job_ids: Sequence[int]) -> dict[int, Job]:
    """Returns jobs by their ids."""
    statement = select(Job).where(Job.id == func.any(cast(list(job_ids), ARRAY(BigInteger))))
    return {job.id: job for job in session.execute(statement).scalars()}


def select_jobs_by_hash(
    session: Session, sweep_id: int, hashes: Sequence[bytes]
) -> dict[bytes, Job]:
    """Returns a sweep's jobs by the hashes of their architectures; those that it has."""
    wanted = Job.architecture_hash == func.any(cast(list(hashes), ARRAY(LargeBinary)))
    statement = select(Job).where(Job.sweep_id == sweep_id, wanted)
    return {job.architecture_hash: job for job in session.execute(statement).scalars()}


def select_labels(session: Session, dataset_hash: str) -> list[int] | None:
    """Returns the labels of a dataset's validation images, or None where no worker told them."""
    statement = select(DatasetLabels.labels).where(DatasetLabels.dataset_hash == dataset_hash)
    return session.execute(statement).scalar_one_or_none()
