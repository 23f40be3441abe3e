"""Throughput: whole unshared networks timed on an idle device, and cheap sums of layer times.

On CUDA a run is the replay of a captured graph of several passes, so that Python, which takes
longer to issue three layers than a large GPU to compute them, is not measured.
"""

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shared.domain.architecture import Architecture, LayerConfig
from shared.domain.measurements import Conditions, Throughput, ThroughputSource
from shared.domain.protocol import Precision, Timing
from worker.engine.device_access import DeviceMeter, Progress
from worker.engine.layers import network_shapes, timed_network, torch_memory_format
from worker.engine.stopwatch import Stopwatch
from worker.engine.tree import Shape

NEAR_GATE = 0.3  # estimates within this share of the gate are never trusted
WARM_UP_RUNS = 3
MIN_RUNS = 7
LEAST_RUNS = 3  # however little time there is: one run has no spread
MIN_RUN_S = 0.0005  # a shorter run would measure the clock
UNSTEADY_SPREAD = 0.2  # something disturbed the device: measure once more
LEAST_CLOCK = 0.75  # of the default one; slower, a GPU protects itself, and its times say little
COOLING_S = (0.05, 0.5, 2.0, 5.0, 10.0)  # pauses before the timings that follow a discarded one
SURE_FACTOR = 10  # a network that must be this many times above the gate needs no estimate
SURE_NETWORKS = 20  # measured ones after which a device's slowest rate is known


@contextlib.contextmanager
def arithmetic(precision: Precision, *, search: bool = True) -> Iterator[None]:
    """Sets what products of float32 may be rounded to, and sets it back.

    With ``search``, cuDNN meanwhile tries its ways to compute a layer once for each of its shapes
    and remembers the fastest; without, it takes the way that its heuristics name.
    """
    rounding = "tf32" if precision is Precision.TF32 else "ieee"
    places: tuple[Any, ...] = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [place.fp32_precision for place in places]
    benchmark = torch.backends.cudnn.benchmark
    try:
        torch.backends.cudnn.benchmark = search
        for place in places:
            place.fp32_precision = rounding
        yield
    finally:
        torch.backends.cudnn.benchmark = benchmark
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value


def measure_throughput(
    network: nn.Module,
    images: Tensor,
    timing: Timing,
    on_progress: Progress,
    *,
    least_runs: int = LEAST_RUNS,
) -> Throughput:
    """Returns images per second of ``network`` on batches of ``timing.batch_size``.

    ``images`` float32 (N, C, H, W) lie on the device to time; they are repeated to fill the batch.
    After warm-up the batch runs until the spread is below ``timing.max_spread``, at least
    ``MIN_RUNS`` times, or until ``timing.max_s`` is over, but never fewer than ``least_runs``
    times. The median counts. If the spread is above ``UNSTEADY_SPREAD``, all of this is done once
    more and the steadier of both counts. The caller holds exclusive access to the device.
    """
    batch = _timed_batch(images, timing)
    with torch.inference_mode(), arithmetic(timing.precision):
        prepared = _prepare(network, images.device, timing)
        passes = _warm_up(prepared, batch, timing, on_progress)
        run, source = _repeated(prepared, batch, passes)
        measure = partial(_time_until_steady, run, batch.device, timing, least_runs, on_progress)
        median, spread, runs = measure()
        if spread > UNSTEADY_SPREAD:
            median, spread, runs = min((median, spread, runs), measure(), key=lambda m: m[1])
    return Throughput(passes * timing.batch_size / median, spread, runs, source)


def time_unthrottled(
    measure: Callable[[], Throughput],
    meter: DeviceMeter,
    on_progress: Progress,
    pauses_s: Sequence[float],
) -> Throughput | None:
    """Returns what ``measure`` does, with the state of the device, or None where it is too slow.

    A timing after which the clock is below ``LEAST_CLOCK`` of the default one is discarded, and
    made again after each of ``pauses_s`` (seconds). Source: nvbench discards likewise.
    """
    for pause_s in (0.0, *pauses_s):
        _rest(pause_s, on_progress)
        before = meter.read()
        throughput = measure()
        conditions = meter.conditions(before, meter.read())
        if not is_throttled(conditions):
            return replace(throughput, conditions=conditions)
    return None


def is_throttled(conditions: Conditions) -> bool:
    """Returns whether a device ran too slowly to be timed; False where its driver does not say."""
    clock, default = conditions.after.clock_mhz, conditions.default_clock_mhz
    return clock is not None and default is not None and clock < LEAST_CLOCK * default


