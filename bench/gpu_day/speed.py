"""Rates: convolutions, the solver, whole walks, and throughput with and without CUDA graphs."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.gpu_day.day import PROTOCOL, Day, Figures
from bench.workload import INPUT_SHAPE, Group, sample_groups, tree_flops
from shared.domain.architecture import Architecture
from shared.domain.measurements import Throughput
from shared.domain.protocol import Precision, Timing
from worker.engine.layers import build_network, network_shapes
from worker.engine.timing import arithmetic, measure_throughput

PUBLISHED_LAYER_SHAPES = 1_869  # of the published experiment
PUBLISHED_NETWORKS = 32_021
SAME_RATE = 0.06  # two measurements of one network differ by less
GRAPH_PASSES = 4


def compare_convolutions(day: Day) -> Figures:
    """Compares cuDNN's search with its heuristics: the first call and the rate of last layers."""
    rows = []
    for group in day.groups(2 if day.small else 6, 2, 400e6):
        images, weight, geometry = _last_layer(day, group[0])
        row: Figures = {"images": list(images.shape), "kernel": list(weight.shape)}
        for name, search in (("heuristics", False), ("search", True)):
            # one image fewer: PyTorch remembers what it chose for a shape, searched for or not
            with arithmetic(Precision.FLOAT32, search=search), torch.inference_mode():
                row[name] = _convolution_times(day, images[search:], weight, geometry)
        rows.append(row)
    search_ms = statistics.mean(r["search"]["first_ms"] - r["search"]["ms"] for r in rows)
    return {"rows": rows, "search_s_for_all_shapes": search_ms * PUBLISHED_LAYER_SHAPES / 1000}


def _last_layer(day: Day, architecture: Architecture) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    shapes = network_shapes(architecture, INPUT_SHAPE)
    assert shapes is not None
    layer, shape = architecture.layers[-1], shapes[-2]
    images = torch.rand(len(day.dataset.train_labels), *shape, device=day.device)
    side = layer.kernel_size
    weight = torch.rand(layer.channels, shape[0], side, side, device=day.device)
    return images, weight, (layer.stride, layer.padding, layer.dilation)


def _convolution_times(
    day: Day, images: Tensor, weight: Tensor, geometry: tuple[int, ...]
) -> Figures:
    def convolve() -> Tensor:
        return functional.conv2d(images, weight, None, *geometry)

    day.wait()
    started = time.perf_counter()
    output = convolve()
    day.wait()
    first = time.perf_counter() - started
    steady = day.seconds(convolve, 3)
    flops = 2 * output.numel() * weight[0].numel()
    return {"first_ms": 1e3 * first, "ms": 1e3 * steady, "tflops_per_s": flops / steady / 1e12}


def measure_solver(day: Day) -> Figures:
    """Returns milliseconds of the float64 factorisation and of two ways to solve with it."""
    sizes = [(1, 60), (3, 60)] if day.small else [(1, 500), (24, 500), (256, 500)]
    figures: Figures = {}
    for batch, size in sizes if day.on_cuda else sizes[:2]:
        draw = torch.rand(batch, size, size, dtype=torch.float64, device=day.device)
        kernels = draw @ draw.mT + size * torch.eye(size, dtype=torch.float64, device=day.device)
        codes = torch.rand(batch, size, 10, dtype=torch.float64, device=day.device)
        figures[f"{batch} x {size}"] = _solver_times(day, kernels, codes)
    return figures


def _solver_times(day: Day, kernels: Tensor, codes: Tensor) -> Figures:
    factor = torch.linalg.cholesky_ex(kernels).L

    def solve_triangular() -> Tensor:
        half = torch.linalg.solve_triangular(factor, codes, upper=False)
        solution: Tensor = torch.linalg.solve_triangular(factor.mT, half, upper=True)
        return solution

    ways: dict[str, Callable[[], object]] = {
        "factor_ms": lambda: torch.linalg.cholesky_ex(kernels),
        "cholesky_solve_ms": lambda: torch.cholesky_solve(codes, factor),
        "solve_triangular_ms": solve_triangular,
    }
    return {name: 1e3 * day.seconds(run) for name, run in ways.items()}


