"""The engine's answers against scikit-learn's on the published space, image by image.

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
from shared.architecture import Architecture
from shared.protocol import Protocol, Scope, Weights
from worker.engine.datasets import Dataset, load_dataset
from worker.engine.layers import build_network
from worker.engine.tree import evaluate_group

CPU = torch.device("cpu")
BATCH_SIZE = 32
PER_GROUP = 10


def main() -> None:
    """Prints how far the engine and scikit-learn agree."""
    parser = argparse.ArgumentParser(prog="python -m bench.parity", description=__doc__)
    parser.add_argument("--dataset", default="digits", help="digits needs no file")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--architectures", type=int, default=200)
    parser.add_argument("--scope", default="siblings", choices=[scope.value for scope in Scope])
    arguments = parser.parse_args()
    weights = Weights(scope=Scope(arguments.scope))
    protocol = Protocol(dataset=arguments.dataset, timing=None, weights=weights)
    dataset = load_dataset(arguments.data_dir, protocol)
    print(json.dumps(measure_parity(arguments.architectures, dataset, protocol)))


def measure_parity(count: int, dataset: Dataset, protocol: Protocol) -> dict[str, Any]:
    """Returns how many validation answers agree over ``count`` architectures, one trial each.

    The engine evaluates groups in full. The reference is the unshared network in PyTorch's default
    layout, batches of 32, and ``RidgeClassifier(alpha)`` on its features as float64. An answer is
    whether an image was classified rightly.
    """
    ours, theirs = [], []
    for group in _groups(count):
        outcomes = evaluate_group(group, [range(1)] * len(group), dataset, protocol, CPU)
        for architecture, outcome in list(zip(group, outcomes, strict=True))[:PER_GROUP]:
            bits = np.frombuffer(outcome.trials[0].correct_bits, dtype=np.uint8)
            ours.append(np.unpackbits(bits, count=protocol.validation_images).astype(bool))
            theirs.append(_reference(architecture, dataset, protocol))
            if len(ours) == count:
                break
    mine, reference = np.array(ours), np.array(theirs)
    difference = mine.mean(axis=1) - reference.mean(axis=1)
    return {
        "architectures": len(mine),
        "predictions": mine.size,
        "answers_equal_percent": round(100 * float((mine == reference).mean()), 4),
        "mean_accuracy_percent": round(100 * float(mine.mean()), 3),
        "mean_accuracy_reference_percent": round(100 * float(reference.mean()), 3),
        "mean_difference_points": round(100 * float(mine.mean() - reference.mean()), 4),
        "largest_difference_points": round(100 * float(np.abs(difference).max()), 2),
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
) -> NDArray[np.bool_]:
    network = build_network(architecture, 0, protocol)
    train, validation = (
        torch.cat([network(batch) for batch in torch.split(images, BATCH_SIZE)]).double().numpy()
        for images in (dataset.train_images, dataset.validation_images)
    )
    classifier = RidgeClassifier(alpha=protocol.ridge_alpha)
    classifier.fit(train, dataset.train_labels.numpy())
    right: NDArray[np.bool_] = classifier.predict(validation) == dataset.validation_labels.numpy()
    return right


if __name__ == "__main__":
    main()
