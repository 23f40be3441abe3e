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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms import v2

from shared.domain.architecture import Architecture, LayerConfig
from shared.domain.protocol import MemoryFormat, Precision, Protocol
from shared.domain.recipe import Augment, Recipe, best_epoch
from worker.engine.cpu.allocator import freed_memory_kept
from worker.engine.data.datasets import Dataset, load_dataset, load_training_images
from worker.engine.evaluate import evaluate_group
from worker.engine.training.loop import Training, build_trainable

NETWORKS = {
    "small": ((5, 3, 5), (3, 2, 1), (2, 1, 1)),
    "large": ((9, 3, 5), (3, 1, 1), (1, 1, 1)),  # the published experiment's fifth
}
CLASSES = 10


def network(name: str, channels: int = 32) -> Architecture:
    """Returns one of the published networks."""
    layers = zip(*NETWORKS[name], strict=True)
    return Architecture(tuple(LayerConfig(channels, k, s, d, 0, "relu") for k, s, d in layers))


def noise(images: int, size: int = 96) -> Dataset:
    """Returns random bytes as images: what they show changes no speed.

    Eight to validate for five to train, as STL-10 has.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (images + images * 8 // 5, 3, size, size)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.arange(len(pixels)) % CLASSES
    train, rest = slice(0, images), slice(images, None)
    return Dataset("noise", pixels[train], labels[train], pixels[rest], labels[rest], CLASSES, "")


class PublishedImages(TorchDataset[tuple[Tensor, int]]):
    """Images one at a time, as torchvision's datasets hand them out (PIL), changed on the CPU."""

    def __init__(self, images: Tensor, labels: Tensor, *, augment: bool) -> None:
        self._images, self._labels = images, labels
        first = [v2.TrivialAugmentWide()] if augment else []
        self._change = v2.Compose([*first, v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        stored = self._images[number].permute(1, 2, 0).numpy()
        image = self._change(Image.fromarray(stored))
        return image, int(self._labels[number])


class PublishedWay:
    """A plain PyTorch loop over DataLoaders, float32, default layout."""

    def __init__(
        self, architecture: Architecture, images: Dataset, device: torch.device, workers: int
    ) -> None:
        shape = (3, *images.train_images.shape[2:])
        network = build_trainable(architecture, shape, CLASSES, Recipe())
        self._network, self._device = network.to(device), device
        self._optimizer = torch.optim.AdamW(self._network.parameters(), lr=3e-4)
        train = PublishedImages(images.train_images, images.train_labels, augment=True)
        rest = PublishedImages(images.validation_images, images.validation_labels, augment=False)
        options: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
        self._train_loader = DataLoader(train, batch_size=64, shuffle=True, **options)
        self._validation_loader = DataLoader(rest, batch_size=64, **options)

    def run_epoch(self) -> float:
        """Trains and validates for one epoch; returns the seconds of training only."""
        started = time.perf_counter()
        for images, labels in self._train_loader:
            scores = self._network(images.to(self._device))
            loss = nn.functional.cross_entropy(scores, labels.to(self._device))
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
        self._synchronize()
        trained = time.perf_counter()
        with torch.no_grad():
            for images, labels in self._validation_loader:
                scores = self._network(images.to(self._device))
                nn.functional.cross_entropy(scores, labels.to(self._device)).item()
        return trained - started

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


@dataclass(frozen=True, slots=True)
class Pace:
    """Medians over epochs, in seconds."""

    training: float
    epoch: float


def measure(ways: dict[str, Callable[[], float]], epochs: int) -> dict[str, Pace]:
    """Returns how long epochs of each way take, after one to warm up.

    A way runs an epoch and returns the seconds of training within. The ways take turns, epoch by
    epoch, so that a busy machine slows all of them.
    """
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(1 + epochs):
        for name, run_epoch in ways.items():
            started = time.perf_counter()
            training = run_epoch()
            seconds[name].append((training, time.perf_counter() - started))
    return {
        name: Pace(*(statistics.median(column) for column in zip(*took[1:], strict=True)))
        for name, took in seconds.items()
    }


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns rates of the engine without and with augmentation, and of the published way.

    The published way gets the number of DataLoader processes with which it is fastest. Rates are of
    training only, the speedup of whole epochs, with validation.
    """
    device, images = torch.device(arguments.device), noise(arguments.images)
    architecture = network(arguments.network)
    processes = (0, os.cpu_count() or 1)
    published = {n: PublishedWay(architecture, images, device, n).run_epoch for n in processes}
    ways = {f"published {n}": run_epoch for n, run_epoch in published.items()}
    ways |= {a.value: engine_way(arguments, architecture, images, a) for a in Augment}
    paces = measure(ways, arguments.epochs)
    fastest = min(processes, key=lambda n: paces[f"published {n}"].epoch)
    figures = {
        "network": arguments.network,
        "device": str(device),
        "precision": arguments.precision.value,
        "memory_format": arguments.memory_format.value,
        "images": arguments.images,
        "threads": torch.get_num_threads(),
        "published_way_workers": fastest,
    }
    return figures | rates(
        arguments.images,
        plain=paces[Augment.NONE.value],
        augmented=paces[Augment.TRIVIAL_WIDE.value],
        published=paces[f"published {fastest}"],
    )


def engine_way(
    arguments: argparse.Namespace, architecture: Architecture, images: Dataset, augment: Augment
) -> Callable[[], float]:
    """Returns a function that trains one epoch with the engine and returns its seconds."""
    recipe = Recipe(
        augment=augment, precision=arguments.precision, memory_format=arguments.memory_format
    )
    training = Training(architecture, recipe, images, torch.device(arguments.device))

    def run_epoch() -> float:
        rate = training.run_epoch(lambda: None).images_per_s
        assert rate is not None  # the device is not shared
        return float(arguments.images / rate)

    return run_epoch


def rates(images: int, *, plain: Pace, augmented: Pace, published: Pace) -> dict[str, float]:
    """Returns images per second of each way, and how much faster the engine is."""
    return {
        "images_per_s": round(images / plain.training),
        "images_per_s_augmented": round(images / augmented.training),
        "augmentation_share": round(1 - plain.training / augmented.training, 3),
        "published_way_images_per_s": round(images / published.training),
        "speedup": round(published.epoch / augmented.epoch, 2),
        "speedup_without_validation": round(published.training / augmented.training, 2),
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
    with freed_memory_kept():  # as workers do; the published way profits too
        figures = short_training(arguments) if arguments.short else compare(arguments)
    figures["load_average"] = round(os.getloadavg()[0], 2)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:28} {value}")


if __name__ == "__main__":
    main()
