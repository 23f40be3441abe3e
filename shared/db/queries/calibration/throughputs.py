"""SQL about calibrated throughputs: what they are computed from, and where they are kept."""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from shared.db.queries.rows import LayerColumns, read_rows
from shared.db.queries.statements import sql


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedRow:
    """The timings of a network on a device model, each divided by its unit's factor."""

    job_id: int
    device: str  # model
    throughput: float  # images/s, median
    throughput_min: float
    throughput_max: float
    throughput_measured: bool  # false where any timing was screened


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRow(LayerColumns):
    """A network whose throughputs are calibrated."""

    id: int
    flops: int  # per image


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRow:
    """How the calibrated throughputs of a device model were computed."""

    device: str
    reference_version: int
    seed: int
    timed: int  # networks with a timing on any model, then
    measured: int
    predicted: int
    sources: list[dict[str, Any]]
    calibrated_at: dt.datetime


# job id, throughput, its least and greatest, whether the network was timed whole, and its kind
ScaleRow = tuple[int, float, float, float, bool, str]


def select_corrected(
    session: Session, sweep_id: int, factors: Sequence[tuple[str, str, float]]
) -> list[CorrectedRow]:
    """Returns a sweep's throughputs by network and model, by id, corrected by factors of units.

    Args:
        factors: model, unit and factor; timings of other units stay as they are.
    """
    statement = sql("""
        SELECT t.job_id, e.device,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY corrected.images_per_s) AS throughput,
            min(corrected.images_per_s) AS throughput_min,
            max(corrected.images_per_s) AS throughput_max,
            bool_and(t.source <> 'screened') AS throughput_measured
        FROM jobs j
        JOIN timings t ON t.job_id = j.id AND t.invalidated IS NULL
        JOIN environments e ON e.id = t.environment_id
        LEFT JOIN unnest(
            CAST(:devices AS text[]), CAST(:units AS text[]), CAST(:factors AS float8[])
        ) AS f(device, unit, value) ON f.device = e.device AND f.unit = t.unit
        CROSS JOIN LATERAL (SELECT t.images_per_s / coalesce(f.value, 1)) AS corrected(images_per_s)
        WHERE j.sweep_id = :sweep_id GROUP BY t.job_id, e.device ORDER BY t.job_id, e.device
    """)
    devices, units, values = ([row[place] for row in factors] for place in range(3))
    bound = {"sweep_id": sweep_id, "devices": devices, "units": units, "factors": values}
    return read_rows(CorrectedRow, session.execute(statement, bound))


def select_timed_networks(session: Session, sweep_id: int) -> list[NetworkRow]:
    """Returns the networks of a sweep that a device model has timed, by id."""
    statement = sql("""
        SELECT id, flops, channels, kernel_size, stride, dilation, padding, activation FROM jobs
        WHERE sweep_id = :sweep_id AND flops > 0
            AND EXISTS (SELECT FROM throughputs t WHERE t.job_id = jobs.id)
        ORDER BY id
    """)
    return read_rows(NetworkRow, session.execute(statement, {"sweep_id": sweep_id}))


def replace_scale(session: Session, sweep_id: int, device: str, rows: Sequence[ScaleRow]) -> None:
    """Replaces the throughputs under the name of a scale."""
    gone = sql("DELETE FROM throughputs WHERE sweep_id = :sweep_id AND device = :device")
    session.execute(gone, {"sweep_id": sweep_id, "device": device})
    statement = sql("""
        INSERT INTO throughputs (job_id, device, sweep_id, throughput, throughput_min,
            throughput_max, throughput_measured, kind)
        SELECT r.job_id, :device, :sweep_id, r.middle, r.least, r.greatest, r.measured, r.kind
        FROM unnest(
            CAST(:ids AS bigint[]), CAST(:middles AS float8[]), CAST(:leasts AS float8[]),
            CAST(:greatests AS float8[]), CAST(:wholes AS boolean[]), CAST(:kinds AS text[])
        ) AS r(job_id, middle, least, greatest, measured, kind)
        ORDER BY r.job_id
    """)
    names = ("ids", "middles", "leasts", "greatests", "wholes", "kinds")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    session.execute(statement, {"sweep_id": sweep_id, "device": device, **columns})


def replace_calibration(
    session: Session, sweep_id: int, calibration: dict[str, Any]
) -> CalibrationRow:
    """Records how the calibrated throughputs of a device model were computed, and returns that.

    Args:
        calibration: ``device reference_version seed timed measured predicted sources``.
    """
    gone = sql("DELETE FROM calibrations WHERE sweep_id = :sweep_id AND device = :device")
    session.execute(gone, {"sweep_id": sweep_id, "device": calibration["device"]})
    statement = sql("""
        INSERT INTO calibrations (sweep_id, device, reference_version, seed, timed, measured,
            predicted, sources)
        VALUES (:sweep_id, :device, :reference_version, :seed, :timed, :measured, :predicted,
            CAST(:sources AS jsonb))
        RETURNING device, reference_version, seed, timed, measured, predicted, sources,
            calibrated_at
    """)
    values = calibration | {"sweep_id": sweep_id, "sources": json.dumps(calibration["sources"])}
    (row,) = read_rows(CalibrationRow, session.execute(statement, values))
    return row


def select_calibrations(session: Session, sweep_id: int) -> list[CalibrationRow]:
    """Returns how the calibrated throughputs of a sweep were computed, by device model."""
    statement = sql("""
        SELECT device, reference_version, seed, timed, measured, predicted, sources, calibrated_at
        FROM calibrations WHERE sweep_id = :sweep_id ORDER BY device
    """)
    return read_rows(CalibrationRow, session.execute(statement, {"sweep_id": sweep_id}))