def _rest(pause_s: float, on_progress: Progress) -> None:
    deadline = time.monotonic() + pause_s
    while (left := deadline - time.monotonic()) > 0:
        on_progress()
        time.sleep(min(left, 1.0))


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
        key = (layer, input_shape, *_conditions(device, timing))
        if key not in self._seconds:
            network = timed_network(Architecture((layer,)), input_shape[0], device)
            images = torch.rand(1, *input_shape, device=device)
            measured = measure_throughput(  # for the life of the process: never in few runs
                network, images, timing, on_progress, least_runs=MIN_RUNS
            )
            self._seconds[key] = timing.batch_size / measured.images_per_s
        return self._seconds[key]


LAYER_TIMES = LayerTimes()


class SlowestRates:
    """The slowest FLOP/s at which any network ran on a device, by device and timing.

    Networks that pass the gate on throughput many times over even at that rate need no estimate.
    """

    def __init__(self) -> None:
        self._rates: dict[tuple[object, ...], tuple[float, int]] = {}

    def add(self, device: torch.device, timing: Timing, flops_per_s: float) -> None:
        """Notes a measured network."""
        slowest, count = self._rates.get(_conditions(device, timing), (float("inf"), 0))
        self._rates[_conditions(device, timing)] = min(slowest, flops_per_s), count + 1

    def surely_pass(
        self, device: torch.device, timing: Timing, flops: int, min_throughput: float
    ) -> bool:
        """Returns whether a network of ``flops`` FLOPs an image is far from the gate."""
        slowest, count = self._rates.get(_conditions(device, timing), (0.0, 0))
        return count >= SURE_NETWORKS and slowest > SURE_FACTOR * min_throughput * flops


SLOWEST_RATES = SlowestRates()


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


def _conditions(device: torch.device, timing: Timing) -> tuple[object, ...]:
    return str(device), timing.batch_size, timing.precision, timing.memory_format


def _warm_up(network: nn.Module, batch: Tensor, timing: Timing, on_progress: Progress) -> int:
    """Loads and tunes what the first passes need; returns how many passes make one run.

    The first pass, which may take seconds, decides neither that nor when warm-up ends.
    """
    _run_s(network, batch)
    on_progress()
    started = time.monotonic()
    for _ in range(WARM_UP_RUNS - 1):
        pass_s = _run_s(network, batch)
        on_progress()
        if time.monotonic() - started > timing.max_s:
            break
    return max(1, round(MIN_RUN_S / max(pass_s, 1e-9)))


def _run_s(network: nn.Module, batch: Tensor) -> float:
    watch = Stopwatch(batch.device)
    network(batch)
    return watch.stop().seconds()


def _repeated(
    network: nn.Module, batch: Tensor, passes: int
) -> tuple[Callable[[], None], ThroughputSource]:
    """Returns what sends the batch ``passes`` times through the network, and how."""
    if batch.device.type == "cuda":
        return _capture(network, batch, passes).replay, ThroughputSource.REPLAYED

    def run() -> None:
        for _ in range(passes):
            network(batch)

    return run, ThroughputSource.MEASURED


def _capture(network: nn.Module, batch: Tensor, passes: int) -> torch.cuda.CUDAGraph:
    """Captures passes of a warm network, without ``torch.cuda.graph``, which empties the cache."""
    graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(batch.device)
    side = torch.cuda.Stream(batch.device)  # type: ignore[no-untyped-call]
    side.wait_stream(current)
    with torch.cuda.stream(side), _garbage_kept():
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            for _ in range(passes):
                network(batch)
        finally:
            graph.capture_end()
    current.wait_stream(side)
    graph.replay()  # the first one uploads it
    return graph


@contextlib.contextmanager
def _garbage_kept() -> Iterator[None]:
    """Lets Python collect no garbage meanwhile: what it would free may end a capture.

    Source: https://github.com/pytorch/pytorch/pull/161037.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _time_until_steady(
    run: Callable[[], None],
    device: torch.device,
    timing: Timing,
    least_runs: int,
    on_progress: Progress,
) -> tuple[float, float, int]:
    """Returns median seconds of a run, their spread and how many runs there were."""
    together = MIN_RUNS if device.type == "cuda" else 1  # on CUDA one wait for all
    started = time.monotonic()
    seconds: list[float] = []
    while True:
        seconds += _times(run, device, together)
        median, spread = _median_and_spread(seconds)
        steady = len(seconds) >= MIN_RUNS and spread < timing.max_spread
        late = time.monotonic() - started > timing.max_s
        if steady or (late and len(seconds) >= least_runs):
            return median, spread, len(seconds)
        on_progress()


def _times(run: Callable[[], None], device: torch.device, count: int) -> list[float]:
    watches = []
    for _ in range(count):
        watch = Stopwatch(device)
        run()
        watches.append(watch.stop())
    return [watch.seconds() for watch in watches]


def _median_and_spread(seconds: list[float]) -> tuple[float, float]:
    low, median, high = np.percentile(seconds, (25, 50, 75))
    return float(median), float((high - low) / 2 / median)
