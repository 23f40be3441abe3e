"""Two networks on the same images: who is right where, and what that says."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from services.analysis.statistics.intervals import CONFIDENCE, Interval
from shared.domain.arrays import BoolArray, IntArray
from shared.domain.errors import NotComparableError

EXACT_BELOW = 25  # images on which the two differ
RESAMPLES = 10_000
SEED = 0


class PairedTest(StrEnum):
    EXACT = "exact"
    CHI_SQUARED = "chi_squared"


@dataclass(frozen=True, slots=True)
class Answers:
    """How often, over trials and images, both, one or none of two networks are right."""

    both: int
    only_first: int
    only_second: int
    neither: int


@dataclass(frozen=True, slots=True)
class McNemar:
    """McNemar's test over images; the statistic is that of chi-squared, or the smaller count."""

    test: PairedTest
    statistic: float
    p_value: float
    images_for_first: int  # on which the first is right in more trials
    images_for_second: int


def unpack_bits(bits: bytes, images: int) -> BoolArray:
    """Returns per image whether the answer was right, from bits, most significant first.

    Raises:
        NotComparableError: the bits are not the answers to this number of images.
    """
    if len(bits) != -(-images // 8):
        raise NotComparableError(f"{len(bits)} bytes are not the answers to {images} images.")
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=images).astype(bool)


def count_answers(first: BoolArray, second: BoolArray) -> Answers:
    """Returns the four counts over all (trial, image) of two arrays of the same shape."""
    both, either = int((first & second).sum()), int((first | second).sum())
    only_first, only_second = int(first.sum()) - both, int(second.sum()) - both
    return Answers(both, only_first, only_second, first.size - either)


def differences(first: BoolArray, second: BoolArray) -> IntArray:
    """Returns per image in how many more trials the first is right; arrays are (trials, images)."""
    ahead: IntArray = first.sum(axis=0, dtype=np.int64) - second.sum(axis=0, dtype=np.int64)
    return ahead


def mcnemar(difference: IntArray) -> McNemar:
    """Tests whether two networks are right equally often, from ``differences`` per image.

    An image counts once, whatever the number of trials. Below ``EXACT_BELOW`` images that differ it
    is the exact binomial test of how many of them speak for the first; else chi-squared with
    continuity correction, (|sum d| - 1)² / sum d², one degree of freedom. With one trial both are
    McNemar's own.
    """
    for_first, for_second = int((difference > 0).sum()), int((difference < 0).sum())
    discordant = for_first + for_second
    if discordant < EXACT_BELOW:
        from scipy.stats import binomtest

        p_value = binomtest(for_first, discordant).pvalue if discordant else 1.0
        fewer = float(min(for_first, for_second))
        return McNemar(PairedTest.EXACT, fewer, float(p_value), for_first, for_second)
    from scipy.stats import chi2

    excess = max(abs(int(difference.sum())) - 1, 0)
    statistic = excess**2 / int((difference**2).sum())
    p_value = float(chi2.sf(statistic, 1))
    return McNemar(PairedTest.CHI_SQUARED, statistic, p_value, for_first, for_second)


def bootstrap_difference(difference: IntArray, trials: int) -> Interval:
    """Returns the difference of two accuracies and its percentile bootstrap interval over images.

    An image keeps all of its trials in every resample. Images with the same difference are
    interchangeable, so their numbers are drawn from a multinomial distribution, which is the same
    as drawing images one by one. Seeded: the same input gives the same interval.
    """
    values, counts = np.unique(difference, return_counts=True)
    images = len(difference)
    draws = np.random.default_rng(SEED).multinomial(images, counts / images, RESAMPLES)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws @ values / (images * trials), [tail, 1 - tail])
    return Interval(float(difference.sum()) / (images * trials), float(low), float(high))