def measure_walk(day: Day) -> Figures:
    """Returns the rate of whole groups, and what the whole published space would take."""
    big = day.on_cuda and not day.small
    groups = sample_groups(12, seed=6) if big else day.groups(2, 3)
    networks = sum(map(len, groups))
    first_s, seconds = (_seconds_of_trial(day, groups, trial) for trial in range(2))
    figures = {
        "networks": networks,
        "first_trial_s": first_s,
        "second_trial_s": seconds,
        "ms_per_network": 1e3 * seconds / networks,
        "tflops_per_s": sum(tree_flops(group, PROTOCOL) for group in groups) / seconds / 1e12,
        "s_for_the_published_space_once": seconds / networks * PUBLISHED_NETWORKS,
    }
    return figures | (_profile(day, groups) if day.on_cuda else {})


def _seconds_of_trial(day: Day, groups: list[Group], trial: int) -> float:
    started = time.perf_counter()
    for group in groups:
        day.predict(group, trial)
    return time.perf_counter() - started


def _profile(day: Day, groups: list[Group]) -> Figures:
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        started = time.perf_counter()
        for group in groups:
            day.predict(group, 2)
        wall_s = time.perf_counter() - started
    rows = sorted(profile.key_averages(), key=lambda row: -row.self_device_time_total)
    busy_s = sum(row.self_device_time_total for row in rows) / 1e6
    return {
        "busy_share": busy_s / wall_s,
        "kernels_per_network": sum(row.count for row in rows) / sum(map(len, groups)),
        "slowest_kernels": [
            [row.key[:60], row.count, round(row.self_device_time_total / 1e3, 1)]
            for row in rows[:15]
        ],
        "peak_memory_bytes": torch.cuda.max_memory_allocated(day.device),
    }


def measure_throughputs(day: Day) -> Figures:
    """Measures networks twice as the engine does, and once as a replayed graph of eager passes."""
    timing = Timing(max_s=0.1)
    images = day.dataset.train_images[: timing.batch_size].to(day.device)
    groups = day.groups(1 if day.small else 4, 3, 600e6)
    rows = [_measure_twice(day, a, images, timing) for group in groups for a in group]
    repeated = [abs(row["images_per_s"] / row["again"] - 1) < SAME_RATE for row in rows]
    figures: Figures = {
        "rows": rows,
        "repeatable_share": statistics.mean(repeated),
        "s_per_measurement": statistics.mean(row["again_s"] for row in rows),
    }
    if day.on_cuda:
        bound = [row["graph_images_per_s"] > 1.1 * row["eager_images_per_s"] for row in rows]
        figures["host_bound_share_of_eager_passes"] = statistics.mean(bound)
    return figures


def _measure_twice(day: Day, architecture: Architecture, images: Tensor, timing: Timing) -> Figures:
    network = build_network(architecture, 0, PROTOCOL)
    first, first_s = _measure(network, images, timing)
    again, again_s = _measure(network, images, timing)
    row = {
        "flops": architecture.measures(INPUT_SHAPE).flops,
        "images_per_s": first.images_per_s, "first_s": first_s,
        "again": again.images_per_s, "again_s": again_s,
        "spread": again.spread, "runs": again.runs,
    }  # fmt: skip
    return row | (_eager_and_graph(day, network, images, timing) if day.on_cuda else {})


def _measure(network: nn.Module, images: Tensor, timing: Timing) -> tuple[Throughput, float]:
    started = time.perf_counter()
    throughput = measure_throughput(network, images, timing, lambda: None)
    return throughput, time.perf_counter() - started


def _eager_and_graph(day: Day, network: nn.Module, images: Tensor, timing: Timing) -> Figures:
    with torch.inference_mode(), arithmetic(timing.precision):
        eager_s = day.seconds(lambda: network(images), 20)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(GRAPH_PASSES):
                network(images)
        replay_s = day.seconds(graph.replay, 20)
    return {
        "eager_images_per_s": len(images) / eager_s,
        "graph_images_per_s": GRAPH_PASSES * len(images) / replay_s,
    }
