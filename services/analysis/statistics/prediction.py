"""How well one measurement predicts another: rank correlations and precision at k."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from services.analysis.statistics.correlation import correlate
from services.analysis.statistics.intervals import CONFIDENCE
from shared.domain.arrays import FloatArray, IntArray
from shared.domain.results.choices import CorrelationMethod

Figure = Callable[[FloatArray, FloatArray], float]
RESAMPLES = 1000
SEED = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its percentile bootstrap interval; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a predictor says about an outcome, over the same things."""

    spearman: Estimate
    kendall: Estimate
    precision_at_k: Estimate


def predict(predictor: FloatArray, outcome: FloatArray, k: int) -> Prediction:
    """Returns how well ``predictor`` (n,) foretells ``outcome`` (n,), n >= 2, with 95 % intervals.

    Precision at k is the share of the k greatest outcomes among the k greatest predictions; of
    equal values the earlier count as greater. The bootstrap draws things with replacement, the same
    ones for every predictor of as many things, so that predictors can be compared.
    """
    draws = np.random.default_rng(SEED).integers(0, len(outcome), (RESAMPLES, len(outcome)))
    return Prediction(
        _estimate(_spearman, predictor, outcome, draws),
        _estimate(_kendall, predictor, outcome, draws),
        _estimate(lambda a, b: precision_at(a, b, k), predictor, outcome, draws),
    )


def _estimate(figure: Figure, a: FloatArray, b: FloatArray, draws: IntArray) -> Estimate:
    value = figure(a, b)
    if not np.isfinite(value):
        return Estimate(None, None, None)
    resampled = np.array([figure(a[draw], b[draw]) for draw in draws])
    defined = resampled[np.isfinite(resampled)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(float(value), float(low), float(high))


def _spearman(a: FloatArray, b: FloatArray) -> float:
    return float(correlate(np.stack([a, b]), CorrelationMethod.SPEARMAN).coefficients[0, 1])


def _kendall(a: FloatArray, b: FloatArray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    from scipy.stats import kendalltau

    return float(kendalltau(a, b).statistic)


def precision_at(predictor: FloatArray, outcome: FloatArray, k: int) -> float:
    """Returns the share of the k greatest outcomes among the k greatest predictions."""
    chosen, best = (np.argsort(-values, kind="stable")[:k] for values in (predictor, outcome))
    return len(np.intersect1d(chosen, best)) / k
