"""Training against the published way: images per second with and without augmentation.

``python -m bench.training --json``; with ``--short --dataset imagenette96 --data-dir DIR`` a short
training beside the probe of the same network.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from shared.architecture import Architecture, LayerConfig
from shared.protocol import MemoryFormat, Precision, Protocol
from shared.training import Augment, Recipe, best_epoch
from worker.engine.datasets import TrainingImages, load_dataset, load_training_images
from worker.engine.training import Training, build_trainable
from worker.engine.tree import evaluate_group
from worker.memory import keep_freed_memory

NETWORKS = {
    "small": ((5, 3, 5), (3, 2, 1), (2, 1, 1)),
    "large": ((9, 3, 5), (3, 1, 1), (1, 1, 1)),  # the published experiment's fifth
}
CLASSES = 10


def network(name: str, channels: int = 32) -> Architecture:
    """Returns one of the published networks."""
    layers = zip(*NETWORKS[name], strict=True)
    return Architecture(tuple(LayerConfig(channels, k, s, d, 0, "relu") for k, s, d in layers))


def noise(images: int, size: int = 96) -> TrainingImages:
    """Returns random bytes as images: what they show changes no speed."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, size, size), dtype=torch.uint8, generator=generator)
    labels = torch.arange(images) % CLASSES
    few = slice(0, 64)
    return TrainingImages("noise", pixels, labels, pixels[few], labels[few], CLASSES, "")


