"""The rate of a sweep beside one that no worker can serve, and after that one was cancelled."""

import datetime as dt
import statistics
from typing import Any

import httpx

from bench.servers import processes, wait_until
from shared.settings import Settings

Json = dict[str, Any]
GATES = {"min_accuracy": None, "min_throughput": None, "max_ratio": None}
SERVED: Json = {  # 16 groups of 32 networks
    "space": {
        "layers": [
            {"channels": list(range(1, 17))},
            {"channels": list(range(1, 9)), "kernel_size": [3, 5], "stride": [1, 2]},
        ]
    },
    "protocol": {"dataset": "digits", "input_shape": [1, 32, 32], "trials": 1, "gates": GATES,
                 "timing": None},
}  # fmt: skip
UNSERVABLE: Json = {"preset": "random-cnn-2025", "protocol": {"dataset": "stl1o"}}


def measure_neighbours(client: httpx.Client, settings: Settings, rounds: int) -> Json:
    """Returns jobs per second of a 512-job sweep on one worker with an instant engine.

    Each round runs it by itself, right after the creation of an unservable sweep, and right after
    the cancellation of that one; the figures are medians over the rounds.
    """
    seconds: dict[str, list[float]] = {"undisturbed": [], "beside": [], "after_cancellation": []}
    with processes(settings, "dispatcher", "bench.instant_worker"):
        wait_until(lambda: bool(client.get("/v1/workers").json()), "the worker")
        run_sweep(client)  # loads the images and opens the connections
        for _ in range(rounds):
            seconds["undisturbed"].append(run_sweep(client))
            unservable = create(client, UNSERVABLE)["id"]
            seconds["beside"].append(run_sweep(client))
            client.post(f"/v1/sweeps/{unservable}/cancel").raise_for_status()
            seconds["after_cancellation"].append(run_sweep(client))
    rates = {name: 512 / statistics.median(values) for name, values in seconds.items()}
    return {
        "jobs": 512,
        "rounds": rounds,
        "jobs_per_s": rates,
        "ratio": {name: rates[name] / rates["undisturbed"] for name in rates},
        "seconds": seconds,
    }


def create(client: httpx.Client, body: Json) -> Json:
    """Creates a sweep and returns it."""
    answer = client.post("/v1/sweeps", json=body)
    answer.raise_for_status()
    sweep: Json = answer.json()
    return sweep


def run_sweep(client: httpx.Client) -> float:
    """Runs a sweep to its end; returns its seconds by the clock of the database."""
    sweep = create(client, SERVED)

    def completed() -> bool:
        sweep.update(client.get(f"/v1/sweeps/{sweep['id']}").json())
        return bool(sweep["status"] == "completed")

    wait_until(completed, "completion", 900)
    created, ended = (
        dt.datetime.fromisoformat(sweep[f"{end}_at"]) for end in ("created", "completed")
    )
    return (ended - created).total_seconds()
