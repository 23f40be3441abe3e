"""How well predictors foretell an outcome: against scipy, and cases that can be counted."""

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from services.analysis.statistics.prediction import precision_at, predict


def test_figures_are_scipys_and_lie_in_their_intervals() -> None:
    random = np.random.default_rng(1)
    outcome = random.random(30)
    predictor = outcome + 0.4 * random.random(30)
    found = predict(predictor, outcome, 6)
    assert found.spearman.value == pytest.approx(spearmanr(predictor, outcome).statistic)
    assert found.kendall.value == pytest.approx(kendalltau(predictor, outcome).statistic)
    for figure in (found.spearman, found.kendall, found.precision_at_k):
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low <= figure.value <= figure.high  # type: ignore[operator]
        assert figure.low < figure.high
    assert predict(predictor, outcome, 6) == found  # seeded


def test_precision_counts_the_best_among_the_predicted() -> None:
    outcome = np.array([1.0, 2.0, 3.0, 4.0])
    assert precision_at(outcome, outcome, 2) == 1
    assert precision_at(-outcome, outcome, 2) == 0
    assert precision_at(np.array([4.0, 1.0, 2.0, 3.0]), outcome, 2) == 0.5
    assert precision_at(np.zeros(4), outcome, 2) == 0  # of equal ones the earlier come first


def test_a_predictor_that_does_not_vary_has_no_correlation() -> None:
    found = predict(np.ones(5), np.arange(5.0), 2)
    assert found.spearman.value is None
    assert found.kendall.low is None
