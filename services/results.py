"""A sweep's results as columns: what analyses and plots are computed from."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from sqlalchemy.orm import Session

from services.devices import ANY_DEVICE, choose_devices
from services.statistics import FloatArray
from services.statistics.factorial import Factor
from services.sweeps import get_sweep
from shared.architecture import LayerConfig
from shared.db.models import Sweep
from shared.db.queries import analysis as analysis_queries
from shared.db.queries.analysis import ACTIVATIONS, Parameter
from shared.errors import NoResultsError
from shared.space import SearchSpace
from shared.status import JobStatus

FITNESS_WEIGHT = 0.3
Level = int | str | None  # of a parameter; None where a network is too shallow to have the layer


class Target(StrEnum):
    """A measured result that analyses explain."""

    ACCURACY = "accuracy"
    TRAIN_ACCURACY = "train_accuracy"
    THROUGHPUT = "throughput"
    FIT_SECONDS = "fit_seconds"
    FITNESS = "fitness"


DEVICE_BOUND = frozenset({Target.THROUGHPUT, Target.FIT_SECONDS, Target.FITNESS})
_MEASURES = (
    "job_id",
    "completed",
    "ratio",
    "accuracy",
    "train_accuracy",
    "throughput",
    "fit_seconds",
)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which results an analysis is about.

    Without ``device``, whatever depends on the device is about the model with the most completed
    jobs, and all else about every device. Jobs that a gate rejected have measured results too, but
    count only where asked for.
    """

    device: tuple[str, ...] = ()
    include_rejected: bool = False
    fitness_weight: float = FITNESS_WEIGHT

    @property
    def statuses(self) -> tuple[JobStatus, ...]:
        completed = (JobStatus.COMPLETED,)
        return (*completed, JobStatus.REJECTED) if self.include_rejected else completed


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a space an answer rests on; ``used`` and ``missing`` add up to ``total``.

    ``missing`` counts architectures by job state, and under ``no_value`` those whose state would do
    but which lack the value or were measured on another device.
    """

    total: int
    used: int
    missing: dict[str, int]
    device: tuple[str, ...]


@dataclass(frozen=True)
class Results:
    """Columns over the networks of a sweep that have results, in the order of the space."""

    sweep: Sweep
    space: SearchSpace
    counts: dict[JobStatus, int]
    selection: Selection
    device: tuple[str, ...]
    measures: dict[str, FloatArray]
    parameters: dict[Parameter, FloatArray]

    def __len__(self) -> int:
        return len(self.measures["job_id"])

    @cached_property
    def fitness(self) -> FloatArray:
        """Accuracy and weighted throughput, each scaled to 0 to 1 over the completed networks."""
        scaled = (self._scaled(Target.ACCURACY), self._scaled(Target.THROUGHPUT))
        return scaled[0] + self.selection.fitness_weight * scaled[1]

    def _scaled(self, name: str) -> FloatArray:
        values = self.measures[name]
        known = values[(self.measures["completed"] == 1) & np.isfinite(values)]
        if not len(known):
            return np.full(len(values), np.nan)
        spread = float(np.ptp(known))
        return (values - known.min()) / spread if spread else values * 0.0

    def column(self, name: str) -> FloatArray:
        """Returns a measured result, or the fitness."""
        return self.fitness if name == Target.FITNESS else self.measures[name]

    def where(self, *names: str) -> "Results":
        """Returns the results of the networks that have all of these.

        Raises:
            NoResultsError: fewer than two have.
        """
        rows = np.all([np.isfinite(self.column(name)) for name in names], axis=0)
        if rows.sum() < 2:
            raise NoResultsError(
                f"Sweep {self.sweep.id} has {rows.sum()} results with {' and '.join(names)}, and "
                "this needs at least two. Wait for more, or see whether the protocol measures them."
            )
        measures = {name: values[rows] for name, values in self.measures.items()}
        parameters = {name: values[rows] for name, values in self.parameters.items()}
        chosen = Results(
            self.sweep, self.space, self.counts, self.selection, self.device, measures, parameters
        )
        chosen.__dict__["fitness"] = self.fitness[rows]  # scaled over all, not over these
        return chosen

    def levels(self, parameter: Parameter) -> list[Level]:
        """Returns the choices that the space has for a parameter, in order."""
        choices = getattr(self.space.layers[parameter.layer], parameter.field)
        levels: list[Level] = sorted(choices, key=ACTIVATIONS.index if _named(parameter) else None)
        shallow = any(block.depth <= parameter.layer for block in self.space.blocks)
        return [*levels, None] if shallow else levels

    def factor(self, parameter: Parameter) -> Factor:
        """Returns which of the ``levels`` of a parameter each network has."""
        levels = [level for level in self.levels(parameter) if level is not None]
        numbers = [
            ACTIVATIONS.index(level) if isinstance(level, str) else level for level in levels
        ]
        codes = np.searchsorted(numbers, self.parameters[parameter])  # NaN comes after all numbers
        return Factor(codes, len(self.levels(parameter)))

    @property
    def coverage(self) -> Coverage:
        """How much of the space these results are."""
        wanted = self.selection.statuses
        missing = {
            status.value: count
            for status, count in self.counts.items()
            if count and status not in wanted
        }
        without = self.sweep.total - len(self) - sum(missing.values())
        if without > 0:
            missing["no_value"] = without
        return Coverage(self.sweep.total, len(self), missing, self.device)


def _named(parameter: Parameter) -> bool:
    return parameter.field == "activation"


def varied_parameters(space: SearchSpace) -> list[Parameter]:
    """Returns what the space offers a choice of, by layer."""
    return [
        Parameter(field, layer)
        for layer, choices in enumerate(space.layers[: max(b.depth for b in space.blocks)])
        for field in LayerConfig._fields
        if len(getattr(choices, field)) > 1
    ]


def load_results(
    session: Session, sweep_id: int, selection: Selection, about: Sequence[str]
) -> Results:
    """Returns the results that ``selection`` chooses, for an answer about certain columns.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: nothing was measured on the device that is asked for.
    """
    state = get_sweep(session, sweep_id)
    space = SearchSpace.model_validate(state.sweep.space)
    wanted = selection.device
    if not wanted and DEVICE_BOUND.isdisjoint(about):
        wanted = (ANY_DEVICE,)
    choice = choose_devices(session, sweep_id, wanted)
    parameters = varied_parameters(space)
    measured, values = analysis_queries.select_columns(
        session,
        sweep_id,
        _MEASURES,
        parameters,
        statuses=selection.statuses,
        environment_ids=choice.environment_ids,
    )
    return Results(
        sweep=state.sweep,
        space=space,
        counts=state.counts,
        selection=selection,
        device=choice.device,
        measures=dict(zip(_MEASURES, measured, strict=True)),
        parameters=dict(zip(parameters, values, strict=True)),
    )
