"""Correlation of columns in which values may be missing, and agreement of two rankings."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from services.analysis.statistics.intervals import Interval, mean_interval
from shared.domain.arrays import BoolArray, FloatArray, IntArray
from shared.domain.results.choices import CorrelationMethod


@dataclass(frozen=True, slots=True)
class CorrelationMatrix:
    """Coefficients (k, k), NaN where a column does not vary, and on how many rows each rests."""

    coefficients: FloatArray
    counts: IntArray


def correlate(columns: FloatArray, method: CorrelationMethod) -> CorrelationMatrix:
    """Returns the correlation of every two rows of ``columns`` (k, n), NaN being a missing value.

    Each coefficient rests on the places where both have a value; Spearman ranks only these, ties
    at their mean rank. It is NaN where one of the two is constant there, or fewer than two remain.
    """
    present = np.isfinite(columns)
    size = len(columns)
    matrix = CorrelationMatrix(np.full((size, size), np.nan), np.zeros((size, size), np.int64))
    for first, second, places in _blocks(present):
        members = np.union1d(first, second)
        block = _coefficients(columns[np.ix_(members, np.flatnonzero(places))], method)
        rows, cols = np.searchsorted(members, first), np.searchsorted(members, second)
        inner = block[np.ix_(rows, cols)]
        for target, values in ((matrix.coefficients, inner), (matrix.counts, places.sum())):
            target[np.ix_(first, second)] = values
            target[np.ix_(second, first)] = np.transpose(values)
    return matrix


def _blocks(present: BoolArray) -> Iterator[tuple[IntArray, IntArray, BoolArray]]:
    """Yields columns that lack values in the same places, two such sets at a time."""
    alike: dict[bytes, list[int]] = {}
    for number, row in enumerate(present):
        alike.setdefault(row.tobytes(), []).append(number)
    for a, b in combinations_with_replacement(map(np.array, alike.values()), 2):
        yield a, b, present[a[0]] & present[b[0]]


def _coefficients(columns: FloatArray, method: CorrelationMethod) -> FloatArray:
    if columns.shape[1] < 2:
        return np.full((len(columns), len(columns)), np.nan)
    if method is CorrelationMethod.SPEARMAN:
        from scipy.stats import rankdata

        columns = rankdata(columns, axis=1)
    constant = columns.min(axis=1) == columns.max(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # constant columns, put right below
        coefficients = np.atleast_2d(np.corrcoef(columns))
    coefficients[constant, :] = coefficients[:, constant] = np.nan
    return coefficients


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two measurements of the same things agree; None where nothing can be said."""

    spearman: float | None
    kendall: float | None
    difference: Interval | None  # of the first less the second


def compare_rankings(first: FloatArray, second: FloatArray) -> Agreement:
    """Returns rank correlations and the mean difference of two columns (n,) without gaps.

    Kendall's is tau-b, which counts ties on neither side.
    """
    if len(first) < 2:
        return Agreement(None, None, None)
    difference = mean_interval(first - second)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return Agreement(None, None, difference)
    from scipy.stats import kendalltau

    matrix = correlate(np.stack([first, second]), CorrelationMethod.SPEARMAN)
    tau = float(kendalltau(first, second).statistic)
    return Agreement(float(matrix.coefficients[0, 1]), tau, difference)
