"""Does the probe predict training? Rank correlations against trained accuracy, with baselines."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from services.analysis.statistics.prediction import Prediction, predict
from services.trainings.reading import every_training
from shared.domain.arrays import FloatArray
from shared.domain.errors import NoResultsError
from shared.domain.status import TrainingStatus

PREDICTORS = ("probe_accuracy", "parameters", "flops", "ratio")
MIN_NETWORKS = 3


@dataclass(frozen=True)
class Trained:
    """Networks trained under one recipe except for the seed, and their values before training.

    Parameters, FLOPs and ratio are those of the network as it was searched.
    """

    recipe: dict[str, object]
    job_ids: list[int]
    accuracies: FloatArray  # of the best epoch, mean over seeds
    known: dict[str, FloatArray]


@dataclass(frozen=True)
class ProbeVsTrained:
    """Trained networks and how well each predictor predicts their accuracy."""

    trained: Trained
    k: int
    predictions: dict[str, Prediction]


def load_trained(session: Session, sweep_id: int) -> list[Trained]:
    """Returns a sweep's trained networks by recipe and images, seeds pooled, most networks first.

    Raises:
        SweepNotFoundError: there is no such sweep.
    """
    recipes: dict[str, dict[str, object]] = {}
    networks: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    known: dict[int, list[float]] = {}
    for row in every_training(session, sweep_id, TrainingStatus.COMPLETED):
        recipe = {name: value for name, value in row.recipe.items() if name != "seed"}
        key = repr((row.dataset_hash, sorted(recipe.items())))
        recipes[key] = recipe
        assert row.best_accuracy is not None, "a completed training has epochs"
        networks[key][row.job_id].append(row.best_accuracy)
        known[row.job_id] = [row.probe_accuracy, row.searched_parameters, row.flops, row.ratio]
    groups = []
    for key, accuracies in networks.items():
        columns = np.array([known[job_id] for job_id in accuracies], dtype=np.float64).T
        means = np.array([np.mean(values) for values in accuracies.values()])
        facts = dict(zip(PREDICTORS, columns, strict=True))
        groups.append(Trained(recipes[key], list(accuracies), means, facts))
    return sorted(groups, key=lambda group: -len(group.job_ids))


def compare_probe_with_training(
    session: Session, sweep_id: int, k: int | None = None
) -> list[ProbeVsTrained]:
    """Returns, per recipe, how well the probe and trivial baselines predict trained accuracy.

    Args:
        k: of precision at k; a quarter of the networks, at least one, where left out.

    Raises:
        SweepNotFoundError: there is no such sweep.
        NoResultsError: no recipe has trained three networks yet.
    """
    comparisons = []
    for trained in load_trained(session, sweep_id):
        size = len(trained.job_ids)
        if size >= MIN_NETWORKS:
            best = min(k or max(size // 4, 1), size)
            predictions = {
                name: predict(values, trained.accuracies, best)
                for name, values in trained.known.items()
            }
            comparisons.append(ProbeVsTrained(trained, best, predictions))
    if not comparisons:
        raise NoResultsError(
            f"Sweep {sweep_id} has no {MIN_NETWORKS} networks whose training completed under one "
            "recipe. Train more: convsweep train SWEEP --sample 20"
        )
    return comparisons
