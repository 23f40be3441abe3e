"""How the devices of a sweep compare: references over time, units, drift, and other models."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from services.analysis.statistics.calibration import speed_change
from services.calibration.calibrated import Calibration, SourceFit, models_that_timed, try_fit
from services.calibration.measurements import ReferenceRuns, load_references, load_throughputs
from services.sweeps.reading import load_sweep
from shared.db.queries.calibration import throughputs as throughput_queries
from shared.db.queries.calibration.references import RunRow
from shared.domain.reference_set import MAX_DRIFT, VERSION

MAX_RUNS = 200  # of one unit, in an answer


@dataclass(frozen=True, slots=True)
class UnitRun:
    """One run of the references on a unit."""

    finished_at: dt.datetime
    speed: float  # relative to the fleet
    speed_change: float | None  # since the run before of the same process
    drifted: bool
    clock_mhz: float | None
    temperature_c: float | None


@dataclass(frozen=True, slots=True)
class Unit:
    """One GPU, or one machine's processor."""

    unit: str
    factor: float  # its speed relative to the fleet
    runs: int
    drifts: int  # runs whose speed changed by more than ``MAX_DRIFT``
    invalidated: int  # timings that lost their validity
    history: tuple[UnitRun, ...]  # at most MAX_RUNS of its runs, evenly chosen, the last one too


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """A device model that timed networks of a sweep."""

    device: str
    timed: int  # networks
    units: tuple[Unit, ...]
    fits: tuple[SourceFit, ...]  # of the other models
    calibration: Calibration | None


@dataclass(frozen=True, slots=True)
class DeviceComparison:
    """All device models of a sweep, the one that timed most first."""

    reference_version: int
    max_drift: float
    models: tuple[DeviceModel, ...]


def compare_devices(
    session: Session, sweep_id: int, *, reference_version: int = VERSION, seed: int = 0
) -> DeviceComparison:
    """Returns how the devices of a sweep compare, from what was timed so far.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: there is no such version of the references.
    """
    sweep = load_sweep(session, sweep_id)
    timed = models_that_timed(session, sweep_id)
    references = load_references(session, sweep, list(timed), reference_version)
    data = load_throughputs(session, sweep, references)
    kept = {
        row.device: Calibration.of(row, sum(timed.values()))
        for row in throughput_queries.select_calibrations(session, sweep_id)
    }
    models = [
        DeviceModel(
            device,
            count,
            _units(references[device]),
            tuple(try_fit(data, other, device, seed)[1] for other in timed if other != device),
            kept.get(device),
        )
        for device, count in timed.items()
    ]
    return DeviceComparison(reference_version, MAX_DRIFT, tuple(models))


def _units(runs: ReferenceRuns) -> tuple[Unit, ...]:
    return tuple(_unit(runs, unit, factor) for unit, factor in runs.factors.items())


def _unit(runs: ReferenceRuns, unit: str, factor: float) -> Unit:
    rows = [row for row in runs.rows if row.unit == unit]
    return Unit(
        unit,
        factor,
        len(rows),
        sum(map(_drifted, rows)),
        sum(row.invalidated for row in rows),
        tuple(
            UnitRun(
                row.finished_at,
                speed_change(runs.fleet, np.array(row.images_per_s)) + 1,
                row.speed_change,
                _drifted(row),
                row.clock_mhz,
                row.temperature_c,
            )
            for row in _evenly(rows)
        ),
    )


def _drifted(row: RunRow) -> bool:
    return row.speed_change is not None and abs(row.speed_change) > MAX_DRIFT


def _evenly(rows: Sequence[RunRow]) -> list[RunRow]:
    places = np.linspace(0, len(rows) - 1, min(len(rows), MAX_RUNS)).round().astype(int)
    return [rows[place] for place in places]
