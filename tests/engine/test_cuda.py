"""On a CUDA device: the same answers as on the CPU, the same errors, nothing left behind."""

import pytest
import torch

from shared.domain.protocol import Gates, Timing, Weights, WeightSharing
from shared.domain.status import JobStatus
from tests.engine.networks import digits, digits_protocol, evaluate, mixed_group, right_answers
from worker.engine.evaluate import evaluate_group

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


@pytest.mark.parametrize("scope", list(WeightSharing))
def test_cuda_answers_as_the_cpu_does(scope: WeightSharing) -> None:
    """Except for at most 0.5 % of images: the same draws, another order of sums."""
    protocol = digits_protocol(weights=Weights(scope=scope))
    group = mixed_group()
    there = evaluate_group(
        group, [range(1)] * len(group), digits(protocol), protocol, torch.device("cuda")
    )
    different = 0
    for one, two in zip(evaluate(group, protocol), there, strict=True):
        first, second = (
            right_answers(outcome.trials[0].correct_bits, 200) for outcome in (one, two)
        )
        different += int((first != second).sum())
    assert different <= 0.005 * 200 * len(group)


def test_networks_are_timed_on_cuda() -> None:
    protocol = digits_protocol(timing=Timing(max_s=0.1), gates=Gates(min_throughput=1))
    group = mixed_group()[:2]
    outcomes = evaluate_group(
        group, [range(2)] * 2, digits(protocol), protocol, torch.device("cuda")
    )
    assert all(outcome.status is JobStatus.COMPLETED for outcome in outcomes)
    assert all(outcome.trials[0].throughput for outcome in outcomes)
