"""Effects of parameters on a result: means per level, interactions, and shares of variance."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

import numpy as np

from services.analysis.statistics.intervals import mean_intervals
from shared.domain.arrays import FloatArray, IntArray

MAX_COLUMNS = 400  # of a least-squares model with pairwise terms; its cost grows with their square
BLOCK_ROWS = 16_384
_DEPENDENT = 1e-9  # a column adds nothing where less than this of its squares is its own


@dataclass(frozen=True, slots=True)
class Factor:
    """A parameter: which of its levels, 0 to ``size`` - 1, each observation has (n,)."""

    codes: IntArray
    size: int

    def counts(self) -> IntArray:
        return np.bincount(self.codes, minlength=self.size)

    def present(self) -> "Factor":
        """Returns the factor with only the levels that occur, in order."""
        used, codes = np.unique(self.codes, return_inverse=True)
        return Factor(codes.astype(np.int64), len(used))


@dataclass(frozen=True, slots=True)
class Effects:
    """Per level, or per cell (row-major): mean, half-width of its 95 % interval, number, effect.

    What does not occur has a mean and an effect of NaN; one observation has a half-width of NaN.
    """

    means: FloatArray
    half_widths: FloatArray
    counts: IntArray
    effects: FloatArray


def main_effects(factor: Factor, values: FloatArray) -> Effects:
    """Returns the marginal means of a factor; the effect is the mean less the mean of all."""
    means, half_widths = mean_intervals(factor.codes, values, factor.size)
    return Effects(means, half_widths, factor.counts(), means - values.mean())


def interaction(first: Factor, second: Factor, values: FloatArray) -> Effects:
    """Returns the cells of two factors, row-major, rows being levels of the first.

    The effect is cell mean - row mean - column mean + mean of all.
    """
    cells = Factor(first.codes * second.size + second.codes, first.size * second.size)
    means, half_widths = mean_intervals(cells.codes, values, cells.size)
    rows, columns = main_effects(first, values), main_effects(second, values)
    additive = values.mean() + np.add.outer(rows.effects, columns.effects).ravel()
    return Effects(means, half_widths, cells.counts(), means - additive)


class Estimator(StrEnum):
    """How shares of variance come about.

    ``exact``: sums of squares of the complete factorial, which are Sobol's indices.
    ``type_ii``: type II sums of squares of a least-squares model.
    """

    EXACT = "exact"
    TYPE_II = "type_ii"


@dataclass(frozen=True, slots=True)
class Importance:
    """Shares of the variance of a result.

    ``main`` has one share per factor; ``pairs`` one per two factors, empty where pairs are too many
    for a model. ``total`` is what a factor is involved in at all, known for a complete factorial
    by itself. ``explained`` is the share of the whole model.
    """

    estimator: Estimator
    main: list[float]
    pairs: dict[tuple[int, int], float]
    total: list[float] | None
    explained: float


def importance(factors: Sequence[Factor], values: FloatArray) -> Importance | None:
    """Returns each factor's share of the variance of ``values`` (n,); None where they are constant.

    Levels that do not occur are left out.
    """
    if np.ptp(values) == 0:
        return None
    factors = [factor.present() for factor in factors]
    cells = _complete_cells(factors, len(values))
    if cells is None:
        return _type_ii(factors, values)
    return _exact(factors, values, cells)


def _complete_cells(factors: Sequence[Factor], observations: int) -> IntArray | None:
    """Returns each observation's cell where every cell of the factorial occurs exactly once."""
    sizes = tuple(factor.size for factor in factors)
    if not sizes or math.prod(sizes) != observations:
        return None
    cells = np.ravel_multi_index(tuple(factor.codes for factor in factors), sizes)
    return cells if len(np.unique(cells)) == observations else None


def _exact(factors: Sequence[Factor], values: FloatArray, cells: IntArray) -> Importance:
    grid = np.empty(len(values))
    grid[cells] = values - values.mean()
    grid = grid.reshape([factor.size for factor in factors])
    everything = float((grid**2).mean())
    axes = range(grid.ndim)
    means = [_marginal(grid, (axis,)) for axis in axes]
    main = [float((mean**2).mean()) / everything for mean in means]
    pairs = {
        (a, b): float(((_marginal(grid, (a, b)) - means[a] - means[b]) ** 2).mean()) / everything
        for a, b in combinations(axes, 2)
    }
    total = [float(grid.var(axis=axis).mean()) / everything for axis in axes]
    return Importance(Estimator.EXACT, main, pairs, total, sum(main) + sum(pairs.values()))


