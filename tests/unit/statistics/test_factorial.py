"""Effects and shares of variance, against statsmodels, scipy and definitions."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from services.analysis.statistics.factorial import (
    Estimator,
    Factor,
    importance,
    interaction,
    main_effects,
)
from services.analysis.statistics.intervals import mean_interval
from shared.domain.arrays import FloatArray

SIZES = (3, 2, 4)
NAMES = ("a", "b", "c")


def full_factorial() -> tuple[list[Factor], FloatArray]:
    """Every cell once, with a result that has effects, interactions and noise."""
    codes = np.array(list(itertools.product(*map(range, SIZES)))).T
    random = np.random.default_rng(6)
    a, b, c = codes
    values = 0.5 * a - b + 0.3 * a * c + random.normal(size=len(a))
    return [Factor(one, size) for one, size in zip(codes, SIZES, strict=True)], values


def some(
    factors: list[Factor], values: FloatArray, kept: FloatArray | np.ndarray
) -> tuple[list[Factor], FloatArray]:
    return [Factor(one.codes[kept], one.size) for one in factors], values[kept]


def anova(factors: list[Factor], values: FloatArray) -> pd.DataFrame:
    frame = pd.DataFrame({n: f.codes for n, f in zip(NAMES, factors, strict=True)} | {"y": values})
    formula = "y ~ (C(a, Sum) + C(b, Sum) + C(c, Sum)) ** 2"
    table: pd.DataFrame = anova_lm(ols(formula, frame).fit(), typ=2)
    return table


def assert_shares_are_anovas(factors: list[Factor], values: FloatArray, digits: float) -> None:
    found, table = importance(factors, values), anova(factors, values)["sum_sq"]
    assert found is not None
    everything = ((values - values.mean()) ** 2).sum()
    for number, name in enumerate(NAMES):
        share = table[f"C({name}, Sum)"] / everything
        assert found.main[number] == pytest.approx(share, rel=digits)
    for a, b in itertools.combinations(range(3), 2):
        share = table[f"C({NAMES[a]}, Sum):C({NAMES[b]}, Sum)"] / everything
        assert found.pairs[a, b] == pytest.approx(share, rel=digits)
    assert found.explained == pytest.approx(1 - table["Residual"] / everything)


def test_shares_of_a_complete_factorial_are_those_of_anova() -> None:
    factors, values = full_factorial()
    found = importance(factors, values)
    assert found is not None
    assert found.estimator is Estimator.EXACT
    assert_shares_are_anovas(factors, values, 1e-9)


def test_shares_of_unbalanced_data_are_those_of_type_ii_anova() -> None:
    factors, values = full_factorial()
    random = np.random.default_rng(7)
    kept = np.sort(random.choice(len(values), 40 * len(values) // 10))  # cells repeat and lack
    unbalanced, results = some(factors, values + 0.0, kept)
    results = results + 0.1 * random.normal(size=len(results))
    found = importance(unbalanced, results)
    assert found is not None
    assert found.estimator is Estimator.TYPE_II
    assert found.total is None
    assert_shares_are_anovas(unbalanced, results, 1e-7)


def test_complete_and_incomplete_ways_agree_where_both_apply() -> None:
    factors, values = full_factorial()
    exact = importance(factors, values)
    twice = importance(*some(factors, values, np.r_[np.arange(24), np.arange(24)]))
    assert exact is not None
    assert twice is not None
    assert twice.estimator is Estimator.TYPE_II
    assert twice.main == pytest.approx(exact.main)
    assert list(twice.pairs.values()) == pytest.approx(list(exact.pairs.values()))


def test_sobol_indices_of_a_known_function_are_exact() -> None:
    """y = x0 + x0 x1 over {-1, 1}³: half the variance each, and x2 has none."""
    codes = np.array(list(itertools.product([0, 1], repeat=3))).T
    x = 2.0 * codes - 1
    found = importance([Factor(one, 2) for one in codes], x[0] + x[0] * x[1])
    assert found is not None
    assert found.main == pytest.approx([0.5, 0, 0])
    assert found.pairs == {(0, 1): pytest.approx(0.5), (0, 2): pytest.approx(0),
                           (1, 2): pytest.approx(0)}  # fmt: skip
    assert found.total == pytest.approx([1, 0.5, 0])
    assert found.explained == pytest.approx(1)


def test_whole_pairs_of_levels_may_be_missing() -> None:
    """As where a large kernel does not fit behind a large stride: sums of squares stay defined."""
    factors, values = full_factorial()
    kept = ~((factors[0].codes == 2) & (factors[2].codes >= 2))
    rest, results = some(factors, values, kept)
    found = importance(rest, results)
    assert found is not None
    terms = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]

    def unexplained(chosen: list[tuple[int, ...]]) -> float:
        columns = [np.ones((len(results), 1))]
        for term in chosen:
            levels = [np.eye(rest[n].size)[rest[n].codes] for n in term]
            product = levels[0] if len(term) == 1 else np.einsum("ni,nj->nij", *levels)
            columns.append(product.reshape(len(results), -1))
        model = np.hstack(columns)
        return float(((results - model @ np.linalg.lstsq(model, results)[0]) ** 2).sum())

    everything = unexplained([])
    for term in terms:
        others = [other for other in terms if not set(term) <= set(other)]
        share = (unexplained(others) - unexplained([*others, term])) / everything
        got = found.main[term[0]] if len(term) == 1 else found.pairs[term[0], term[1]]
        assert got == pytest.approx(share, abs=1e-9)


def test_too_many_pairs_leave_main_effects() -> None:
    random = np.random.default_rng(8)
    factors = [Factor(random.integers(0, 25, 500), 25) for _ in range(3)]
    found = importance(factors, random.normal(size=500))
    assert found is not None
    assert found.pairs == {}
    assert len(found.main) == 3


def test_results_that_do_not_vary_have_no_variance_to_share() -> None:
    factors, values = full_factorial()
    assert importance(factors, np.ones_like(values)) is None


def test_main_effects_are_means_with_students_interval() -> None:
    factors, values = full_factorial()
    found = main_effects(factors[2], values)
    for level in range(4):
        mine = values[factors[2].codes == level]
        low, high = stats.t.interval(0.95, len(mine) - 1, mine.mean(), stats.sem(mine))
        assert found.means[level] == pytest.approx(mine.mean())
        assert found.means[level] - found.half_widths[level] == pytest.approx(low)
        assert found.means[level] + found.half_widths[level] == pytest.approx(high)
        assert found.effects[level] == pytest.approx(mine.mean() - values.mean())
    assert found.counts.tolist() == [6, 6, 6, 6]
    assert found.effects.sum() == pytest.approx(0)


def test_interactions_of_a_complete_factorial_add_up_to_nothing_in_rows_and_columns() -> None:
    factors, values = full_factorial()
    found = interaction(factors[0], factors[2], values)
    table = found.effects.reshape(3, 4)
    assert table.sum(axis=0) == pytest.approx(np.zeros(4))
    assert table.sum(axis=1) == pytest.approx(np.zeros(3))
    cell = values[(factors[0].codes == 1) & (factors[2].codes == 3)]
    rows, columns = (values[factors[n].codes == code] for n, code in ((0, 1), (2, 3)))
    assert found.means[1 * 4 + 3] == pytest.approx(cell.mean())
    assert table[1, 3] == pytest.approx(cell.mean() - rows.mean() - columns.mean() + values.mean())


def test_levels_that_are_missing_or_lonely_are_said_to_be() -> None:
    found = main_effects(Factor(np.array([0, 0, 2]), 3), np.array([1.0, 3.0, 5.0]))
    assert found.counts.tolist() == [2, 0, 1]
    assert np.isnan(found.means).tolist() == [False, True, False]
    assert np.isnan(found.half_widths).tolist() == [False, True, True]


def test_interval_of_one_value_has_open_ends() -> None:
    one = mean_interval(np.array([0.5]))
    assert (one.mean, one.low, one.high) == (0.5, None, None)
