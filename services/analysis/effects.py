"""Main effects and interactions of a space's parameters. docs/protocol.md has the formulas."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from sqlalchemy.orm import Session

from services.analysis.result_table import Coverage, Level, Results, ResultSelection, load_results
from services.analysis.statistics.factorial import (
    Effects,
    interaction,
    main_effects,
)
from shared.domain.errors import InvalidInputError
from shared.domain.results.choices import Target
from shared.domain.space import Parameter

MAX_CELLS = 20_000


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
        InvalidInputError: nothing was measured on a device of the filters.
        NoResultsError: fewer than two networks have the target.
    """
    results = load_results(session, sweep_id, selection).where(target)
    values = results.measures[target]
    effects = [
        ParameterEffects(p, results.levels(p), main_effects(results.factor(p), values))
        for p in results.parameters
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
        parameters: names of the parameters to pair; default: all that the space varies.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: the space does not vary a parameter, the pairs have too many cells, or
            nothing was measured on a device of the filters.
        NoResultsError: fewer than two networks have the target.
    """
    results = load_results(session, sweep_id, selection).where(target)
    chosen = _chosen_parameters(results, parameters)
    values = results.measures[target]
    factors = {parameter: results.factor(parameter) for parameter in chosen}
    pairs = [
        PairEffects(
            (a, b), (results.levels(a), results.levels(b)),
            interaction(factors[a], factors[b], values),
        )
        for a, b in combinations(chosen, 2)
    ]  # fmt: skip
    return Interactions(results.coverage, target, float(values.mean()), pairs)


def _chosen_parameters(results: Results, names: Sequence[str]) -> list[Parameter]:
    known = {str(parameter): parameter for parameter in results.parameters}
    for name in names:
        if name not in known:
            raise InvalidInputError(
                f"parameter: the space of sweep {results.sweep.id} does not vary {name!r}; it "
                f"varies {', '.join(known) or 'nothing'}.",
                field="parameter",
            )
    chosen = [parameter for name, parameter in known.items() if not names or name in names]
    sizes = [len(results.levels(parameter)) for parameter in chosen]
    cells = sum(a * b for a, b in combinations(sizes, 2))
    if cells > MAX_CELLS:
        raise InvalidInputError(
            f"parameter: {cells:,} cells are more than the {MAX_CELLS:,} of one answer; "
            "name the parameters to pair.",
            field="parameter",
        )
    return chosen
