"""McNemar's test and the bootstrap of a paired difference, against statsmodels and scipy."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from services.analysis.statistics.paired import (
    EXACT_BELOW,
    PairedTest,
    bootstrap_difference,
    count_answers,
    differences,
    mcnemar,
    unpack_bits,
)
from shared.domain.arrays import BoolArray
from shared.domain.errors import NotComparableError


def answers(
    both: int, only_first: int, only_second: int, neither: int
) -> tuple[BoolArray, BoolArray]:
    first = np.repeat([True, True, False, False], [both, only_first, only_second, neither])
    second = np.repeat([True, False, True, False], [both, only_first, only_second, neither])
    return first[None], second[None]


@pytest.mark.parametrize(
    ("b", "c"), [(3, 9), (9, 3), (0, 5), (0, 0), (12, 12), (15, 9), (30, 12), (11, 14), (200, 260)]
)
def test_mcnemar_with_one_trial_is_statsmodels(b: int, c: int) -> None:
    first, second = answers(40, b, c, 20)
    found = mcnemar(differences(first, second))
    exact = b + c < EXACT_BELOW
    wanted = statsmodels_mcnemar([[40, b], [c, 20]], exact=exact, correction=True)
    assert found.test is (PairedTest.EXACT if exact else PairedTest.CHI_SQUARED)
    assert found.statistic == pytest.approx(wanted.statistic)
    assert found.p_value == pytest.approx(wanted.pvalue)
    assert (found.images_for_first, found.images_for_second) == (b, c)


def test_as_many_images_for_either_network_are_no_evidence_at_all() -> None:
    assert mcnemar(differences(*answers(10, 40, 40, 10))).p_value == 1


def test_several_trials_of_an_image_count_as_one_image() -> None:
    first, second = answers(40, 30, 12, 20)
    single = mcnemar(differences(first, second))
    repeated = [np.repeat(one, 5, axis=0) for one in (first, second)]
    again = mcnemar(differences(*repeated))
    assert again.images_for_first == single.images_for_first
    # five equal trials are no more evidence than one; only the correction weighs less
    assert again.statistic == pytest.approx((5 * 18 - 1) ** 2 / (25 * 42))


def test_clustered_statistic_is_near_its_null_distribution() -> None:
    """Over 2,000 pairs of equally good networks p-values are near uniform, on the safe side."""
    random = np.random.default_rng(3)
    skill = random.random(400)  # images are easy or hard for both
    p_values = [
        mcnemar(differences(*(random.random((2, 3, 400)) < skill))).p_value for _ in range(2000)
    ]
    for level in (0.05, 0.2, 0.5):
        assert level - 0.06 < np.mean(np.array(p_values) < level) < level + 0.02


def test_bootstrap_interval_is_scipys_percentile_interval() -> None:
    random = np.random.default_rng(4)
    first, second = random.random((2, 3, 300)) < [[[0.4]], [[0.3]]]
    difference = differences(first, second)
    found = bootstrap_difference(difference, trials=3)
    wanted = stats.bootstrap(
        (difference / 3,), np.mean, method="percentile", n_resamples=20_000, rng=5
    ).confidence_interval
    assert found.mean == pytest.approx(first.mean() - second.mean())
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.003)


def test_bootstrap_gives_the_same_interval_every_time() -> None:
    difference = np.array([1, 0, 0, -1, 1, 2, 0])
    assert bootstrap_difference(difference, 2) == bootstrap_difference(difference, 2)


def test_answers_are_counted_over_trials_and_images() -> None:
    first = np.array([[1, 1, 0, 0], [1, 0, 1, 0]], dtype=bool)
    second = np.array([[1, 0, 1, 0], [0, 0, 0, 0]], dtype=bool)
    found = count_answers(first, second)
    assert (found.both, found.only_first, found.only_second, found.neither) == (1, 3, 1, 3)
    assert differences(first, second).tolist() == [1, 1, 0, 0]


def test_bits_are_read_most_significant_first_without_the_padding() -> None:
    assert unpack_bits(bytes([0b10100000, 0b01111111]), 10).nonzero()[0].tolist() == [0, 2, 9]
    with pytest.raises(NotComparableError, match="1 bytes are not the answers to 9 images"):
        unpack_bits(b"\xff", 9)