class PublishedImages(Dataset[tuple[Tensor, int]]):
    """Images one at a time, as torchvision's datasets hand them out (PIL), augmented on the CPU."""

    def __init__(self, images: TrainingImages) -> None:
        self._images = images
        self._change = v2.Compose(
            [v2.TrivialAugmentWide(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        )

    def __len__(self) -> int:
        return len(self._images.train_labels)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        stored = self._images.train_images[number].permute(1, 2, 0).numpy()
        image = self._change(Image.fromarray(stored))
        return image, int(self._images.train_labels[number])


class PublishedWay:
    """A plain PyTorch loop over a DataLoader, float32, default layout."""

    def __init__(
        self, architecture: Architecture, images: TrainingImages, device: torch.device, workers: int
    ) -> None:
        shape = (3, *images.train_images.shape[2:])
        network = build_trainable(architecture, shape, CLASSES, Recipe())
        self._network, self._device = network.to(device), device
        self._optimizer = torch.optim.AdamW(self._network.parameters(), lr=3e-4)
        self._loader = DataLoader(
            PublishedImages(images), batch_size=64, shuffle=True, num_workers=workers,
            persistent_workers=workers > 0,
        )  # fmt: skip

    def run_epoch(self) -> None:
        for images, labels in self._loader:
            scores = self._network(images.to(self._device))
            loss = nn.functional.cross_entropy(scores, labels.to(self._device))
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def rates(
    ways: dict[str, Callable[[], object]],
    images: int,
    epochs: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Returns images per second of each way: the median of its epochs, after one to warm up.

    The ways take turns, epoch by epoch, so that a busy machine slows all of them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 + epochs):
        for name, run_epoch in ways.items():
            started = clock()
            run_epoch()
            seconds[name].append(clock() - started)
    return {name: images / statistics.median(took[1:]) for name, took in seconds.items()}


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns rates of the engine without and with augmentation, and of the published way.

    The published way gets the number of DataLoader processes with which it is fastest. With
    ``--cpu-time`` the seconds are those that this process spent computing, so it gets none: that is
    for busy machines, with one thread.
    """
    device, images = torch.device(arguments.device), noise(arguments.images)
    architecture = network(arguments.network)

    def engine(augment: Augment) -> Callable[[], object]:
        recipe = Recipe(
            augment=augment, precision=arguments.precision, memory_format=arguments.memory_format
        )
        training = Training(architecture, recipe, images, device)
        return lambda: training.run_epoch(lambda: None)

    clock = time.process_time if arguments.cpu_time else time.perf_counter
    processes = (0,) if arguments.cpu_time else (0, os.cpu_count() or 1)
    ways = {
        f"published {count}": PublishedWay(architecture, images, device, count).run_epoch
        for count in processes
    } | {augment.value: engine(augment) for augment in Augment}
    found = rates(ways, arguments.images, arguments.epochs, clock)
    fastest = max(processes, key=lambda count: found[f"published {count}"])
    published = found[f"published {fastest}"]
    plain, augmented = found[Augment.NONE], found[Augment.TRIVIAL_WIDE]
    return {
        "network": arguments.network,
        "device": str(device),
        "clock": "CPU time" if arguments.cpu_time else "wall",
        "precision": arguments.precision.value,
        "memory_format": arguments.memory_format.value,
        "images": arguments.images,
        "images_per_s": round(plain),
        "images_per_s_augmented": round(augmented),
        "augmentation_share": round(1 - augmented / plain, 3),
        "published_way_images_per_s": round(published),
        "published_way_workers": fastest,
        "speedup": round(augmented / published, 2),
        "threads": torch.get_num_threads(),
    }


def short_training(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the accuracy of a short training and of the probe of the same network."""
    device, folder = torch.device(arguments.device), Path(arguments.data_dir)
    protocol = Protocol(dataset=arguments.dataset, trials=5, timing=None)
    architecture = network("small")
    probe = evaluate_group(
        [architecture], [range(5)], load_dataset(folder, protocol), protocol, device
    )[0]
    images = load_training_images(folder, protocol, arguments.images)
    recipe = Recipe(
        epochs=arguments.epochs, augment=arguments.augment, learning_rate=arguments.learning_rate,
        precision=arguments.precision, memory_format=arguments.memory_format, warmup_epochs=1,
    )  # fmt: skip
    training = Training(architecture, recipe, images, device)
    started = time.perf_counter()
    while not training.is_complete:
        training.run_epoch(lambda: None)
    seconds = time.perf_counter() - started
    best, last = best_epoch(training.results), training.results[-1]
    probed = statistics.mean(trial.accuracy for trial in probe.trials)
    return {
        "dataset": arguments.dataset,
        "train_images": len(images.train_labels),
        "validation_images": len(images.validation_labels),
        "epochs": arguments.epochs,
        "augment": arguments.augment.value,
        "learning_rate": arguments.learning_rate,
        "seconds": round(seconds, 1),
        "images_per_s": round(statistics.median(r.images_per_s or 0 for r in training.results)),
        "probe_percent": round(100 * probed, 2),
        "last_percent": round(100 * last.validation_accuracy, 2),
        "best_percent": round(100 * best.validation_accuracy, 2),
        "points_above_probe": round(100 * (last.validation_accuracy - probed), 2),
    }


def main() -> None:
    """Runs what the arguments name and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--short", action="store_true", help="a short training beside the probe")
    parser.add_argument(
        "--cpu-time", action="store_true", help="count the time this process computes"
    )
    parser.add_argument("--network", choices=NETWORKS, default="small")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--precision", type=Precision, default=Precision.FLOAT32)
    parser.add_argument("--memory-format", type=MemoryFormat, default=MemoryFormat.CHANNELS_LAST)
    parser.add_argument("--augment", type=Augment, default=Augment.TRIVIAL_WIDE)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir", default=".")
    arguments = parser.parse_args()
    arguments.epochs = arguments.epochs or (30 if arguments.short else 3)
    if arguments.short and arguments.images == parser.get_default("images"):
        arguments.images = 800
    keep_freed_memory()  # as workers do; the published way profits too
    figures = short_training(arguments) if arguments.short else compare(arguments)
    figures["load_average"] = round(os.getloadavg()[0], 2)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:28} {value}")


if __name__ == "__main__":
    main()