def _marginal(grid: FloatArray, kept: tuple[int, ...]) -> FloatArray:
    """Returns the means over all axes but those kept, which stay in place."""
    others = tuple(axis for axis in range(grid.ndim) if axis not in kept)
    mean: FloatArray = grid.mean(axis=others, keepdims=True)
    return mean


Term = tuple[int, ...]  # the factors it is made of


def _type_ii(factors: Sequence[Factor], values: FloatArray) -> Importance:
    """Returns shares from the sums of squares that each term adds to those not containing it."""
    terms = _terms(factors)
    unexplained = _normal_equations(factors, values, terms)
    everything = unexplained([])

    def share(term: Term) -> float:
        others = [other for other in terms if not set(term) <= set(other)]
        return max(unexplained(others) - unexplained([*others, term]), 0.0) / everything

    shares = {term: share(term) for term in terms}
    main = [shares[number,] for number in range(len(factors))]
    pairs = {(term[0], term[1]): shares[term] for term in terms if len(term) == 2}
    explained = max(0.0, 1 - unexplained(terms) / everything)
    return Importance(Estimator.TYPE_II, main, pairs, None, explained)


def _terms(factors: Sequence[Factor]) -> list[Term]:
    single: list[Term] = [(number,) for number in range(len(factors))]
    terms = [*single, *combinations(range(len(factors)), 2)]
    width = sum(math.prod(factors[number].size - 1 for number in term) for term in terms)
    return terms if width <= MAX_COLUMNS else single


class _NormalEquations:
    """Least-squares models of a mean and some terms, from the products of all columns.

    ``gram`` (p + 2, p + 2) holds the products of the mean's column, the terms' columns, and the
    result less its mean. The columns are 0, 1 and -1, so their products are exact.
    """

    def __init__(self, gram: FloatArray, columns: dict[Term, range]) -> None:
        self._gram = gram
        self._columns = columns

    def __call__(self, terms: Iterable[Term]) -> float:
        """Returns the sum of squares that a model leaves unexplained."""
        from scipy.linalg import solve_triangular
        from scipy.linalg.lapack import dpstrf

        chosen = [0, *(column for term in terms for column in self._columns[term])]
        products = self._gram[np.ix_(chosen, chosen)]
        factor, pivots, rank, _ = dpstrf(products, tol=_DEPENDENT * products.max())
        used = np.array(chosen)[pivots[:rank] - 1]  # cells that are missing cost columns
        explained = solve_triangular(
            factor[:rank, :rank], self._gram[used, -1], trans="T", check_finite=False
        )
        return float(self._gram[-1, -1] - explained @ explained)


def _normal_equations(
    factors: Sequence[Factor], values: FloatArray, terms: Sequence[Term]
) -> _NormalEquations:
    codings = [np.vstack([np.eye(f.size - 1), -np.ones(f.size - 1)]) for f in factors]
    columns, start = {}, 1
    for term in terms:
        width = math.prod(factors[number].size - 1 for number in term)
        columns[term] = range(start, start + width)
        start += width
    gram = np.zeros((start + 1, start + 1))
    centred = values - values.mean()
    for first in range(0, len(values), BLOCK_ROWS):
        rows = slice(first, first + BLOCK_ROWS)
        coded = [coding[f.codes[rows]] for f, coding in zip(factors, codings, strict=True)]
        block = _model(coded, terms, centred[rows])
        gram += block.T @ block
    return _NormalEquations(gram, columns)


def _model(coded: Sequence[FloatArray], terms: Sequence[Term], values: FloatArray) -> FloatArray:
    height = len(values)
    products = [_product(coded, term).reshape(height, -1) for term in terms]
    return np.hstack([np.ones((height, 1)), *products, values[:, None]])


def _product(coded: Sequence[FloatArray], term: Term) -> FloatArray:
    if len(term) == 1:
        return coded[term[0]]
    first, second = (coded[number] for number in term)
    return first[:, :, None] * second[:, None, :]
