"""What devices are compared by: their references, and a sweep's throughputs on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sqlalchemy.orm import Session

from services.analysis.statistics.calibration import (
    CrossModelFit,
    fit_across_models,
    fleet_speeds,
    unit_factors,
)
from shared.db.models import Sweep
from shared.db.queries.calibration import references as reference_queries
from shared.db.queries.calibration import throughputs as throughput_queries
from shared.db.queries.calibration.references import RunRow
from shared.db.queries.calibration.throughputs import CorrectedRow, NetworkRow
from shared.domain.arrays import BoolArray, FloatArray
from shared.domain.errors import InvalidInputError
from shared.domain.protocol import Protocol
from shared.domain.reference_set import VERSION


@dataclass(frozen=True)
class ReferenceRuns:
    """Runs of the references on all units of one device model, in order."""

    rows: Sequence[RunRow]

    @cached_property
    def by_unit(self) -> dict[str, FloatArray]:
        """Throughputs (runs, r) of each unit, by name."""
        units = sorted({row.unit for row in self.rows})
        return {
            unit: np.array([row.images_per_s for row in self.rows if row.unit == unit])
            for unit in units
        }

    @cached_property
    def factors(self) -> dict[str, float]:
        """Speed of each unit relative to the fleet."""
        return unit_factors(self.by_unit)

    @cached_property
    def fleet(self) -> FloatArray:
        """Throughput of each reference (r,) on the fleet."""
        return fleet_speeds(self.by_unit)


def load_references(
    session: Session, sweep: Sweep, devices: Sequence[str], version: int
) -> dict[str, ReferenceRuns]:
    """Returns the runs of each device model since a sweep began.

    Raises:
        InvalidInputError: there is no such version of the references.
    """
    if not 1 <= version <= VERSION:
        known = "1" if VERSION == 1 else f"1 to {VERSION}"
        raise InvalidInputError(
            f"reference_version: there is no version {version} of the reference networks; known: "
            f"{known}.",
            field="reference_version",
        )
    rows = reference_queries.select_runs(session, devices, version, sweep.created_at)
    return {
        device: ReferenceRuns([row for row in rows if row.device == device]) for device in devices
    }


@dataclass(frozen=True)
class CorrectedThroughputs:
    """A sweep's networks that were timed, in the order of their ids, with what calibration needs.

    ``rows`` has the corrected timings of each device model by job; ``flops``, ``bytes_moved`` and
    ``launches`` are per image, per image and per batch, (n,).
    """

    networks: Sequence[NetworkRow]
    rows: Mapping[str, Mapping[int, CorrectedRow]]
    flops: FloatArray
    bytes_moved: FloatArray
    launches: FloatArray

    def on(self, device: str) -> tuple[FloatArray, BoolArray]:
        """Returns throughputs (n,) on a model, and where it timed the whole network; else NaN."""
        return self._columns[device]

    @cached_property
    def _columns(self) -> dict[str, tuple[FloatArray, BoolArray]]:
        place = {network.id: number for number, network in enumerate(self.networks)}
        columns = {}
        for device, rows in self.rows.items():
            values = np.full(len(place), np.nan)
            whole = np.zeros(len(place), dtype=bool)
            for job_id, row in rows.items():
                if job_id in place:
                    values[place[job_id]] = row.throughput
                    whole[place[job_id]] = row.throughput_measured
            columns[device] = values, whole
        return columns

    def fit(self, source: str, target: str, seed: int) -> CrossModelFit:
        """Fits the target's throughputs to the source's, over networks that both timed whole.

        Raises:
            NoResultsError: too few networks; the message says how many more are needed.
        """
        (sources, first), (targets, second) = self.on(source), self.on(target)
        both = first & second
        return fit_across_models(
            sources[both], targets[both], self.flops[both], self.bytes_moved[both],
            self.launches[both], seed=seed,
        )  # fmt: skip


def load_throughputs(
    session: Session, sweep: Sweep, references: Mapping[str, ReferenceRuns]
) -> CorrectedThroughputs:
    """Returns a sweep's throughputs, each timing divided by the factor of its unit."""
    factors = [
        (device, unit, factor)
        for device, runs in references.items()
        for unit, factor in runs.factors.items()
    ]
    rows: dict[str, dict[int, CorrectedRow]] = {}
    for row in throughput_queries.select_corrected(session, sweep.id, factors):
        rows.setdefault(row.device, {})[row.job_id] = row
    networks = throughput_queries.select_timed_networks(session, sweep.id)
    protocol = Protocol.model_validate(sweep.protocol)
    batch = protocol.timing.batch_size if protocol.timing else 1
    architectures = [network.architecture for network in networks]
    return CorrectedThroughputs(
        networks,
        rows,
        np.array([network.flops for network in networks], dtype=float),
        np.array([each.bytes_moved(protocol.input_shape, batch) for each in architectures]),
        np.array([len(each.layers) for each in architectures], dtype=float),
    )
