"""Correlations of a sweep's results, and their Pareto front. docs/protocol.md has the formulas."""

from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from services.analysis.result_table import Coverage, Results, ResultSelection, load_results
from services.analysis.statistics.correlation import correlate
from services.analysis.statistics.pareto import pareto_front
from shared.db.queries.leaderboard.leaders import LeaderRow, select_networks
from shared.domain.arrays import FloatArray, IntArray
from shared.domain.results.choices import CorrelationMethod, Target
from shared.domain.space import Parameter

CORRELATED_FIELDS = ("kernel_size", "stride", "dilation")  # as published, also where constant
MEASURED = ("ratio", *Target)


@dataclass(frozen=True, slots=True)
class Correlations:
    """Matrices of coefficients and of numbers of networks; NaN where a column does not vary."""

    coverage: Coverage
    method: CorrelationMethod
    names: list[str]
    coefficients: FloatArray
    counts: IntArray


def correlate_results(
    session: Session, sweep_id: int, selection: ResultSelection, method: CorrelationMethod
) -> Correlations:
    """Returns the correlations between numeric parameters and measured results, pair by pair.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: nothing was measured on a device of the filters.
        NoResultsError: fewer than two networks have an accuracy.
    """
    results = load_results(session, sweep_id, selection).where(Target.ACCURACY)
    columns = _numeric_parameters(results) | {name: results.measures[name] for name in MEASURED}
    matrix = correlate(np.stack(list(columns.values())), method)
    return Correlations(results.coverage, method, list(columns), matrix.coefficients, matrix.counts)


def _numeric_parameters(results: Results) -> dict[str, FloatArray]:
    """Returns kernel sizes, then strides, dilations and all other varied parameters, by layer."""
    depth = results.space.depth
    published = [Parameter(field, layer) for field in CORRELATED_FIELDS for layer in range(depth)]
    varied = [parameter for parameter in results.parameters if parameter.field != "activation"]
    rest = sorted(set(varied) - set(published))
    return {
        str(parameter): results.parameters.get(parameter, np.ones(len(results)))
        for parameter in [*published, *rest]
    }


@dataclass(frozen=True, slots=True)
class ParetoFront:
    """The networks that no other beats in both accuracy and throughput, the fastest first."""

    coverage: Coverage
    front: list[LeaderRow]


def find_pareto_front(session: Session, sweep_id: int, selection: ResultSelection) -> ParetoFront:
    """Returns the Pareto front of accuracy and throughput; equal networks are all on it.

    Raises:
        SweepNotFoundError: there is no such sweep.
        InvalidInputError: nothing was measured on a device of the filters.
        NoResultsError: fewer than two networks have both.
    """
    both = (Target.THROUGHPUT, Target.ACCURACY)
    results = load_results(session, sweep_id, selection).where(*both)
    front = pareto_front(*(results.measures[name] for name in both))
    ids = results.measures["id"][front].astype(np.int64).tolist()
    networks = select_networks(session, ids, results.scale)
    return ParetoFront(results.coverage, [networks[job_id] for job_id in ids])
