"""How the cost of an architecture grows with images and channels, as figures and as a plot."""

import time
from pathlib import Path
from typing import Any

import torch

from bench.workload import Group, noise_dataset, sample_groups
from shared.domain.protocol import Gates, Protocol
from worker.engine.evaluate import evaluate_group

IMAGES = (125, 250, 500, 1000, 2000)
CHANNELS = (8, 16, 32, 64, 128)
GROUP_SEED = 7  # a group of average cost
RUNS = 2


def measure_growth() -> dict[str, Any]:
    """Returns CPU seconds per architecture of one group by images (n + n) and by channels."""
    (group,) = sample_groups(1, GROUP_SEED)
    return {
        "group_prefix": "-".join(layer.key for layer in group[0].prefix),
        "architectures": len(group),
        "cpu_s_by_images": {n: _seconds(group, n) for n in IMAGES},
        "cpu_s_by_channels": {
            channels: _seconds(sample_groups(1, GROUP_SEED, channels)[0], 500)
            for channels in CHANNELS
        },
    }


def plot_growth(figures: dict[str, Any], path: Path) -> None:
    """Writes both curves, on logarithmic axes, as a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    names = ("training images (and as many for validation)", "channels of every layer")
    for axis, key, name in zip(axes, ("images", "channels"), names, strict=True):
        points = figures[f"cpu_s_by_{key}"]
        axis.loglog(list(points), list(points.values()), "o-")
        axis.set_xticks(list(points), [str(point) for point in points])
        axis.minorticks_off()
        axis.set_xlabel(name)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("CPU seconds per architecture")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _seconds(group: Group, images: int) -> float:
    protocol = Protocol(
        dataset="noise", train_images=images, validation_images=images,
        timing=None, gates=Gates(max_ratio=None),
    )  # fmt: skip
    dataset = noise_dataset(images)
    runs = []
    for _ in range(RUNS):
        started = time.process_time()
        evaluate_group(group, [range(1)] * len(group), dataset, protocol, torch.device("cpu"))
        runs.append(time.process_time() - started)
    return round(min(runs) / len(group), 5)
