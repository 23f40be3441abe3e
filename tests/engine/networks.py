"""Small groups and protocols that engine tests share."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shared.domain.architecture import Architecture, LayerConfig
from shared.domain.measurements import JobOutcome
from shared.domain.protocol import Gates, Protocol
from worker.engine.cpu.tuning import SPECTRAL_SLOWDOWN, CpuTuning
from worker.engine.data.datasets import Dataset, load_dataset
from worker.engine.evaluate import evaluate_group

CPU = torch.device("cpu")
# Costs of spectral products with which tests about the frequency domain run on every CPU.
SLOWDOWNS = (SPECTRAL_SLOWDOWN, 3.5)
NOWHERE = Path("/nonexistent")


def layer(
    channels: int = 6,
    kernel_size: int = 3,
    stride: int = 1,
    dilation: int = 1,
    padding: int = 0,
    activation: str = "relu",
) -> LayerConfig:
    return LayerConfig(channels, kernel_size, stride, dilation, padding, activation)


def digits_protocol(**changes: Any) -> Protocol:
    """120 + 200 digits of 20 x 20 pixels, no gate but the ratio's, no timing."""
    settings: dict[str, Any] = {
        "dataset": "digits", "train_images": 120, "validation_images": 200,
        "input_shape": (3, 20, 20), "trials": 2, "timing": None, "gates": Gates(),
    }  # fmt: skip
    return Protocol(**(settings | changes))


def digits(protocol: Protocol) -> Dataset:
    return load_dataset(NOWHERE, protocol)


def mixed_group() -> list[Architecture]:
    """Networks of one to four layers that share prefixes, one of them twice, in no tidy order."""
    first, second = layer(4, 5), layer(stride=2)
    tails = [layer(3), layer(4, 5), layer(5, 3, 2), layer(4, 3, 1, 2), layer(6, 1)]
    group = [Architecture((first, second, tail)) for tail in tails]
    group += [
        Architecture((first,)),
        Architecture((first, second)),
        Architecture((first, second, tails[0], layer(2, 3))),
        Architecture((layer(4, 7, 2), tails[1])),
        group[0],
    ]
    return group[::-1]


def evaluate(
    group: list[Architecture], protocol: Protocol, trials: range = range(1), **options: Any
) -> list[JobOutcome]:
    return evaluate_group(group, [trials] * len(group), digits(protocol), protocol, CPU, **options)


def tuned(slowdown: float, threads: int = 2) -> CpuTuning:
    """Returns a CPU of two threads on which spectral products cost ``slowdown``."""
    return CpuTuning(threads, slowdown)


def right_answers(bits: bytes, images: int) -> NDArray[np.bool_]:
    """Returns, per validation image, whether the prediction was right."""
    return np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=images).astype(bool)
