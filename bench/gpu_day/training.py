"""Training: the same losses twice, in three precisions."""

import torch
from torch import Tensor

from bench.gpu_day.day import Day, Figures
from shared.domain.architecture import Architecture, LayerConfig
from shared.domain.protocol import Precision
from shared.domain.recipe import Recipe
from worker.engine.data.datasets import Dataset
from worker.engine.training.loop import Training

EPOCHS = 2
ARCHITECTURE = Architecture(
    tuple(LayerConfig(32, k, s, 1, 0, "relu") for k, s in ((5, 3), (3, 2), (3, 1)))
)


def check_training(day: Day) -> Figures:
    """Trains a network twice in each precision; both trainings must have the same losses."""
    large = day.on_cuda and not day.small
    images = _noise(4096 if large else 128, 512 if large else 32)
    figures = {precision.value: _train_twice(day, images, precision) for precision in Precision}
    return figures | {"ok": all(figure["same_losses"] for figure in figures.values())}


def _train_twice(day: Day, images: Dataset, precision: Precision) -> Figures:
    losses, rates = [], []
    for _ in range(2):
        recipe = Recipe(epochs=EPOCHS, precision=precision, seed=1)
        training = Training(ARCHITECTURE, recipe, images, day.device)
        for _ in range(EPOCHS):
            training.run_epoch(lambda: None)
        losses.append([result.train_loss for result in training.results])
        rates.append(training.results[-1].images_per_s)
    return {"images_per_s": rates[-1], "losses": losses[0], "same_losses": losses[0] == losses[1]}


def _noise(train: int, validation: int) -> Dataset:
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> tuple[Tensor, Tensor]:
        shape = (count, 3, 96, 96)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        return pixels, torch.randint(10, (count,), generator=generator)

    return Dataset("noise", *draw(train), *draw(validation), classes=10, content_hash="")
