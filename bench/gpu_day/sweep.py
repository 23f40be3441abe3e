"""A small sweep from POST to leaderboard, evaluated by a real worker process on the device."""

import time
from typing import Any

import httpx

from bench.gpu_day.day import Day, Figures
from bench.servers import processes, running_api, running_servers, wait_until

LIMIT_S = 120.0
SWEEP: dict[str, Any] = {
    "name": "first day",
    "preset": "quick",
    "space": {"layers": [{"channels": [8], "kernel_size": [3, 5], "stride": [1, 2]}] * 2},
    "protocol": {"dataset": "digits", "train_images": 100, "validation_images": 100,
                 "input_shape": [1, 16, 16], "trials": 2, "timing": {"max_s": 0.05}},
}  # fmt: skip


def run_small_sweep(day: Day) -> Figures:
    """Returns the sweep's counts and best job; every job must have an outcome without an error."""
    with running_servers() as servers:
        settings = servers.model_copy(update={"device": str(day.device)})
        with running_api(settings) as client, processes(settings, "dispatcher", "worker run"):
            wait_until(lambda: bool(client.get("/v1/workers").json()), "the worker")
            started = time.perf_counter()
            answer = client.post("/v1/sweeps", json=SWEEP)
            answer.raise_for_status()
            path = f"/v1/sweeps/{answer.json()['id']}"
            wait_until(lambda: _is_complete(client, path), "the sweep's end", LIMIT_S)
            seconds = time.perf_counter() - started
            return {"seconds": seconds} | _describe(client, path)


def _is_complete(client: httpx.Client, path: str) -> bool:
    time.sleep(0.1)
    return bool(client.get(path).json()["status"] == "completed")


def _describe(client: httpx.Client, path: str) -> Figures:
    sweep = client.get(path).json()
    page = client.get(f"{path}/leaderboard", params={"page_size": 1})
    page.raise_for_status()
    leaders = page.json()["rows"]
    return {
        "counts": sweep["counts"],
        "leader": leaders[0] if leaders else None,
        "ok": sweep["counts"]["failed"] == 0 and bool(leaders),
    }
