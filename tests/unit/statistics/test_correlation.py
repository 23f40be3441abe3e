"""Correlations and the agreement of rankings, against scipy."""

import numpy as np
import pytest
from scipy import stats

from services.analysis.statistics.correlation import compare_rankings, correlate
from shared.domain.arrays import FloatArray
from shared.domain.results.choices import CorrelationMethod

REFERENCES = {
    CorrelationMethod.PEARSON: stats.pearsonr,
    CorrelationMethod.SPEARMAN: stats.spearmanr,
}


def columns(gaps: bool) -> FloatArray:
    """Five columns with ties, of which two lack values in different places."""
    random = np.random.default_rng(1)
    made = random.normal(size=(5, 60))
    made[1] = np.round(made[1] + made[0], 1)
    made[2] = random.integers(0, 3, 60)
    if gaps:
        made[3, :7] = np.nan
        made[4, 5:20] = np.nan
    return made


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("method", list(CorrelationMethod))
def test_every_coefficient_is_scipys_on_the_places_where_both_have_a_value(
    method: CorrelationMethod, gaps: bool
) -> None:
    data = columns(gaps)
    found = correlate(data, method)
    for a in range(len(data)):
        for b in range(len(data)):
            both = np.isfinite(data[a]) & np.isfinite(data[b])
            wanted = REFERENCES[method](data[a, both], data[b, both]).statistic
            assert found.coefficients[a, b] == pytest.approx(wanted, abs=1e-12)
            assert found.counts[a, b] == both.sum()


@pytest.mark.parametrize("method", list(CorrelationMethod))
def test_a_constant_column_correlates_with_nothing_not_even_itself(
    method: CorrelationMethod,
) -> None:
    data = np.stack([np.arange(5.0), np.full(5, 0.1), np.arange(5.0)[::-1]])
    found = correlate(data, method)
    assert np.isnan(found.coefficients[1]).all()
    assert np.isnan(found.coefficients[:, 1]).all()
    assert found.coefficients[0, 2] == pytest.approx(-1)
    assert found.counts.min() == 5


def test_a_single_row_and_a_column_without_values_give_nothing() -> None:
    assert np.isnan(correlate(np.ones((3, 1)), CorrelationMethod.PEARSON).coefficients).all()
    empty = correlate(np.stack([np.arange(4.0), np.full(4, np.nan)]), CorrelationMethod.SPEARMAN)
    assert empty.counts.tolist() == [[4, 0], [0, 0]]
    assert np.isnan(empty.coefficients[:, 1]).all()


def test_agreement_of_two_rankings_is_scipys() -> None:
    random = np.random.default_rng(2)
    first = np.round(random.random(40), 1)  # with ties
    second = np.round(first + 0.3 * random.random(40), 1)
    found = compare_rankings(first, second)
    assert found.spearman == pytest.approx(stats.spearmanr(first, second).statistic)
    assert found.kendall == pytest.approx(stats.kendalltau(first, second).statistic)
    wanted = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert found.difference is not None
    assert (found.difference.low, found.difference.high) == pytest.approx((wanted.low, wanted.high))
    assert found.difference.mean == pytest.approx((first - second).mean())


def test_rankings_of_too_little_or_of_equals_say_nothing() -> None:
    nothing = compare_rankings(np.ones(1), np.ones(1))
    assert (nothing.spearman, nothing.kendall, nothing.difference) == (None, None, None)
    equal = compare_rankings(np.ones(3), np.arange(3.0))
    assert (equal.spearman, equal.kendall) == (None, None)
    assert equal.difference is not None
    assert equal.difference.mean == 0
