"""The engine on a simulated CUDA device: one device per operation, few launches, few waits.

The simulated device computes on the CPU. It cannot show backward passes, which kernels cuDNN
chooses, speed, or errors that a device reports after the call that caused them: for those see
``tests/engine/test_cuda.py`` and ``docs/gpu.md``, on a GPU.
"""

import gc
import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from shared.domain.architecture import Architecture
from shared.domain.errors import DevicePoisonedError
from shared.domain.measurements import JobOutcome
from shared.domain.protocol import Gates, Protocol, Timing, Weights, WeightSharing
from shared.domain.recipe import Recipe
from tests.engine.networks import digits, digits_protocol, evaluate, layer, mixed_group
from tests.engine.simulated_cuda import CUDA_0, CUDA_1, Recorder, simulated_cuda
from worker.engine.budgets import MEMORY_LIMITS
from worker.engine.data.datasets import Dataset
from worker.engine.data.on_device import IMAGES
from worker.engine.evaluate import MIN_MEMORY_BUDGET_BYTES, evaluate_group, predict_trial
from worker.engine.layers import network_shapes
from worker.engine.stopwatch import Stopwatch
from worker.engine.timing import measure_throughput
from worker.engine.training.loop import Training

MIB = 2**20
AMPLE = 2**30
LAUNCHES_PER_NETWORK = 25
WAITS_PER_TRIAL = 2


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """What the process keeps of a device ends with it."""
    yield
    IMAGES.clear()
    MEMORY_LIMITS.forget()


def answers(outcomes: list[JobOutcome]) -> list[bytes]:
    return [trial.correct_bits for outcome in outcomes for trial in outcome.trials]


def evaluate_on(
    device: torch.device, protocol: Protocol, trials: range = range(1), budget: int = AMPLE
) -> list[JobOutcome]:
    group = mixed_group()
    return evaluate_group(
        group, [trials] * len(group), digits(protocol), protocol, device, memory_budget_bytes=budget
    )


@pytest.mark.parametrize("budget", [AMPLE, 2 * MIB, MIB])
@pytest.mark.parametrize("scope", list(WeightSharing))
def test_answers_equal_the_cpus_and_no_operation_mixes_devices(
    scope: WeightSharing, budget: int
) -> None:
    protocol = digits_protocol(weights=Weights(scope=scope))
    expected = answers(evaluate(mixed_group(), protocol))
    with simulated_cuda() as recorder:
        outcomes = evaluate_on(CUDA_0, protocol, budget=budget)
    assert answers(outcomes) == expected
    assert not recorder.mixed


@pytest.mark.parametrize("scope", list(WeightSharing))
def test_a_trial_of_a_group_waits_for_the_device_at_most_twice(scope: WeightSharing) -> None:
    protocol = digits_protocol(weights=Weights(scope=scope))
    dataset, group = digits(protocol), mixed_group()
    with simulated_cuda() as recorder:
        evaluate_group(group, [range(1)] * len(group), dataset, protocol, CUDA_0)
        recorder.waits.clear()  # the images are on the device now
        evaluate_group(group, [range(1, 4)] * len(group), dataset, protocol, CUDA_0)
    assert 0 < recorder.waits.total() <= WAITS_PER_TRIAL * 3, recorder.waits


@pytest.mark.parametrize("scope", list(WeightSharing))
def test_a_network_of_a_mixed_group_takes_at_most_25_launches(scope: WeightSharing) -> None:
    protocol = digits_protocol(weights=Weights(scope=scope))
    with simulated_cuda() as recorder:
        predict_trial(mixed_group(), 0, digits(protocol), protocol, CUDA_0)
    launches = recorder.launches.total() / len(mixed_group())
    assert 1 < launches <= LAUNCHES_PER_NETWORK, recorder.launches


def test_each_layer_shape_meets_one_number_of_images() -> None:
    """cuDNN prepares itself for every (images, input shape, layer): there are no more of them."""
    protocol = digits_protocol()
    with simulated_cuda() as recorder:
        evaluate_on(CUDA_0, protocol, trials=range(2))
    shapes = set()
    for architecture in mixed_group():
        outputs = network_shapes(architecture, protocol.input_shape)
        assert outputs is not None
        shapes |= set(zip(architecture.layers, [protocol.input_shape, *outputs], strict=False))
    assert len(recorder.convolutions) == len(shapes)


def test_every_event_is_recorded_on_the_stream_of_the_measured_device() -> None:
    with simulated_cuda() as recorder:
        torch.cuda.set_device(CUDA_0)
        evaluate_on(CUDA_1, digits_protocol(timing=Timing(max_s=0.01), gates=Gates()))
        assert len(recorder.events) > 2
        assert set(recorder.events) == {CUDA_1}


class Garbage:
    """A cycle, which notes whether a graph is captured as Python collects it."""

    def __init__(self, recorder: Recorder, collected: list[bool]) -> None:
        self.itself = self
        self.recorder, self.collected = recorder, collected

    def __del__(self) -> None:
        self.collected.append(self.recorder.graph is not None)


