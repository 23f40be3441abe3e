"""Right numbers: exact float32, the CPU's answers; and hardly a wait for the device."""

import contextlib
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from bench.gpu_day.day import SKIPPED_ON_CPU, Day, Figures
from shared.domain.protocol import Precision
from worker.engine.timing import arithmetic

MOST_ERROR = 3e-6  # relative to the largest value; TF32 is off by about 3e-4
MOST_DIFFERENT = 0.001  # part of all answers
WAITS_PER_TRIAL = 2  # of a group: the copy of its answers is one


def check_exactness(day: Day) -> Figures:
    """Compares float32 convolutions and products with float64; the settings are set back."""
    images = torch.rand(4, 32, 40, 40, device=day.device)
    weight, bias = torch.rand(32, 32, 7, 7, device=day.device) - 0.5, torch.rand(32).to(day.device)
    matrix = torch.rand(300, 20_000, device=day.device) - 0.5
    before = _settings()
    with arithmetic(Precision.FLOAT32):
        convolved = functional.conv2d(images, weight, bias, dilation=2)
        product = matrix @ matrix.T
        fused = _fused(day, images, weight, bias)
    exact = functional.conv2d(images.double(), weight.double(), bias.double(), dilation=2)
    errors = {
        "convolution": _error(convolved, exact),
        "fused_convolution": _error(fused, exact.relu()),
        "product": _error(product, matrix.double() @ matrix.double().T),
    }
    restored = before == _settings()
    exact_enough = max(errors.values()) < MOST_ERROR
    return errors | {"settings_restored": restored, "ok": exact_enough and restored}


def _fused(day: Day, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if not day.on_cuda:
        return functional.conv2d(images, weight, bias, dilation=2).relu()
    return torch.cudnn_convolution_relu(images, weight, bias, (1, 1), (0, 0), (2, 2), 1)


def _error(result: Tensor, exact: Tensor) -> float:
    return float((result - exact).abs().max() / exact.abs().max())


def _settings() -> tuple[str, str, bool]:
    return (
        torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.cudnn.benchmark,
    )


def check_parity(day: Day) -> Figures:
    """Compares answers with those of the CPU, image by image."""
    answers = different = 0
    for group in day.groups(3, 4):
        here, on_cpu = day.predict(group), day.predict(group, device=torch.device("cpu"))
        for ours, theirs in zip(here, on_cpu, strict=True):
            different += int((ours.labels != theirs.labels).sum())
            answers += len(theirs.labels)
    return {"answers": answers, "different": different, "ok": different <= MOST_DIFFERENT * answers}


def check_no_waits(day: Day) -> Figures:
    """Counts, by PyTorch's own check, the operations of two groups that wait for the device."""
    if not day.on_cuda:
        return SKIPPED_ON_CPU
    groups = day.groups(2, 6)
    for group in groups:
        day.predict(group)  # the images are on the device, libraries are ready
    with warnings.catch_warnings(record=True) as waits, _waits_reported():
        warnings.simplefilter("always")
        for group in groups:
            day.predict(group, 1)
    return {
        "waits": [str(wait.message).splitlines()[0] for wait in waits],
        "ok": 0 < len(waits) <= WAITS_PER_TRIAL * len(groups),
    }


@contextlib.contextmanager
def _waits_reported() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("warn")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
