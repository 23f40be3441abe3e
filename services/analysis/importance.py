"""Shares of variance that parameters explain. docs/protocol.md has the formulas."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from services.analysis.result_table import Coverage, ResultSelection, load_results
from services.analysis.statistics.factorial import (
    Estimator,
    importance,
)
from shared.domain.errors import NoResultsError
from shared.domain.results.choices import Target
from shared.domain.space import Parameter


@dataclass(frozen=True, slots=True)
class ParameterShare:
    """Shares of variance of one parameter; ``total`` is known only for a complete factorial."""

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
    """Returns the shares of a target's variance by parameter and by pair, largest first.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: nothing was measured on a device of the filters.
        NoResultsError: fewer than two networks have the target, or all have the same value.
    """
    results = load_results(session, sweep_id, selection).where(target)
    names = list(results.parameters)
    shares = importance(
        [results.factor(parameter) for parameter in names], results.measures[target]
    )
    if shares is None:
        raise NoResultsError(
            f"All {len(results)} results of sweep {sweep_id} have the same {target}: there is no "
            "variance to explain."
        )
    total: Sequence[float | None] = shares.total or [None] * len(names)
    parameters = list(map(ParameterShare, names, shares.main, total))
    pairs = [(names[a], names[b], share) for (a, b), share in shares.pairs.items()]
    return ImportanceShares(
        coverage=results.coverage,
        target=target,
        estimator=shares.estimator,
        explained=shares.explained,
        parameters=sorted(parameters, key=lambda share: -share.main),
        pairs=sorted(pairs, key=lambda pair: -pair[2]),
    )
