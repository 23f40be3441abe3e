"""Intervals of means. Formulas: docs/protocol.md."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from shared.domain.arrays import FloatArray, IntArray
from shared.domain.protocol import MAX_TRIALS

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the interval that covers it; ends are None for a single value."""

    mean: float
    low: float | None
    high: float | None


class TrialInterval(NamedTuple):
    """Standard error of a mean over trials, and its interval; None for a single trial."""

    error: float | None
    low: float | None
    high: float | None


@lru_cache(maxsize=MAX_TRIALS)
def t_quantile(trials: int) -> float:
    """Returns the quantile of Student's t for an interval over this number of trials."""
    from scipy.special import stdtrit  # Student's quantiles

    return float(stdtrit(trials - 1, (1 + CONFIDENCE) / 2))


def trial_interval(mean: float | None, sd: float | None, trials: int) -> TrialInterval:
    """Returns sd / sqrt(n), and the mean with t(n - 1) times that to both sides."""
    if mean is None or sd is None or trials < 2:
        return TrialInterval(None, None, None)
    error = sd / math.sqrt(trials)
    reach = t_quantile(trials) * error
    return TrialInterval(error, mean - reach, mean + reach)


def mean_interval(values: FloatArray) -> Interval:
    """Returns the mean of ``values`` (n,), n > 0, with Student's interval."""
    means, half = mean_intervals(np.zeros(len(values), np.int64), values, 1)
    return interval(float(means[0]), float(half[0]))


def interval(mean: float, half_width: float) -> Interval:
    """Returns an interval around a mean; a half-width of NaN leaves the ends open."""
    if np.isnan(half_width):
        return Interval(mean, None, None)
    return Interval(mean, mean - half_width, mean + half_width)


def mean_intervals(
    groups: IntArray, values: FloatArray, size: int
) -> tuple[FloatArray, FloatArray]:
    """Returns, per group 0 to ``size`` - 1, the mean and the half-width of Student's interval.

    The mean of an empty group is NaN, and the half-width of a group of fewer than two.
    """
    from scipy.special import stdtrit  # Student's quantiles

    counts = np.bincount(groups, minlength=size)
    with np.errstate(invalid="ignore", divide="ignore"):  # groups with too few values
        means = np.bincount(groups, values, size) / counts
        squares = np.bincount(groups, (values - means[groups]) ** 2, size)
        standard_errors = np.sqrt(squares / (counts - 1) / counts)
    enough = counts > 1
    half = np.full(size, np.nan)
    quantiles = stdtrit(counts[enough] - 1, (1 + CONFIDENCE) / 2)
    half[enough] = quantiles * standard_errors[enough]
    return means, half
