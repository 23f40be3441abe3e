"""Calibrated throughputs: a device model's timings, corrected, and predictions for the rest."""

import datetime as dt
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from services.analysis.statistics.calibration import CrossModelFit
from services.calibration.measurements import (
    CorrectedThroughputs,
    load_references,
    load_throughputs,
)
from services.sweeps.control import lock_sweep
from services.sweeps.device_choice import choose_device
from shared.db.queries.calibration import throughputs as throughput_queries
from shared.db.queries.calibration.throughputs import CalibrationRow, CorrectedRow, ScaleRow
from shared.domain.arrays import FloatArray
from shared.domain.calibration import calibrated_scale, is_calibrated_scale
from shared.domain.errors import InvalidInputError, NoResultsError
from shared.domain.measurements import ThroughputKind
from shared.domain.reference_set import VERSION


@dataclass(frozen=True, slots=True)
class SourceFit:
    """What another device model says about one; ``problem`` where it says nothing yet."""

    source: str
    rows: int  # networks that both timed
    rank_correlation: float | None
    interval_factor: float | None  # a 90 % interval is the prediction divided and times this
    predicted: int = 0  # networks
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """How the calibrated throughputs of a device model were computed."""

    device: str  # model
    scale: str  # the name under which views show them
    reference_version: int
    seed: int
    measured: int  # networks
    predicted: int
    timed_since: int  # networks that a model has timed since, which are not in it
    sources: tuple[SourceFit, ...]
    calibrated_at: dt.datetime

    @classmethod
    def of(cls, row: CalibrationRow, timed: int) -> "Calibration":
        return cls(
            row.device, calibrated_scale(row.device), row.reference_version, row.seed,
            row.measured, row.predicted, max(0, timed - row.timed),
            tuple(SourceFit(**source) for source in row.sources), row.calibrated_at,
        )  # fmt: skip


def calibrate(
    session: Session,
    sweep_id: int,
    device: str,
    *,
    reference_version: int = VERSION,
    seed: int = 0,
) -> Calibration:
    """Computes throughputs of all timed networks on a device model, and keeps them for views.

    Timings on the model are divided by the factors of its units. Networks that it has not timed get
    a prediction from the model whose fit has the narrowest interval, of those that timed them.
    Where no fit has enough networks, there are only corrected timings; the answer says how many
    more are needed. What was computed before is replaced.

    Args:
        seed: of the random halves of the networks that are fitted, and that give the interval.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: nothing was timed on this model, or there is no such version.
    """
    sweep = lock_sweep(session, sweep_id)
    timed = _check_timed(session, sweep_id, device)
    references = load_references(session, sweep, list(timed), reference_version)
    data = load_throughputs(session, sweep, references)
    fits = {source: try_fit(data, source, device, seed) for source in timed if source != device}
    predicted, used = _predict(data, device, {s: f for s, (f, _) in fits.items() if f})
    own = data.rows[device].values()
    rows = [*map(_measured_row, own), *predicted]
    throughput_queries.replace_scale(session, sweep_id, calibrated_scale(device), rows)
    row = throughput_queries.replace_calibration(
        session,
        sweep_id,
        {
            "device": device,
            "reference_version": reference_version,
            "seed": seed,
            "timed": sum(timed.values()),
            "measured": len(own),
            "predicted": len(predicted),
            "sources": [_as_json(fit, used.get(source, 0)) for source, (_, fit) in fits.items()],
        },
    )
    return Calibration.of(row, sum(timed.values()))


def _check_timed(session: Session, sweep_id: int, device: str) -> dict[str, int]:
    """Returns the networks by the model that timed them.

    Raises:
        InvalidInputError: nothing was timed on this model.
    """
    timed = models_that_timed(session, sweep_id)
    if device not in timed:
        known = ", ".join(map(repr, timed)) or "none yet"
        raise InvalidInputError(
            f"device: no network of sweep {sweep_id} was timed on {device!r}; there are: {known}.",
            field="device",
        )
    return timed


def models_that_timed(session: Session, sweep_id: int) -> dict[str, int]:
    """Returns the networks of a sweep by the device model that timed them, most first."""
    timed = choose_device(session, sweep_id).timed
    return {name: count for name, count in timed.items() if not is_calibrated_scale(name)}


def try_fit(
    data: CorrectedThroughputs, source: str, target: str, seed: int
) -> tuple[CrossModelFit | None, SourceFit]:
    """Returns a fit, or what it lacks."""
    rows = int((data.on(source)[1] & data.on(target)[1]).sum())
    try:
        fit = data.fit(source, target, seed)
    except NoResultsError as error:
        return None, SourceFit(source, rows, None, None, problem=error.message)
    return fit, SourceFit(source, rows, fit.rank_correlation, math.exp(fit.half_width))


def _measured_row(row: CorrectedRow) -> ScaleRow:
    return (
        row.job_id, row.throughput, row.throughput_min, row.throughput_max,
        row.throughput_measured, ThroughputKind.MEASURED.value,
    )  # fmt: skip


def _predict(
    data: CorrectedThroughputs, device: str, fits: dict[str, CrossModelFit]
) -> tuple[list[ScaleRow], dict[str, int]]:
    """Returns a row per network that the model has not timed, and their number by source."""
    open_ = np.isnan(data.on(device)[0])
    rows: list[ScaleRow] = []
    used: dict[str, int] = {}
    for source in sorted(fits, key=lambda name: fits[name].half_width):
        values, whole = data.on(source)
        chosen = open_ & whole
        used[source] = int(chosen.sum())
        if used[source]:
            costs = data.flops[chosen], data.bytes_moved[chosen], data.launches[chosen]
            columns = fits[source].predict(values[chosen], *costs)
            ids = [data.networks[place].id for place in np.flatnonzero(chosen).tolist()]
            rows += _predicted_rows(ids, *columns)
        open_ &= ~chosen
    return rows, used


def _predicted_rows(
    ids: list[int], middles: FloatArray, lows: FloatArray, highs: FloatArray
) -> Iterator[ScaleRow]:
    columns = (column.tolist() for column in (middles, lows, highs))
    for job_id, middle, low, high in zip(ids, *columns, strict=True):
        yield job_id, middle, low, high, True, ThroughputKind.PREDICTED.value


def _as_json(fit: SourceFit, predicted: int) -> dict[str, object]:
    return {
        "source": fit.source,
        "rows": fit.rows,
        "rank_correlation": fit.rank_correlation,
        "interval_factor": fit.interval_factor,
        "predicted": predicted,
        "problem": fit.problem,
    }
