"""Throughput: whole unshared networks timed alone on the device, and cheap sums of layer times."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shared.domain.architecture import Architecture, LayerConfig
from shared.domain.measurements import Throughput, ThroughputSource
from shared.domain.protocol import Precision, Timing
from worker.engine.device_access import Progress
from worker.engine.layers import (
    activation_module,
    make_conv,
    network_shapes,
    torch_memory_format,
)
from worker.engine.stopwatch import Stopwatch
from worker.engine.tree import Shape

NEAR_GATE = 0.3  # estimates within this share of the gate are never trusted
WARM_UP_RUNS = 3
MIN_RUNS = 7
LEAST_RUNS = 3  # however little time there is: one run has no spread
MIN_RUN_S = 0.0005  # a shorter run would measure the clock


@contextlib.contextmanager
def arithmetic(precision: Precision) -> Iterator[None]:
    """Sets what products of float32 may be rounded to, and sets it back.

    Meanwhile cuDNN tries its ways to compute a layer once for each of its shapes and remembers the
    fastest.
    """
    wanted = "tf32" if precision is Precision.TF32 else "ieee"
    places: tuple[Any, ...] = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [place.fp32_precision for place in places]
    benchmark = torch.backends.cudnn.benchmark
    try:
        torch.backends.cudnn.benchmark = True
        for place in places:
            place.fp32_precision = wanted
        yield
    finally:
        torch.backends.cudnn.benchmark = benchmark
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value


def measure_throughput(
    network: nn.Module, images: Tensor, timing: Timing, on_progress: Progress
) -> Throughput:
    """Returns images per second of ``network`` on batches of ``timing.batch_size``.

    ``images`` float32 (N, C, H, W) lie on the device to time; they are repeated to fill the batch.
    After warm-up the batch runs until the spread is below ``timing.max_spread``, at least
    ``MIN_RUNS`` times, or until ``timing.max_s`` is over, but never fewer than ``LEAST_RUNS``
    times. The median counts. The caller holds exclusive access to the device.
    """
    batch = _timed_batch(images, timing)
    with torch.inference_mode(), arithmetic(timing.precision):
        median, spread, runs = _time_until_steady(
            _prepare(network, images.device, timing), batch, timing, on_progress
        )
    return Throughput(timing.batch_size / median, spread, runs, ThroughputSource.MEASURED)


class LayerTimes:
    """Seconds per batch of single layers on one device, each measured once and then remembered."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[object, ...], float] = {}

    def __len__(self) -> int:
        return len(self._seconds)

    def estimate(
        self,
        architecture: Architecture,
        input_shape: Shape,
        timing: Timing,
        device: torch.device,
        on_progress: Progress,
    ) -> float:
        """Returns images per second as the sum of the layer times promises; good to some 30 %."""
        shapes = network_shapes(architecture, input_shape)
        assert shapes is not None
        seconds = sum(
            self._layer_seconds(layer, before, timing, device, on_progress)
            for layer, before in zip(architecture.layers, [input_shape, *shapes], strict=False)
        )
        return timing.batch_size / seconds

    def _layer_seconds(
        self,
        layer: LayerConfig,
        input_shape: Shape,
        timing: Timing,
        device: torch.device,
        on_progress: Progress,
    ) -> float:
        options = (timing.batch_size, timing.precision, timing.memory_format)
        key = (str(device), layer, input_shape, *options)
        if key not in self._seconds:
            conv = make_conv(layer, input_shape[0], device)
            for parameter in conv.parameters():
                nn.init.uniform_(parameter, -0.1, 0.1)
            network = nn.Sequential(conv, activation_module(layer.activation))
            images = torch.rand(1, *input_shape, device=device)
            measured = measure_throughput(network.eval(), images, timing, on_progress)
            self._seconds[key] = timing.batch_size / measured.images_per_s
        return self._seconds[key]


LAYER_TIMES = LayerTimes()


def screen_throughput(estimate: float, min_throughput: float) -> Throughput | None:
    """Returns a screened figure where the estimate is hopeless, None where one has to measure."""
    if estimate >= min_throughput * (1 - NEAR_GATE):
        return None
    return Throughput(estimate, 0.0, 0, ThroughputSource.SCREENED)


def _timed_batch(images: Tensor, timing: Timing) -> Tensor:
    repeats = -(-timing.batch_size // len(images))
    batch = images.repeat(repeats, 1, 1, 1)[: timing.batch_size]
    return batch.to(dtype=_dtype(timing), memory_format=torch_memory_format(timing.memory_format))


def _prepare(network: nn.Module, device: torch.device, timing: Timing) -> nn.Module:
    moved = network.to(device=device, dtype=_dtype(timing))
    return moved.to(memory_format=torch_memory_format(timing.memory_format))


def _dtype(timing: Timing) -> torch.dtype:
    return torch.bfloat16 if timing.precision is Precision.BFLOAT16 else torch.float32


def _time_until_steady(
    network: nn.Module, batch: Tensor, timing: Timing, on_progress: Progress
) -> tuple[float, float, int]:
    started = time.monotonic()
    for _ in range(WARM_UP_RUNS):
        repeats = max(1, round(MIN_RUN_S / max(_run_s(network, batch, 1), 1e-9)))
        on_progress()
        if time.monotonic() - started > timing.max_s:
            break
    seconds: list[float] = []
    while True:
        seconds.append(_run_s(network, batch, repeats) / repeats)
        median, spread = _median_and_spread(seconds)
        steady = len(seconds) >= MIN_RUNS and spread < timing.max_spread
        late = time.monotonic() - started > timing.max_s
        if steady or (late and len(seconds) >= LEAST_RUNS):
            break
        on_progress()
    return median, spread, len(seconds)


def _run_s(network: nn.Module, batch: Tensor, repeats: int) -> float:
    watch = Stopwatch(batch.device)
    for _ in range(repeats):
        network(batch)
    return watch.stop().seconds()


def _median_and_spread(seconds: list[float]) -> tuple[float, float]:
    low, median, high = np.percentile(seconds, (25, 50, 75))
    return float(median), float((high - low) / 2 / median)
