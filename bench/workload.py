"""What benchmarks run on: groups of the published space, their cost, the speed of the machine."""

import random
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from shared.domain.architecture import Architecture
from shared.domain.protocol import Protocol
from shared.domain.space import SearchSpace, random_cnn_2025
from worker.engine.cpu.products import times_transposed
from worker.engine.data.datasets import Dataset

INPUT_SHAPE = (3, 96, 96)
Group = list[Architecture]
Clock = Callable[[], float]


def valid_group(space: SearchSpace, group: int) -> Group:
    """Returns the valid architectures of one group of the published space."""
    size = space.blocks[0].group_size
    members = (space.architecture(index) for index in range(group * size, (group + 1) * size))
    return [architecture for architecture in members if _valid(architecture)]


def sample_groups(count: int, seed: int = 0, channels: int = 32) -> list[Group]:
    """Returns ``count`` random groups that have valid members."""
    space = random_cnn_2025(channels)
    order = random.Random(seed).sample(range(space.groups), space.groups)
    groups = (valid_group(space, group) for group in order)
    return [group for group, _ in zip(filter(None, groups), range(count), strict=False)]


def widest_group() -> Group:
    """Returns the valid members of the published group whose features are the most in all."""
    space = random_cnn_2025()
    features: dict[int, int] = {}
    for table in space.tables(INPUT_SHAPE):
        valid = table.fits & (table.ratio <= 1)
        for group, count in zip(table.group[valid], table.features[valid], strict=True):
            features[int(group)] = features.get(int(group), 0) + int(count)
    return valid_group(space, max(features, key=lambda group: features[group]))


def noise_dataset(images: int, classes: int = 10) -> Dataset:
    """Returns ``images`` + as many images of noise: cost does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    shape = (images, *INPUT_SHAPE)
    labels = torch.arange(images) % classes
    first, second = (torch.rand(shape, generator=generator) for _ in range(2))
    return Dataset("noise", first, labels, second, labels, classes, "")


def tree_flops(group: Group, protocol: Protocol) -> float:
    """Returns what one trial of a group takes at least: every shared convolution once on every
    image, a symmetric Gram matrix and two thin products per network."""
    images = protocol.train_images + protocol.validation_images
    convolutions: dict[tuple[object, ...], int] = {}
    probes = 0
    for architecture in group:
        measures = architecture.measures(INPUT_SHAPE)
        below = 0
        for depth in range(1, len(architecture.layers) + 1):
            part = Architecture(architecture.layers[:depth])
            total = part.measures(INPUT_SHAPE).flops
            convolutions[part.layers] = total - below
            below = total
        probes += measures.features * (protocol.train_images**2 + 2 * 10 * images)
    return float(sum(convolutions.values()) * images + probes)


def sgemm_flops_per_s(clock: Clock = time.perf_counter, size: int = 2048, runs: int = 5) -> float:
    """Returns the best rate of float32 matrix products that any library here reaches on all cores:
    MKL (``torch.mm``), OpenBLAS (NumPy) or oneDNN."""
    left, right = torch.rand(size, size), torch.rand(size, size)
    products: Sequence[Callable[[], object]] = (
        lambda: left @ right,
        lambda: np.dot(left.numpy(), right.numpy()),
        lambda: times_transposed(left, right),
    )
    best = [min(seconds(product, clock) for _ in range(runs)) for product in products]
    return 2 * size**3 / min(best)


def seconds(run: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """Returns what ``clock`` says a call takes."""
    started = clock()
    run()
    return clock() - started


def _valid(architecture: Architecture) -> bool:
    if architecture.output_shape(INPUT_SHAPE) is None:
        return False
    return architecture.measures(INPUT_SHAPE).ratio <= 1
