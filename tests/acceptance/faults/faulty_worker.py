"""A worker whose engine is slow, or whose device fails at one architecture, by a plan.

The plan is JSON in FAULT_PLAN: ``pace_s`` (seconds that a job takes on top), ``poison`` (layers as
[kernel_size, stride, dilation]; the last one is where it fails), ``fault`` (see ``_fail``),
``times`` (how often at most). The failure comes out of PyTorch's convolution, as a device's would;
what it means the engine decides as for a CUDA device, and all of our own code is the real one.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from shared.domain.architecture import Architecture
from shared.domain.measurements import JobOutcome
from shared.settings import get_settings
from worker.engine.faults import classify
from worker.evaluation.request import GroupRequest, evaluate_on_device
from worker.process import run_worker

PLAN: dict[str, Any] = json.loads(os.environ["FAULT_PLAN"])
POISON = [tuple(layer) for layer in PLAN.get("poison", [])]
CUDA = torch.device("cuda")
ILLEGAL_ACCESS = "CUDA error: an illegal memory access was encountered"
_armed = threading.Event()
_failures: list[float] = []
_convolve: Callable[..., Tensor] = functional.conv2d


def _fail(fault: str) -> None:
    if len(_failures) >= PLAN.get("times", 10**9):
        return
    _failures.append(time.monotonic())
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "exit":
        os._exit(139)
    if fault == "hang":
        time.sleep(3600)
    if fault == "out_of_memory":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
    if fault == "no_host_memory":
        torch.empty(2**60, dtype=torch.uint8)
    if fault == "illegal_access":
        classify(torch.AcceleratorError(ILLEGAL_ACCESS), CUDA)
    if fault == "vanished":
        torch.cuda.synchronize = _no_device  # type: ignore[assignment]
        classify(torch.AcceleratorError("CUDA error: unknown error"), CUDA)


def _no_device(_device: object = None) -> None:
    raise torch.AcceleratorError("CUDA error: no CUDA-capable device is detected")


def _faulty_convolution(images: Tensor, weight: Tensor, *arguments: Any, **named: Any) -> Tensor:
    """PyTorch's convolution, failing at the layer of the plan while its group runs."""
    _, stride, _, dilation = (*arguments, None, 1, 0, 1)[: len(arguments)][:4]
    at = (weight.shape[-1], stride, dilation)
    if not (_armed.is_set() and weight.shape[1] > 1 and at == POISON[-1]):
        return _convolve(images, weight, *arguments, **named)
    _fail(PLAN["fault"])
    output = _convolve(images, weight, *arguments, **named)
    return output * float("nan") if PLAN["fault"] == "nan" else output


def _is_poison(architecture: Architecture) -> bool:
    layers = [(one.kernel_size, one.stride, one.dilation) for one in architecture.layers]
    return bool(POISON) and layers == POISON


def evaluate(request: GroupRequest) -> list[JobOutcome]:
    """The real engine, slower and with the faults of the plan."""
    half_s = PLAN.get("pace_s", 0) * len(request.architectures) / 2
    _linger(half_s, request.on_progress)
    if any(_is_poison(architecture) for architecture in request.architectures):
        _armed.set()
    try:
        outcomes = evaluate_on_device(request)
    finally:
        _armed.clear()
    _linger(half_s, request.on_progress)
    return outcomes


def _linger(seconds: float, on_progress: Callable[[], None]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        on_progress()
        time.sleep(0.02)


if __name__ == "__main__":
    functional.conv2d = _faulty_convolution  # type: ignore[assignment]
    raise SystemExit(run_worker(get_settings(), evaluate))
