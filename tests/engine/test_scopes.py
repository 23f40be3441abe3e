"""Sharing weights changes which draws are compared, not what a network's accuracy is."""

from itertools import combinations

import numpy as np
from scipy import stats

from shared.domain.architecture import Architecture
from shared.domain.protocol import Weights, WeightSharing
from tests.engine.networks import digits_protocol, evaluate, layer

TRIALS = 40
ARCHITECTURES = 10


def test_all_scopes_give_the_same_accuracy_distribution() -> None:
    """Two-sample Kolmogorov-Smirnov per architecture and pair of scopes, p > 0.01 after Holm's
    correction; 40 trials of 10 architectures. The seed is fixed, so the answer is too."""
    tails = [layer(channels, size) for channels in (2, 4, 6, 8, 10) for size in (3, 5)]
    group = [Architecture((layer(4, 5, 2), tail)) for tail in tails]
    samples = {scope: accuracies(group, scope) for scope in WeightSharing}
    p_values = [
        stats.ks_2samp(samples[one][place], samples[two][place]).pvalue
        for one, two in combinations(WeightSharing, 2)
        for place in range(ARCHITECTURES)
    ]
    assert min(holm(p_values)) > 0.01


def test_trials_are_independent_draws() -> None:
    (accuracy,) = accuracies([Architecture((layer(4, 5, 2), layer(4)))], WeightSharing.SIBLINGS)
    assert len(set(accuracy)) > TRIALS // 3
    lagged = np.corrcoef(accuracy[:-1], accuracy[1:])[0, 1]
    assert abs(lagged) < 3 / np.sqrt(TRIALS)


def accuracies(group: list[Architecture], scope: WeightSharing) -> list[list[float]]:
    protocol = digits_protocol(
        weights=Weights(scope=scope), train_images=80, validation_images=300,
        input_shape=(1, 14, 14), trials=TRIALS,
    )  # fmt: skip
    outcomes = evaluate(group, protocol, range(TRIALS))
    return [[result.accuracy for result in outcome.trials] for outcome in outcomes]


def holm(p_values: list[float]) -> list[float]:
    """Returns p-values adjusted for their number."""
    ordered = sorted(p_values)
    return [min(1.0, p * (len(ordered) - rank)) for rank, p in enumerate(ordered)]
