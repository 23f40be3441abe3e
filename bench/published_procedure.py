"""The published procedure, written anew from its description, to measure against.

One network at a time, batches of 32 in the default layout, scikit-learn's ridge on the features.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifier
from torch import Tensor, nn

from shared.domain.architecture import Architecture
from shared.domain.protocol import Precision
from worker.engine.data.datasets import Dataset
from worker.engine.timing import arithmetic

BATCH_SIZE = 32


def published_accuracy(
    architecture: Architecture,
    dataset: Dataset,
    device: torch.device,
    precision: Precision = Precision.FLOAT32,
    alpha: float = 1.0,
) -> float:
    """Returns the validation accuracy of one network with fresh random weights.

    ``precision`` is that of products of float32, for which PyTorch's default on CUDA is TF32.

    Source: the random-CNN experiment of 2025-06-17.
    """
    network = _network(architecture, dataset.train_images.shape[1]).to(device)
    with arithmetic(precision):
        train = _features(network, dataset.train_images, device)
        validation = _features(network, dataset.validation_images, device)
    classifier = RidgeClassifier(alpha=alpha).fit(train, dataset.train_labels.numpy())
    return float(classifier.score(validation, dataset.validation_labels.numpy()))


def _network(architecture: Architecture, channels: int) -> nn.Sequential:
    modules: list[nn.Module] = []
    for layer in architecture.layers:
        assert layer.activation == "relu", "the published networks know nothing else"
        modules += [
            nn.Conv2d(
                channels, layer.channels, layer.kernel_size,
                stride=layer.stride, padding=layer.padding, dilation=layer.dilation,
            ),
            nn.ReLU(),
        ]  # fmt: skip
        channels = layer.channels
    return nn.Sequential(*modules, nn.Flatten()).eval()


def _features(network: nn.Module, images: Tensor, device: torch.device) -> NDArray[np.float32]:
    def batches() -> Iterator[NDArray[np.float32]]:
        with torch.no_grad():
            for batch in torch.split(images, BATCH_SIZE):
                yield network(batch.to(device)).cpu().numpy()

    return np.concatenate(list(batches()))