def test_python_collects_no_garbage_while_a_graph_is_captured() -> None:
    """It would free earlier graphs, for example, which ends the capture."""
    collected: list[bool] = []
    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        with simulated_cuda() as recorder:
            network = nn.Sequential(nn.Conv2d(1, 2, 3, device=CUDA_0)).requires_grad_(False)
            network.register_forward_pre_hook(lambda *_: Garbage(recorder, collected) and None)
            images = torch.rand(4, 1, 8, 8, device=CUDA_0)
            measure_throughput(network, images, Timing(max_s=0.01), lambda: None)
    finally:
        gc.set_threshold(*thresholds)
    assert collected
    assert not any(collected)
    assert gc.isenabled()


def test_a_stopwatch_measures_what_ran_between_its_marks() -> None:
    with simulated_cuda():
        watch = Stopwatch(CUDA_0)
        time.sleep(0.02)
        assert 0.02 <= watch.stop().seconds() < 10


def test_images_are_copied_to_the_device_once_for_sweeps_that_take_turns() -> None:
    protocols = [digits_protocol(seed=seed, train_images=100 + seed) for seed in range(2)]
    datasets, group = [digits(protocol) for protocol in protocols], mixed_group()[:2]
    with simulated_cuda() as recorder:
        for trial in range(3):
            recorder.waits.clear()
            for protocol, dataset in zip(protocols, datasets, strict=True):
                evaluate_group(group, [range(trial, trial + 1)] * 2, dataset, protocol, CUDA_0)
    assert not [place for place in recorder.waits if place.startswith("copy from the host")]


def test_a_budget_that_was_too_large_is_not_tried_again() -> None:
    protocol = digits_protocol()
    expected = answers(evaluate(mixed_group(), protocol))
    with simulated_cuda() as recorder:
        recorder.most_convolved = 100
        assert answers(evaluate_on(CUDA_1, protocol)) == expected
        refused = recorder.refused
        assert answers(evaluate_on(CUDA_1, protocol)) == expected
    assert recorder.refused == refused > 0
    assert MIN_MEMORY_BUDGET_BYTES <= MEMORY_LIMITS.budget(CUDA_1, AMPLE) < AMPLE


def noise_images(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    shape = (count, 3, 16, 16)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return pixels, torch.arange(count) % 4


def epoch_images(training: Training) -> list[Tensor]:
    return [images.clone() for images, _ in training._batches(1)]


def test_training_batches_are_bit_equal_to_the_cpus() -> None:
    images = Dataset("noise", *noise_images(80), *noise_images(40), classes=4, content_hash="")
    architecture, recipe = Architecture((layer(),)), Recipe(epochs=1, seed=3)
    expected = epoch_images(Training(architecture, recipe, images, torch.device("cpu")))
    with simulated_cuda() as recorder:
        training = Training(architecture, recipe, images, CUDA_0)
        batches = [images.cpu() for images, _ in training._batches(1)]
    assert len(batches) == len(expected) > 1
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(batches, expected, strict=True))
    assert not recorder.mixed


def test_a_training_on_a_gpu_hands_over_its_state_on_the_cpu() -> None:
    images = Dataset("noise", *noise_images(40), *noise_images(20), classes=4, content_hash="")
    with simulated_cuda():
        training = Training(Architecture((layer(),)), Recipe(epochs=1), images, CUDA_0)
        tensors = list(training.state()["network"].values())
    assert tensors
    assert all(type(tensor) is Tensor for tensor in tensors)


def test_an_error_of_the_device_while_a_state_is_taken_is_an_engine_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: Tensor) -> Tensor:
        raise RuntimeError("CUDA error: device-side assert triggered")

    images = Dataset("noise", *noise_images(40), *noise_images(20), classes=4, content_hash="")
    with simulated_cuda():
        training = Training(Architecture((layer(),)), Recipe(epochs=1), images, CUDA_0)
        monkeypatch.setattr(Tensor, "cpu", fail)
        with pytest.raises(DevicePoisonedError):
            training.state()


def use_a_cpu_tensor(on_device: Tensor) -> None:
    on_device + torch.ones(4)


def ask_for_a_truth_value(on_device: Tensor) -> None:
    bool(on_device.sum())


def use_a_boolean_mask(on_device: Tensor) -> None:
    on_device[on_device > 0]


def copy_from_the_device(on_device: Tensor) -> None:
    on_device.cpu()


def noted(recorder: Recorder) -> tuple[int, int]:
    return recorder.mixed.total(), recorder.waits.total()


@pytest.mark.parametrize(
    ("defect", "expected"),
    [
        (use_a_cpu_tensor, (1, 0)),
        (ask_for_a_truth_value, (0, 1)),
        (use_a_boolean_mask, (0, 1)),
        (copy_from_the_device, (0, 1)),
    ],
)
def test_planted_defects_are_detected(defect, expected) -> None:  # type: ignore[no-untyped-def]
    with simulated_cuda() as recorder:
        on_device = torch.ones(4, device=CUDA_0)
        assert noted(recorder) == (0, 0)
        defect(on_device)
        assert noted(recorder) == expected


def test_the_simulated_device_refuses_a_wait_while_a_graph_is_captured() -> None:
    with simulated_cuda():
        on_device = torch.ones(4, device=CUDA_0)
        graph = torch.cuda.CUDAGraph()
        with pytest.raises(RuntimeError, match="capturing"), torch.cuda.graph(graph):
            on_device.sum().item()
