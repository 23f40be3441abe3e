"""SQL of analyses: a whole sweep as numpy arrays, and the jobs and answers to compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Float,
    LargeBinary,
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
    column_sql,
    conditions_sql,
    name_values,
    ranked_sql,
    scale_values,
    with_throughput,
)
from shared.db.queries.result_columns import layer_sql
from shared.db.queries.rows import read_rows
from shared.db.queries.statements import BINARY, copy_out
from shared.domain.architecture import ACTIVATIONS
from shared.domain.arrays import FloatArray
from shared.domain.results.ranking import Condition, FitnessScale
from shared.domain.space import Parameter

SPACE_INDEX = "space_index"  # place in the sweep's space, from 0
_HEADER_BYTES, _TRAILER_BYTES = 19, 2  # of the binary format


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

    Missing measurements and layers are NaN. An activation is its index in ``ACTIVATIONS``.
    Postgres sends rows in its binary format and numpy reads them as they are: a Python object per
    number would cost many times as much.

    Args:
        measures: names of numeric columns of the registry, or ``SPACE_INDEX``.
        conditions: conditions that the jobs meet.
        scale: the scale of their fitness; jobs that its device model has not timed have NaN for
            throughput and fitness.
    """
    forms, bound = name_values(conditions)
    values = [_measure(name) for name in measures] + [_layer_value(p) for p in parameters]
    numbers = _select_numbers(Job.space_index, values).select_from(with_throughput())
    statement = numbers.where(Job.sweep_id == sweep_id, *conditions_sql(forms))
    columns = _read(session, statement.params(bound | scale_values(scale)))
    return columns[: len(measures)], columns[len(measures) :]


def _measure(name: str) -> SQLColumnExpression[Any]:
    return Job.space_index if name == SPACE_INDEX else column_sql(name)


def _layer_value(parameter: Parameter) -> SQLColumnExpression[Any]:
    value = layer_sql(parameter.field, parameter.layer)
    if parameter.field != "activation":
        return cast(value, Float)
    places = cast(list(ACTIVATIONS), ARRAY(Text))
    return func.array_position(places, value) - 1


def _select_numbers(
    order: SQLColumnExpression[Any], values: Sequence[SQLColumnExpression[Any]]
) -> Select[*tuple[Any, ...]]:
    """Returns rows of the value that orders them and of ``values``; a null becomes NaN."""
    numbers = (func.coalesce(cast(value, Float), cast("NaN", Float)) for value in (order, *values))
    return select(*numbers)


def _read(session: Session, statement: Select[*tuple[Any, ...]]) -> FloatArray:
    """Returns the columns (k, n) of a statement of ``_select_numbers``, in order.

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
    """Returns the accuracies of architectures that have results in both sweeps, side by side."""
    first, second = aliased(Job), aliased(Job)
    statement = (
        _select_numbers(first.space_index, [first.accuracy, second.accuracy])
        .join_from(first, second, first.architecture_hash == second.architecture_hash)
        .where(
            first.sweep_id == first_id,
            second.sweep_id == second_id,
            ranked_sql(first),
            ranked_sql(second),
        )
    )
    accuracies = _read(session, statement)
    return accuracies[0], accuracies[1]


@dataclass(frozen=True, slots=True)
class TrialAnswers:
    """The predictions of one trial: a bit per validation image, 1 where it was correct."""

    trial: int
    correct_bits: bytes


def select_answers(session: Session, job_id: int) -> list[TrialAnswers]:
    """Returns the answers of a job's trials, in order."""
    statement = select(Trial.trial, Trial.correct_bits).where(Trial.job_id == job_id)
    return read_rows(TrialAnswers, session.execute(statement.order_by(Trial.trial)))


def select_jobs_by_id(session: Session, job_ids: Sequence[int]) -> dict[int, Job]:
    """Returns jobs by their ids."""
    statement = select(Job).where(Job.id == func.any(cast(list(job_ids), ARRAY(BigInteger))))
    return {job.id: job for job in session.execute(statement).scalars()}


def select_jobs_by_hash(
    session: Session, sweep_id: int, hashes: Sequence[bytes]
) -> dict[bytes, Job]:
    """Returns those of a sweep's jobs whose architectures have these hashes, by hash."""
    listed = Job.architecture_hash == func.any(cast(list(hashes), ARRAY(LargeBinary)))
    statement = select(Job).where(Job.sweep_id == sweep_id, listed)
    return {job.architecture_hash: job for job in session.execute(statement).scalars()}


def select_labels(session: Session, dataset_hash: str) -> list[int] | None:
    """Returns the labels of a dataset's validation images; None where no worker reported them."""
    statement = select(DatasetLabels.labels).where(DatasetLabels.dataset_hash == dataset_hash)
    return session.execute(statement).scalar_one_or_none()
