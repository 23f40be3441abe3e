"""Throughputs across devices: drift of one, units of a model, and from one model to another.

Throughputs are images/s and positive. Formulas: docs/protocol.md.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from services.analysis.statistics.correlation import correlate
from shared.domain.arrays import FloatArray, IntArray
from shared.domain.errors import InvalidInputError, NoResultsError
from shared.domain.results.choices import CorrelationMethod

MIN_BRIDGE_ROWS = 40  # networks measured on both models before one predicts the other
MAX_COVERAGE = 0.99
RIDGE = 1e-3  # of standardised features: what is collinear or constant has a solution, too


def speed_change(before: FloatArray, after: FloatArray) -> float:
    """Returns how much faster references (r,) became: the geometric mean of the ratios, less 1.

    -0.08 is 8 % slower.

    Raises:
        InvalidInputError: the two are not throughputs of the same references.
    """
    _check_throughputs(before, after)
    if not before.size:
        raise InvalidInputError("There are no references to compare.")
    return float(np.expm1(np.mean(np.log(after / before))))


def fleet_speeds(runs: Mapping[str, FloatArray]) -> FloatArray:
    """Returns the fleet's throughput of each reference (r,): the median over its units' medians.

    ``runs`` has, per unit of one device model, the throughputs of the same references (runs, r).

    Raises:
        InvalidInputError: the units did not run the same references, or one did not run.
    """
    return np.median(np.stack([*_unit_medians(runs).values()]), axis=0)


def unit_factors(runs: Mapping[str, FloatArray]) -> dict[str, float]:
    """Returns how fast each unit of one device model is relative to the fleet; above 1 is faster.

    ``runs`` is that of ``fleet_speeds``. A unit's median over its runs is divided by the fleet's
    speed, reference by reference; the factor is the geometric mean of these ratios. A throughput
    divided by its unit's factor is that of the fleet.

    Raises:
        InvalidInputError: the units did not run the same references, or one did not run.
    """
    if not runs:
        return {}
    fleet = fleet_speeds(runs)
    return {unit: speed_change(fleet, median) + 1 for unit, median in _unit_medians(runs).items()}


def _unit_medians(runs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    for one in runs.values():
        if one.ndim != 2 or not one.size:
            raise InvalidInputError("Runs of a unit are a table: runs by references.")
        _check_throughputs(one)
    medians: dict[str, FloatArray] = {unit: np.median(one, axis=0) for unit, one in runs.items()}
    _check_throughputs(*medians.values())
    return medians


@dataclass(frozen=True, slots=True)
class CrossModelFit:
    """What throughputs on one device model, and costs, say about throughputs on another.

    ``half_width`` is that of the interval of the logarithm: an interval goes from the prediction
    divided by exp(``half_width``) to the prediction times it. ``rank_correlation`` is Spearman's,
    over networks that were not fitted; None where these do not vary.
    """

    rows: int  # networks measured on both models
    rank_correlation: float | None
    half_width: float
    centre: FloatArray  # of the logarithms of the source's time and the costs
    scale: FloatArray
    weights: FloatArray  # of their powers and products
    intercept: float

    def predict(
        self,
        sources: FloatArray,
        flops: FloatArray,
        bytes_moved: FloatArray,
        launches: FloatArray,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Returns prediction, low and high end of the interval, in images/s; all are (n,)."""
        _check_throughputs(sources, flops, bytes_moved, launches)
        logs = (_log_features(sources, flops, bytes_moved, launches) - self.centre) / self.scale
        middle = np.exp(-(self.intercept + _quadratic(logs) @ self.weights))
        reach = math.exp(self.half_width)
        return middle, middle / reach, middle * reach


