"""Groups as trees: each network gets the results that it has by itself, and one outcome."""

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from shared.domain.architecture import Architecture
from shared.domain.measurements import JobOutcome, Reason, ThroughputSource
from shared.domain.protocol import Gates, Timing, Weights, WeightSharing
from shared.domain.status import JobStatus
from tests.engine.networks import (
    CPU,
    digits,
    digits_protocol,
    evaluate,
    layer,
    mixed_group,
    right_answers,
    tuned,
)
from worker.engine import forward
from worker.engine.cpu.spectral import convolve
from worker.engine.data.datasets import Dataset
from worker.engine.evaluate import evaluate_group

MIB = 2**20
IMAGES = 200


def differing(first: JobOutcome, second: JobOutcome) -> int:
    """Returns how many validation images, over all trials, have another answer."""
    pairs = zip(first.trials, second.trials, strict=True)
    return sum(
        int(
            (
                right_answers(one.correct_bits, IMAGES) != right_answers(two.correct_bits, IMAGES)
            ).sum()
        )
        for one, two in pairs
    )


def share_differing(first: list[JobOutcome], second: list[JobOutcome]) -> float:
    pairs = list(zip(first, second, strict=True))
    return sum(differing(one, two) for one, two in pairs) / (len(pairs) * 2 * IMAGES)


