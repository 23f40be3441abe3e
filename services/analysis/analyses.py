"""Statistics of a sweep's results. docs/protocol.md says what each figure means."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from sqlalchemy.orm import Session

from services.analysis.result_table import Coverage, Level, Results, ResultSelection, load_results
from services.analysis.statistics.correlation import correlate
from services.analysis.statistics.factorial import (
    Effects,
    Estimator,
    importance,
    interaction,
    main_effects,
)
from services.analysis.statistics.pareto import pareto_front
from shared.db.models import Job
from shared.db.queries.analysis import arrays as array_queries
from shared.domain.arrays import FloatArray, IntArray
from shared.domain.choices import CorrelationMethod, Target
from shared.domain.errors import InvalidInputError, NoResultsError
from shared.domain.space import Parameter

MAX_CELLS = 20_000
CORRELATED_FIELDS = ("kernel_size", "stride", "dilation")  # as published, whether they vary or not
MEASURED = ("ratio", *Target)


@dataclass(frozen=True, slots=True)
class Correlations:
    """Coefficients and numbers of networks by name and name; NaN where there is no coefficient."""

    coverage: Coverage
    method: CorrelationMethod
    names: list[str]
    coefficients: FloatArray
    counts: IntArray


def correlate_results(
    session: Session, sweep_id: int, selection: ResultSelection, method: CorrelationMethod
) -> Correlations:
    """Returns the correlation of every two of: parameters that are numbers, and what is measured.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: nothing was measured on a device that is asked for.
        NoResultsError: fewer than two networks have an accuracy.
    """
    results = load_results(session, sweep_id, selection).where(Target.ACCURACY)
    columns = _numeric_parameters(results) | {name: results.measures[name] for name in MEASURED}
    matrix = correlate(np.stack(list(columns.values())), method)
    return Correlations(results.coverage, method, list(columns), matrix.coefficients, matrix.counts)


def _numeric_parameters(results: Results) -> dict[str, FloatArray]:
    """Returns kernel sizes, then strides, dilations, and whatever else varies, by layer."""
    depth = results.space.depth
    wanted = [Parameter(field, layer) for field in CORRELATED_FIELDS for layer in range(depth)]
    varied = [one for one in results.parameters if one.field != "activation"]
    rest = sorted(set(varied) - set(wanted))
    return {
        str(one): results.parameters.get(one, np.ones(len(results))) for one in [*wanted, *rest]
    }


@dataclass(frozen=True, slots=True)
class ParetoFront:
    """The networks that no other beats in accuracy and throughput, the fastest first."""

    coverage: Coverage
    jobs: list[Job]


def find_pareto_front(session: Session, sweep_id: int, selection: ResultSelection) -> ParetoFront:
    """Returns the Pareto front of accuracy and throughput; of equal networks all are on it.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: nothing was measured on a device that is asked for.
        NoResultsError: fewer than two networks have both.
    """
    both = (Target.THROUGHPUT, Target.ACCURACY)
    results = load_results(session, sweep_id, selection).where(*both)
    front = pareto_front(*(results.measures[name] for name in both))
    ids = results.measures["id"][front].astype(np.int64).tolist()
    jobs = array_queries.select_jobs_by_id(session, ids)
    return ParetoFront(results.coverage, [jobs[job_id] for job_id in ids])


@dataclass(frozen=True, slots=True)
class ParameterEffects:
    parameter: Parameter
    levels: list[Level]
    effects: Effects


@dataclass(frozen=True, slots=True)
class PairEffects:
    """Effects of the cells of two parameters, row-major, rows being levels of the first."""

    parameters: tuple[Parameter, Parameter]
    levels: tuple[list[Level], list[Level]]
    effects: Effects


@dataclass(frozen=True, slots=True)
class MainEffects:
    coverage: Coverage
    target: Target
    mean: float
    parameters: list[ParameterEffects]


@dataclass(frozen=True, slots=True)
class Interactions:
    coverage: Coverage
    target: Target
    mean: float
    pairs: list[PairEffects]


def estimate_main_effects(
    session: Session, sweep_id: int, selection: ResultSelection, target: Target
) -> MainEffects:
    """Returns the mean of a target at every level of every parameter that the space varies.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: nothing was measured on a device that is asked for.
        NoResultsError: fewer than two networks have the target.
    """
    results = load_results(session, sweep_id, selection).where(target)
    values = results.measures[target]
    effects = [
        ParameterEffects(one, results.levels(one), main_effects(results.factor(one), values))
        for one in results.parameters
    ]
    return MainEffects(results.coverage, target, float(values.mean()), effects)


def estimate_interactions(
    session: Session,
    sweep_id: int,
    selection: ResultSelection,
    target: Target,
    parameters: Sequence[str] = (),
) -> Interactions:
    """Returns the mean of a target for every two levels of every two parameters.

    Args:
        parameters: names of those to pair; all that the space varies where left out.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: the space does not vary a parameter, the pairs have too many cells, or
            nothing was measured on a device that is asked for.
        NoResultsError: fewer than two networks have the target.
    """
    results = load_results(session, sweep_id, selection).where(target)
    chosen = _chosen_parameters(results, parameters)
    values = results.measures[target]
    factors = {one: results.factor(one) for one in chosen}
    pairs = [
        PairEffects(
            (a, b), (results.levels(a), results.levels(b)),
            interaction(factors[a], factors[b], values),
        )
        for a, b in combinations(chosen, 2)
    ]  # fmt: skip
    return Interactions(results.coverage, target, float(values.mean()), pairs)


def _chosen_parameters(results: Results, names: Sequence[str]) -> list[Parameter]:
    known = {str(one): one for one in results.parameters}
    for name in names:
        if name not in known:
            raise InvalidInputError(
                f"parameter: the space of sweep {results.sweep.id} does not vary {name!r}; it "
                f"varies {', '.join(known) or 'nothing'}.",
                field="parameter",
            )
    chosen = [one for name, one in known.items() if not names or name in names]
    sizes = [len(results.levels(one)) for one in chosen]
    cells = sum(a * b for a, b in combinations(sizes, 2))
    if cells > MAX_CELLS:
        raise InvalidInputError(
            f"parameter: {cells:,} cells are more than the {MAX_CELLS:,} of one answer; "
            "name the parameters to pair.",
            field="parameter",
        )
    return chosen


@dataclass(frozen=True, slots=True)
class ParameterShare:
    """Shares of variance of one parameter; ``total`` is known for a complete factorial alone."""

    parameter: Parameter
    main: float
    total: float | None


@dataclass(frozen=True, slots=True)
class ImportanceShares:
    coverage: Coverage
    target: Target
    estimator: Estimator
    explained: float
    parameters: list[ParameterShare]
    pairs: list[tuple[Parameter, Parameter, float]]


def estimate_importance(
    session: Session, sweep_id: int, selection: ResultSelection, target: Target
) -> ImportanceShares:
    """Returns which share of a target's variance each parameter and each two explain, most first.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: nothing was measured on a device that is asked for.
        NoResultsError: fewer than two networks have the target, or all have the same.
    """
    results = load_results(session, sweep_id, selection).where(target)
    names = list(results.parameters)
    shares = importance([results.factor(one) for one in names], results.measures[target])
    if shares is None:
        raise NoResultsError(
            f"All {len(results)} results of sweep {sweep_id} have the same {target}: there is no "
            "variance to share out."
        )
    total: Sequence[float | None] = shares.total or [None] * len(names)
    parameters = list(map(ParameterShare, names, shares.main, total))
    pairs = [(names[a], names[b], share) for (a, b), share in shares.pairs.items()]
    return ImportanceShares(
        coverage=results.coverage,
        target=target,
        estimator=shares.estimator,
        explained=shares.explained,
        parameters=sorted(parameters, key=lambda one: -one.main),
        pairs=sorted(pairs, key=lambda pair: -pair[2]),
    )
