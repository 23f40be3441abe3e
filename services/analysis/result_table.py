"""The results of a sweep as a table of numpy columns: the input of analyses and plots."""

from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy.orm import Session

from services.analysis.statistics.factorial import Factor
from services.leaderboard.filters import Filters
from services.leaderboard.leaders import select_scale
from services.sweeps.device_choice import choose_device
from services.sweeps.reading import SweepState, get_sweep
from shared.db.models import Sweep
from shared.db.queries.analysis import arrays as array_queries
from shared.db.queries.sweeps import sweeps as sweep_queries
from shared.domain.architecture import ACTIVATIONS
from shared.domain.arrays import FloatArray
from shared.domain.errors import NoResultsError
from shared.domain.results.choices import Target
from shared.domain.results.columns import COLUMN
from shared.domain.results.ranking import FITNESS_WEIGHT, RANKED, FitnessScale
from shared.domain.space import Parameter, SearchSpace
from shared.domain.status import JobStatus

Level = int | str | None  # of a parameter; None where a network is too shallow to have the layer
_MEASURES = ("id", "ratio", *Target)


@dataclass(frozen=True, slots=True)
class ResultSelection:
    """The results that an analysis uses: those that pass the filters.

    Without a filter on the status these are ranked networks that are not too slow, and without a
    filter on the device throughputs are those of the device model that timed most.
    """

    filters: Filters
    fitness_weight: float = FITNESS_WEIGHT


@dataclass(frozen=True, slots=True)
class Coverage:
    """The part of a space that an analysis uses; ``used`` and ``missing`` add up to ``total``.

    ``missing`` counts architectures by job state. Under ``left_out`` it counts those that have the
    right state but do not pass the filters or lack the value, such as networks that the device
    model has not timed.
    """

    total: int
    used: int
    missing: dict[str, int]
    device: tuple[str, ...]  # models that measured the networks
    throughput_device: str | None  # model whose throughputs and fitness count
    min_throughput: float | None  # networks slower than this on the model are left out by default


@dataclass(frozen=True)
class Results:
    """Columns over the networks of a sweep that have results, in the order of the space.

    ``measures`` and ``parameters`` hold one array (n,) per name; NaN where a network has no value.
    """

    sweep: Sweep
    space: SearchSpace
    missing: dict[str, int]  # architectures by the state that keeps them out
    device: tuple[str, ...]  # models that measured the networks
    scale: FitnessScale
    measures: dict[str, FloatArray]
    parameters: dict[Parameter, FloatArray]

    def __len__(self) -> int:
        return len(self.measures["id"])

    def where(self, *names: str) -> "Results":
        """Returns the networks that have a value in each of the columns ``names``.

        Raises:
            NoResultsError: fewer than two networks have all of them.
        """
        rows = np.all([np.isfinite(self.measures[name]) for name in names], axis=0)
        if rows.sum() < 2:
            raise NoResultsError(
                f"Sweep {self.sweep.id} has {rows.sum()} such results with {' and '.join(names)}; "
                "at least two are needed. Wait for more, or widen the filters."
            )
        measures = {name: values[rows] for name, values in self.measures.items()}
        parameters = {name: values[rows] for name, values in self.parameters.items()}
        device = self.device
        if self.scale.device and any(COLUMN[name].per_device for name in names):
            device = (self.scale.device,)
        return replace(self, measures=measures, parameters=parameters, device=device)

    def levels(self, parameter: Parameter) -> list[Level]:
        """Returns the choices of the space for a parameter, in order."""
        choices = getattr(self.space.layers[parameter.layer], parameter.field)
        levels: list[Level] = sorted(choices, key=ACTIVATIONS.index if _named(parameter) else None)
        shallow = any(block.depth <= parameter.layer for block in self.space.blocks)
        return [*levels, None] if shallow else levels

    def factor(self, parameter: Parameter) -> Factor:
        """Returns the index of each network's level among the ``levels`` of a parameter."""
        levels = [level for level in self.levels(parameter) if level is not None]
        numbers = [
            ACTIVATIONS.index(level) if isinstance(level, str) else level for level in levels
        ]
        codes = np.searchsorted(numbers, self.parameters[parameter])  # NaN comes after all numbers
        return Factor(codes, len(self.levels(parameter)))

    @property
    def coverage(self) -> Coverage:
        """The part of the space that these results cover."""
        missing = dict(self.missing)
        without = self.sweep.total - len(self) - sum(missing.values())
        if without > 0:
            missing["left_out"] = without
        return Coverage(
            self.sweep.total,
            len(self),
            missing,
            self.device,
            self.scale.device,
            self.scale.min_throughput,
        )


def _named(parameter: Parameter) -> bool:
    return parameter.field == "activation"


def load_results(session: Session, sweep_id: int, selection: ResultSelection) -> Results:
    """Returns the results that pass ``selection``.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: nothing was measured on a device of the filters.
    """
    state = get_sweep(session, sweep_id)
    space = SearchSpace.model_validate(state.sweep.space)
    choice = choose_device(session, sweep_id, selection.filters.device)
    filters = selection.filters.with_defaults(choice.min_throughput)
    scale = select_scale(session, sweep_id, choice, selection.fitness_weight)
    parameters = space.varied_parameters
    measures, levels = array_queries.select_columns(
        session, sweep_id, _MEASURES, parameters, conditions=filters.conditions, scale=scale
    )
    return Results(
        sweep=state.sweep,
        space=space,
        missing=_missing(session, state, filters),
        device=tuple(choice.measured),
        scale=scale,
        measures=dict(zip(_MEASURES, measures, strict=True)),
        parameters=dict(zip(parameters, levels, strict=True)),
    )


def _missing(session: Session, state: SweepState, filters: Filters) -> dict[str, int]:
    """Returns how many architectures have no right state, by their states."""
    named = (c.values for c in filters.conditions if c.field == "status")
    statuses = {value for values in named for value in values} or {JobStatus.COMPLETED}
    counts = {status: n for status, n in state.counts.items() if status not in statuses}
    if RANKED in filters.conditions:
        in_work = sweep_queries.count_ranked_in_work(session, state.sweep.id)
        counts = {status: n - in_work.get(status, 0) for status, n in counts.items()}
    return {status.value: n for status, n in counts.items() if n}