@pytest.mark.parametrize("scope", list(WeightSharing))
def test_by_itself_in_a_group_reordered_or_in_chunks_a_trial_answers_the_same(
    scope: WeightSharing,
) -> None:
    """Except for at most 0.1 % of images."""
    protocol = digits_protocol(weights=Weights(scope=scope))
    group, trials = mixed_group(), range(2)
    together = evaluate(group, protocol, trials)
    separate = [evaluate([architecture], protocol, trials)[0] for architecture in group]
    assert share_differing(together, separate) <= 0.001
    order = random.Random(3).sample(range(len(group)), len(group))
    shuffled = evaluate([group[place] for place in order], protocol, trials)
    assert share_differing([together[place] for place in order], shuffled) <= 0.001
    for budget in (MIB // 8, MIB, 4 * MIB):
        chunked = evaluate(group, protocol, trials, memory_budget_bytes=budget)
        assert share_differing(together, chunked) <= 0.001


@pytest.mark.parametrize("slowdown", [0.0, math.inf])
def test_every_layer_is_computed_once_per_trial_and_image(
    slowdown: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every layer in the frequency domain, where products cost nothing, and none of them there."""
    images: list[int] = []
    conv2d = functional.conv2d

    def counting(chunk: torch.Tensor, *arguments: Any) -> torch.Tensor:
        images.append(len(chunk))
        return conv2d(chunk, *arguments)

    def counting_spectra(spectra: torch.Tensor, *arguments: Any) -> torch.Tensor:
        images.append(spectra.shape[2])
        return convolve(spectra, *arguments)

    monkeypatch.setattr(functional, "conv2d", counting)
    monkeypatch.setattr(forward, "convolve", counting_spectra)
    protocol = digits_protocol(weights=Weights(scope=WeightSharing.PREFIX))
    group = mixed_group()
    evaluate(group, protocol, tuning=tuned(slowdown))
    prefixes = {a.layers[:depth] for a in group for depth in range(1, len(a.layers) + 1)}
    assert sum(images) == len(prefixes) * (120 + 200)


def test_a_trial_needs_no_earlier_trial() -> None:
    protocol = digits_protocol()
    group = mixed_group()
    both = evaluate(group, protocol, range(2))
    second = evaluate(group, protocol, range(1, 2))
    assert [o.trials[1].correct_bits for o in both] == [o.trials[0].correct_bits for o in second]
    assert [outcome.trials[0].trial for outcome in second] == [1] * len(group)


def test_jobs_get_exactly_the_trials_they_still_need() -> None:
    protocol = digits_protocol()
    group = mixed_group()[:3]
    wanted = [range(3), range(2, 4), range(1, 1)]
    outcomes = evaluate_group(group, wanted, digits(protocol), protocol, CPU)
    assert [[result.trial for result in outcome.trials] for outcome in outcomes] == [
        [0, 1, 2], [2, 3], [],
    ]  # fmt: skip


def test_results_count_right_answers_on_both_splits() -> None:
    protocol = digits_protocol(validation_images=203)
    (outcome,) = evaluate(mixed_group()[:1], protocol)
    (result,) = outcome.trials
    assert outcome.status is JobStatus.COMPLETED
    assert len(result.correct_bits) == 26
    assert result.accuracy == right_answers(result.correct_bits, 203).mean()
    assert 0.5 < result.accuracy <= result.train_accuracy <= 1
    assert result.fit_s > 0
    assert result.throughput is None


def test_networks_that_do_not_fit_or_miss_the_ratio_are_invalid_with_their_reason() -> None:
    gates = Gates(min_ratio=0.1, max_ratio=1.0)
    group = [
        Architecture((layer(8, 9, 1, 3),)),
        Architecture((layer(9, 9),)),
        Architecture((layer(1, 9, 3),)),
        Architecture((layer(3, 9),)),
    ]
    outcomes = evaluate(group, digits_protocol(gates=gates))
    assert [(outcome.status, outcome.reason) for outcome in outcomes] == [
        (JobStatus.INVALID, Reason.INVALID_SHAPE),
        (JobStatus.INVALID, Reason.RATIO_ABOVE_MAXIMUM),
        (JobStatus.INVALID, Reason.RATIO_BELOW_MINIMUM),
        (JobStatus.COMPLETED, None),
    ]
    assert not any(outcome.trials for outcome in outcomes[:3])


def test_the_first_trial_below_the_accuracy_gate_ends_the_job_and_is_kept() -> None:
    group = mixed_group()
    free = evaluate(group, digits_protocol(), range(6))
    gate = float(np.median([result.accuracy for outcome in free for result in outcome.trials]))
    protocol = digits_protocol(gates=Gates(min_accuracy=gate), trials=6)
    gated = evaluate(group, protocol, range(6))
    for all_trials, outcome in zip(free, gated, strict=True):
        accuracies = [result.accuracy for result in all_trials.trials]
        missed = next((i for i, accuracy in enumerate(accuracies) if accuracy < gate), None)
        assert len(outcome.trials) == (6 if missed is None else missed + 1)
        rejected = (JobStatus.REJECTED, Reason.ACCURACY_BELOW_MINIMUM)
        expected = rejected if missed is not None else (JobStatus.COMPLETED, None)
        assert (outcome.status, outcome.reason) == expected


def test_trials_beyond_those_of_the_protocol_reject_no_network() -> None:
    gates = Gates(min_accuracy=1, min_throughput=1e9)
    timing = Timing(batch_size=4, max_s=0.02, device_model="this one")
    protocol = digits_protocol(gates=gates, timing=timing, trials=2)
    for outcome in evaluate(mixed_group()[:2], protocol, range(2, 5)):
        assert outcome.status is JobStatus.COMPLETED
        assert len(outcome.trials) == 3
        throughput = outcome.trials[0].throughput
        assert throughput is not None
        assert throughput.source is ThroughputSource.MEASURED
    for outcome in evaluate(mixed_group()[:2], protocol, range(1, 5)):
        assert outcome.status is JobStatus.REJECTED
        assert len(outcome.trials) == 1


@pytest.mark.parametrize("screening", [True, False])
def test_the_throughput_gate_rejects_and_says_how_it_was_measured(screening: bool) -> None:
    timing = Timing(batch_size=4, max_s=0.02, screening=screening, device_model="this one")
    gates = Gates(min_throughput=1e9)
    (outcome,) = evaluate(mixed_group()[:1], digits_protocol(timing=timing, gates=gates), range(3))
    assert (outcome.status, outcome.reason) == (
        JobStatus.REJECTED, Reason.THROUGHPUT_BELOW_MINIMUM,
    )  # fmt: skip
    (result,) = outcome.trials
    assert result.throughput is not None
    wanted = ThroughputSource.SCREENED if screening else ThroughputSource.MEASURED
    assert result.throughput.source is wanted
    assert (result.throughput.runs == 0) == screening


def test_without_a_named_model_the_throughput_gate_rejects_nothing_and_all_is_measured() -> None:
    timing, gates = Timing(batch_size=4, max_s=0.02), Gates(min_throughput=1e9)
    (outcome,) = evaluate(mixed_group()[:1], digits_protocol(timing=timing, gates=gates), range(3))
    assert outcome.status is JobStatus.COMPLETED
    assert len(outcome.trials) == 3
    assert outcome.trials[0].throughput is not None
    assert outcome.trials[0].throughput.source is ThroughputSource.MEASURED


@pytest.mark.parametrize("gate", [None, 1e9])
def test_networks_that_others_have_probed_are_only_timed_and_gated(gate: float | None) -> None:
    timing = Timing(batch_size=4, max_s=0.02, device_model="this one", screening=False)
    protocol = digits_protocol(timing=timing, gates=Gates(min_throughput=gate))
    for outcome in evaluate(mixed_group()[:2], protocol, range(2, 2)):
        assert outcome.trials == ()
        assert outcome.timing is not None
        assert outcome.timing.source is ThroughputSource.MEASURED
        wanted = JobStatus.COMPLETED if gate is None else JobStatus.REJECTED
        assert outcome.status is wanted


def test_an_architecture_is_timed_once_because_weights_do_not_change_its_speed() -> None:
    protocol = digits_protocol(timing=Timing(batch_size=4, max_s=0.02), gates=Gates())
    (outcome,) = evaluate(mixed_group()[:1], protocol, range(1, 4))
    assert [result.throughput is not None for result in outcome.trials] == [True, False, False]


def test_far_above_the_gate_the_whole_network_is_measured() -> None:
    timing = Timing(batch_size=4, max_s=0.02, device_model="this one")
    protocol = digits_protocol(timing=timing, gates=Gates(min_throughput=0.001))
    (outcome,) = evaluate(mixed_group()[:1], protocol, range(2))
    assert outcome.status is JobStatus.COMPLETED
    assert outcome.trials[0].throughput is not None
    assert outcome.trials[0].throughput.source is ThroughputSource.MEASURED


def damaged(dataset: Dataset, **changes: torch.Tensor) -> Dataset:
    return replace(dataset, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_fail_with_architecture_trial_and_cause(value: float) -> None:
    protocol = digits_protocol()
    dataset = digits(protocol)
    images = dataset.train_images.clone()
    images[3, 0, -1, -1] = value  # the last pixel: a stride of 3 from 0 on never reads it
    group = [Architecture((layer(2, 3),)), Architecture((layer(2, 3, 4),))]
    outcomes = evaluate_group(
        group, [range(1, 3)] * 2, damaged(dataset, train_images=images), protocol, CPU
    )
    assert (outcomes[0].status, outcomes[0].reason) == (JobStatus.FAILED, Reason.NON_FINITE)
    assert outcomes[0].error is not None
    for part in (str(group[0]), "trial 1", "not finite"):
        assert part in outcomes[0].error
    assert outcomes[0].trials == ()
    assert outcomes[1].status is JobStatus.COMPLETED
    assert len(outcomes[1].trials) == 2


def test_images_and_labels_that_do_not_belong_fail_with_the_cause() -> None:
    protocol = digits_protocol()
    dataset = digits(protocol)
    smaller = damaged(dataset, validation_images=dataset.validation_images[..., 1:])
    outside = damaged(dataset, train_labels=dataset.train_labels + 1)
    for wrong, cause in ((smaller, r"(3, 20, 19) where (3, 20, 20)"), (outside, "outside 0..9")):
        group = mixed_group()[:2]
        for architecture, outcome in zip(
            group, evaluate_group(group, [range(2)] * 2, wrong, protocol, CPU), strict=True
        ):
            assert (outcome.status, outcome.reason) == (JobStatus.FAILED, Reason.ENGINE_ERROR)
            assert outcome.error is not None
            for part in (str(architecture), "trial 0", cause):
                assert part in outcome.error


class StopAskedForError(RuntimeError):
    """What a caller may raise to stop."""


@pytest.mark.parametrize("after", [0, 3, 20])
def test_what_progress_raises_ends_the_evaluation(after: int) -> None:
    calls = 0

    def progress() -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise StopAskedForError

    with pytest.raises(StopAskedForError):
        evaluate(mixed_group(), digits_protocol(), range(3), on_progress=progress)
    assert calls == after + 1
