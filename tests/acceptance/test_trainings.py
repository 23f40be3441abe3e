"""A training on a real cluster whose worker is killed in the middle."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from convsweep import Client
from tests.acceptance.conftest import Cluster, small_sweep

Json = dict[str, Any]
RECIPE = {"epochs": 40, "train_images": 600, "validation_images": 100}


def curve(training: Json) -> list[tuple[float, ...]]:
    """A training's epochs without their times."""
    names = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    return [tuple(epoch[name] for name in names) for epoch in training["curve"]]


def test_a_training_whose_worker_is_killed_ends_with_the_curve_of_an_undisturbed_one(
    cluster: Cluster,
) -> None:
    with cluster.client() as client:
        sweep_id = client.create_sweep(small_sweep(trials=1))["id"]
        wait_until(cluster, lambda: client.get_sweep(sweep_id)["status"] == "completed")
        undisturbed = ask(client, sweep_id, checkpoint_epochs=40)
        wait_until(cluster, lambda: client.get_training(undisturbed)["status"] == "completed")
        disturbed = ask(
            client, sweep_id, checkpoint_epochs=3
        )  # the same except for the checkpoints
        wait_until(cluster, lambda: client.get_training(disturbed)["epochs_done"] >= 5)
        name = next(name for name in cluster.info.processes if name.startswith("worker"))
        os.kill(cluster.pid(name), signal.SIGKILL)
        killed = client.get_training(disturbed)["epochs_done"]
        wait_until(cluster, lambda: client.get_training(disturbed)["status"] == "completed")
        found, wanted = client.get_training(disturbed), client.get_training(undisturbed)
    assert 5 <= killed < 40
    assert (found["attempt"], found["note"]) == (2, None)
    assert len(wanted["curve"]) == 40
    assert curve(found) == curve(wanted)
    assert "training_resumed" in cluster.logs(10**9), cluster.logs()


def ask(client: Client, sweep_id: int, **changes: int) -> int:
    """Trains the best network of a sweep and returns the training's id."""
    wanted = {"select": {"by": "rank", "count": 1}, "recipe": RECIPE | changes}
    return int(client.create_trainings(sweep_id, wanted)["trainings"][0]["id"])


def wait_until(cluster: Cluster, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 200
    while not happened():
        assert time.monotonic() < deadline, cluster.logs()
        time.sleep(0.02)
