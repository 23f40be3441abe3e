"""The engine's predictions against scikit-learn's on the published space, image by image.

``python -m bench.parity --dataset NAME --data-dir DIR --architectures 200``
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifier

from bench.workload import Group, sample_groups
from shared.domain.architecture import Architecture
from shared.domain.protocol import Protocol, Weights, WeightSharing
from worker.engine.data.datasets import Dataset, load_dataset
from worker.engine.evaluate import predict_trial
from worker.engine.layers import build_network

CPU = torch.device("cpu")
BATCH_SIZE = 32
PER_GROUP = 10


def main() -> None:
    """Prints how far the engine and scikit-learn agree."""
    parser = argparse.ArgumentParser(prog="python -m bench.parity", description=__doc__)
    parser.add_argument("--dataset", default="digits", help="digits needs no file")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--architectures", type=int, default=200)
    parser.add_argument(
        "--scope", default="siblings", choices=[scope.value for scope in WeightSharing]
    )
    arguments = parser.parse_args()
    weights = Weights(scope=WeightSharing(arguments.scope))
    protocol = Protocol(dataset=arguments.dataset, timing=None, weights=weights)
    dataset = load_dataset(arguments.data_dir, protocol)
    print(json.dumps(measure_parity(arguments.architectures, dataset, protocol)))


def measure_parity(count: int, dataset: Dataset, protocol: Protocol) -> dict[str, Any]:
    """Returns how many validation predictions agree over ``count`` architectures, one trial each.

    The engine evaluates groups in full. The reference is the unshared network in PyTorch's default
    layout, batches of 32, and ``RidgeClassifier(alpha)`` on its features as float64.
    """
    ours, theirs = [], []
    for group in _groups(count):
        predictions = predict_trial(group, 0, dataset, protocol, CPU)
        for architecture, prediction in list(zip(group, predictions, strict=True))[:PER_GROUP]:
            ours.append(prediction.labels[protocol.train_images :].numpy())
            theirs.append(_reference(architecture, dataset, protocol))
            if len(ours) == count:
                break
    labels = dataset.validation_labels.numpy()
    mine, reference = np.array(ours), np.array(theirs)
    right, right_reference = (mine == labels).mean(axis=1), (reference == labels).mean(axis=1)
    return {
        "architectures": len(mine),
        "predictions": mine.size,
        "predictions_equal_percent": round(100 * float((mine == reference).mean()), 4),
        "mean_accuracy_percent": round(100 * float(right.mean()), 3),
        "mean_accuracy_reference_percent": round(100 * float(right_reference.mean()), 3),
        "mean_difference_points": round(100 * float((right - right_reference).mean()), 4),
        "largest_difference_points": round(100 * float(np.abs(right - right_reference).max()), 2),
    }


def _groups(count: int) -> Iterator[Group]:
    total = 0
    for group in sample_groups(count, seed=3):
        if total >= count:
            return
        yield group
        total += min(len(group), PER_GROUP)


def _reference(
    architecture: Architecture, dataset: Dataset, protocol: Protocol
) -> NDArray[np.int64]:
    network = build_network(architecture, 0, protocol)
    train, validation = (
        torch.cat([network(batch) for batch in torch.split(images, BATCH_SIZE)]).double().numpy()
        for images in (dataset.train_images, dataset.validation_images)
    )
    classifier = RidgeClassifier(alpha=protocol.ridge_alpha)
    classifier.fit(train, dataset.train_labels.numpy())
    labels: NDArray[np.int64] = classifier.predict(validation)
    return labels


if __name__ == "__main__":
    main()