def fit_across_models(
    sources: FloatArray,
    targets: FloatArray,
    flops: FloatArray,
    bytes_moved: FloatArray,
    launches: FloatArray,
    *,
    seed: int = 0,
    coverage: float = 0.9,
) -> CrossModelFit:
    """Fits throughputs on one model to those of the same networks (n,) on another.

    Ridge regression of the logarithm of the time on the second model, on the logarithms of the time
    on the first, FLOPs, bytes and launches, their squares and products. A random half is fitted;
    the errors on the other half give the interval (split conformal prediction).

    Raises:
        NoResultsError: too few networks; the message says how many more are needed.
        InvalidInputError: a value is not positive, or the columns differ in length.
    """
    _check_throughputs(sources, targets, flops, bytes_moved, launches)
    rows = len(sources)
    _check_rows(rows, coverage)
    order = np.random.default_rng(seed).permutation(rows)
    held, fitted = order[: rows // 2], order[rows // 2 :]
    features = _log_features(sources, flops, bytes_moved, launches)
    centre, scale = features[fitted].mean(axis=0), features[fitted].std(axis=0)
    scale[np.ptp(features[fitted], axis=0) == 0] = 1.0
    products, times = _quadratic((features - centre) / scale), -np.log(targets)
    weights, intercept = _ridge(products, times, fitted)
    predicted = intercept + products[held] @ weights
    errors = np.sort(np.abs(times[held] - predicted))
    ranks = correlate(np.stack([predicted, times[held]]), CorrelationMethod.SPEARMAN)
    agreement = float(ranks.coefficients[0, 1])
    return CrossModelFit(
        rows=rows,
        rank_correlation=agreement if np.isfinite(agreement) else None,
        half_width=float(errors[_quantile_place(len(held), coverage) - 1]),
        centre=centre,
        scale=scale,
        weights=weights,
        intercept=intercept,
    )


def _check_throughputs(*columns: FloatArray) -> None:
    if any(column.shape != columns[0].shape for column in columns):
        raise InvalidInputError("Throughputs and costs must be those of the same networks.")
    if not all(np.all(np.isfinite(column) & (column > 0)) for column in columns):
        raise InvalidInputError("Throughputs and costs must be positive numbers.")


def _check_rows(rows: int, coverage: float) -> None:
    if not 0 < coverage <= MAX_COVERAGE:
        raise InvalidInputError(f"Coverage is at most {MAX_COVERAGE} and above 0, not {coverage}.")
    needed = MIN_BRIDGE_ROWS
    while _quantile_place(needed // 2, coverage) > needed // 2:
        needed += 1
    if rows < needed:
        raise NoResultsError(
            f"{rows} networks were measured on both models; predicting one from the other takes "
            f"{needed}: {needed - rows} more needed."
        )


def _quantile_place(held: int, coverage: float) -> int:
    """Returns which of ``held`` errors, from the smallest, an interval must reach."""
    return math.ceil(round((held + 1) * coverage, 9))  # 0.95 of 20 is not a little more than 19


def _log_features(
    sources: FloatArray, flops: FloatArray, bytes_moved: FloatArray, launches: FloatArray
) -> FloatArray:
    logs: FloatArray = np.log(np.stack([1 / sources, flops, bytes_moved, launches], axis=1))
    return logs


def _quadratic(columns: FloatArray) -> FloatArray:
    """Returns the columns (n, k), their squares and products of two."""
    pairs = combinations_with_replacement(range(columns.shape[1]), 2)
    products = [columns[:, first] * columns[:, second] for first, second in pairs]
    return np.column_stack([columns, *products])


def _ridge(products: FloatArray, times: FloatArray, rows: IntArray) -> tuple[FloatArray, float]:
    """Returns weights and intercept of the ridge regression over some rows."""
    centre, mean = products[rows].mean(axis=0), float(times[rows].mean())
    deviations = products[rows] - centre
    gram = deviations.T @ deviations + RIDGE * np.eye(deviations.shape[1])
    weights: FloatArray = np.linalg.solve(gram, deviations.T @ (times[rows] - mean))
    return weights, mean - float(centre @ weights)
