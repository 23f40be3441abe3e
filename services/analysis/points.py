"""All results of a sweep as columns of numbers, for plots of the whole sweep."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from services.analysis.result_table import ResultSelection
from services.leaderboard.leaders import select_scale
from services.sweeps.device_choice import choose_device
from shared.db.queries.analysis import arrays as array_queries
from shared.domain.arrays import FloatArray
from shared.domain.errors import InvalidInputError
from shared.domain.results.columns import PLOTTABLE

SIGNIFICANT_DIGITS = 7
_PLACES = ("id", array_queries.SPACE_INDEX)


@dataclass(frozen=True, slots=True)
class Points:
    """Columns of equal length in the order of the space; NaN where a network lacks a value."""

    throughput_device: str | None
    timed: dict[str, int]
    measured: dict[str, int]
    min_throughput: float | None
    job_ids: list[int]
    space_indices: list[int]
    columns: dict[str, FloatArray]


def load_points(
    session: Session, sweep_id: int, selection: ResultSelection, fields: Sequence[str]
) -> Points:
    """Returns columns of all networks that pass the filters, to seven significant digits.

    Without a filter on the status these are ranked networks. Throughput and fitness are NaN for
    networks that the device model has not timed.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: a field is unknown, or nothing was measured on a device of the filters.
    """
    _check_fields(fields)
    choice = choose_device(session, sweep_id, selection.filters.device)
    filters = selection.filters.with_defaults(choice.min_throughput)
    scale = select_scale(session, sweep_id, choice, selection.fitness_weight)
    names = [*_PLACES, *dict.fromkeys(fields)]
    measures, _ = array_queries.select_columns(
        session, sweep_id, names, (), conditions=filters.conditions, scale=scale
    )
    job_ids, space_indices = (column.astype(np.int64).tolist() for column in measures[:2])
    columns = {name: _rounded(column) for name, column in zip(names[2:], measures[2:], strict=True)}
    return Points(
        choice.device,
        choice.timed,
        choice.measured,
        choice.min_throughput,
        job_ids,
        space_indices,
        columns,
    )


def _check_fields(fields: Sequence[str]) -> None:
    for name in fields:
        if name not in PLOTTABLE:
            raise InvalidInputError(
                f"fields: there is no {name!r}; known are {', '.join(PLOTTABLE)}.",
                field="fields",
            )


def _rounded(values: FloatArray) -> FloatArray:
    """Returns values with as many digits as a plot can show, in a third of the bytes of JSON."""
    known = np.isfinite(values) & (values != 0)
    powers = np.zeros_like(values)
    powers[known] = SIGNIFICANT_DIGITS - 1 - np.floor(np.log10(np.abs(values[known])))
    scale = np.power(10.0, np.abs(powers))
    rounded = np.where(
        powers < 0, np.round(values / scale) * scale, np.round(values * scale) / scale
    )
    return np.asarray(rounded, dtype=np.float64)
