"""A sweep's results as columns: what analyses and plots are computed from."""

from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy.orm import Session

from services.analysis.statistics import FloatArray
from services.analysis.statistics.factorial import Factor
from services.leaderboard.device_choice import choose_devices
from services.leaderboard.filters import Filters
from services.sweeps.reading import get_sweep
from shared.db.models import Sweep
from shared.db.queries.analysis import arrays as array_queries
from shared.db.queries.analysis.arrays import ACTIVATIONS, Parameter
from shared.db.queries.leaderboard.leaders import select_fitness_scale
from shared.domain.architecture import LayerConfig
from shared.domain.choices import Target
from shared.domain.errors import NoResultsError
from shared.domain.ranking import FITNESS_WEIGHT
from shared.domain.space import SearchSpace
from shared.domain.status import JobStatus

Level = int | str | None  # of a parameter; None where a network is too shallow to have the layer


_MEASURES = ("job_id", "ratio", *Target)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which results an answer is about: those that pass the filters, completed ones unless told.

    All of one device model, the one with the most completed jobs unless the filters name others.
    """

    filters: Filters
    fitness_weight: float = FITNESS_WEIGHT


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a space an answer rests on; ``used`` and ``missing`` add up to ``total``.

    ``missing`` counts architectures by job state, and under ``left_out`` those whose state would do
    but which do not pass the filters, were measured on another device or lack the value.
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
    statuses: tuple[str, ...]  # of the jobs that the filters let in
    device: tuple[str, ...]
    measures: dict[str, FloatArray]
    parameters: dict[Parameter, FloatArray]

    def __len__(self) -> int:
        return len(self.measures["job_id"])

    def where(self, *names: str) -> "Results":
        """Returns the results of the networks that have all of these.

        Raises:
            NoResultsError: fewer than two have.
        """
        rows = np.all([np.isfinite(self.measures[name]) for name in names], axis=0)
        if rows.sum() < 2:
            raise NoResultsError(
                f"Sweep {self.sweep.id} has {rows.sum()} such results with {' and '.join(names)}, "
                "and this needs two. Wait for more, or widen the filters."
            )
        measures = {name: values[rows] for name, values in self.measures.items()}
        parameters = {name: values[rows] for name, values in self.parameters.items()}
        return replace(self, measures=measures, parameters=parameters)

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
        missing = {
            status.value: count
            for status, count in self.counts.items()
            if count and status not in self.statuses
        }
        without = self.sweep.total - len(self) - sum(missing.values())
        if without > 0:
            missing["left_out"] = without
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


def load_results(session: Session, sweep_id: int, selection: Selection) -> Results:
    """Returns the results that ``selection`` chooses.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: nothing was measured on a device that is asked for.
    """
    state = get_sweep(session, sweep_id)
    space = SearchSpace.model_validate(state.sweep.space)
    filters = selection.filters.or_status(JobStatus.COMPLETED)
    choice = choose_devices(session, sweep_id, filters.device)
    scale = select_fitness_scale(
        session, sweep_id, choice.environment_ids, selection.fitness_weight
    )
    parameters = varied_parameters(space)
    measures, levels = array_queries.select_columns(
        session, sweep_id, _MEASURES, parameters, conditions=filters.conditions, scale=scale
    )
    return Results(
        sweep=state.sweep,
        space=space,
        counts=state.counts,
        statuses=_statuses(filters),
        device=choice.device,
        measures=dict(zip(_MEASURES, measures, strict=True)),
        parameters=dict(zip(parameters, levels, strict=True)),
    )


def _statuses(filters: Filters) -> tuple[str, ...]:
    named = (one.values for one in filters.conditions if one.field == "status")
    return tuple(str(value) for values in named for value in values)
