"""Intervals of means."""

from dataclasses import dataclass

import numpy as np

from services.statistics import FloatArray, IntArray

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the interval that covers it; ends are None where one value tells no spread."""

    mean: float
    low: float | None
    high: float | None


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
