"""A training on a real cluster whose worker is killed in the middle."""

import os
import signal
import time
from typing import Any

from tests.acceptance.conftest import Cluster, small_sweep

Json = dict[str, Any]
RECIPE = ("--epochs", "12", "--set", "train_images=300", "--set", "validation_images=100",
          "--set", "checkpoint_epochs=2")  # fmt: skip


def curve(training: Json) -> list[tuple[float, ...]]:
    """A training's epochs without their times."""
    names = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    return [tuple(epoch[name] for name in names) for epoch in training["curve"]]


def test_a_training_whose_worker_is_killed_ends_with_the_curve_of_an_undisturbed_one(
    cluster: Cluster,
) -> None:
    with cluster.client() as client:
        client.create_sweep(small_sweep(trials=1))
    cluster.convsweep("sweep", "watch", "latest")
    best = cluster.convsweep_json("top", "latest", "-n", "1")[0]["id"]
    asked = cluster.convsweep_json("train", "latest", "--job", str(best), *RECIPE, "--watch")
    undisturbed = cluster.convsweep_json("training", "show", str(asked[0]["id"]))
    assert undisturbed["status"] == "completed"
    assert len(undisturbed["curve"]) == 12

    with cluster.client() as client:  # the very same once more: in a sweep of the same networks
        again = client.create_sweep(small_sweep(trials=1))
    cluster.convsweep("sweep", "watch", "latest")
    best = cluster.convsweep_json("top", "latest", "-n", "1")[0]["id"]
    asked = cluster.convsweep_json("train", "latest", "--job", str(best), *RECIPE)
    training_id = asked[0]["id"]
    killed = kill_worker_after(cluster, training_id, epochs=5)
    cluster.convsweep(
        "train", str(again["id"]), "--job", str(best), *RECIPE, "--watch"
    )  # asks for nothing new
    resumed = cluster.convsweep_json("training", "show", str(training_id))
    assert 5 <= killed < 12
    assert resumed["status"] == "completed", resumed
    assert resumed["attempt"] == 2
    assert resumed["note"] is None
    assert curve(resumed) == curve(undisturbed)
    logs = cluster.logs()
    assert "training_resumed" in logs, logs


def kill_worker_after(cluster: Cluster, training_id: int, *, epochs: int) -> int:
    """Kills the worker once so many epochs are there; returns how many there were."""
    deadline = time.monotonic() + 120
    with cluster.client() as client:
        while (done := client.get_training(training_id)["epochs_done"]) < epochs:
            assert time.monotonic() < deadline, cluster.logs()
            time.sleep(0.01)
    name = next(name for name in cluster.info.processes if name.startswith("worker"))
    os.kill(cluster.pid(name), signal.SIGKILL)
    return int(done)
