"""The stopwatch against the wall clock, on this GPU and on another one."""

import time

import torch

from bench.gpu_day.day import SKIPPED_ON_CPU, Day, Figures
from worker.engine.stopwatch import Stopwatch

PRODUCTS = 20
AGREEING = (0.5, 1.2)  # seconds of the stopwatch over those of the wall


def check_stopwatch(day: Day) -> Figures:
    """Measures work that takes a while; the stopwatch must agree with the wall clock."""
    return compare_clocks(day.device, 500 if day.small else 2000)


def check_second_gpu(day: Day) -> Figures:
    """Measures on another GPU while this one is PyTorch's current device."""
    if not day.on_cuda:
        return SKIPPED_ON_CPU
    if torch.cuda.device_count() < 2:
        return {"skipped": "this machine has one GPU"}
    other = torch.device("cuda", (day.device.index + 1) % torch.cuda.device_count())
    return compare_clocks(other, 2000)


def compare_clocks(device: torch.device, size: int) -> Figures:
    """Returns the seconds of the stopwatch and of the wall for the same products."""
    matrix = torch.rand(size, size, device=device)
    _ = matrix @ matrix
    _wait(device)
    started = time.perf_counter()
    watch = Stopwatch(device)
    for _ in range(PRODUCTS):
        _ = matrix @ matrix
    stopwatch_s = watch.stop().seconds()
    _wait(device)
    wall_s = time.perf_counter() - started
    low, high = AGREEING
    return {
        "stopwatch_s": stopwatch_s,
        "wall_s": wall_s,
        "ok": low < stopwatch_s / wall_s < high,
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
