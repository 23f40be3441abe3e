"""Worker processes on a machine with a list of GPUs: one each, the rest wait and say so."""

import json
import signal

from tests.acceptance.conftest import small_sweep
from tests.acceptance.faults.invariants import broken
from tests.acceptance.faults.site import Child, Site
from tests.acceptance.simulated_gpus import MODEL

TIMING = {"batch_size": 4, "max_s": 0.01}


def start_worker(site: Site, *gpus: str, **environment: str) -> Child:
    environment["SIMULATED_GPUS"] = json.dumps(gpus)
    return site.start("tests.acceptance.simulated_gpus", **environment)


def holders(site: Site) -> dict[str, set[int]]:
    """Returns the pids that hold each GPU by their lease."""
    found: dict[str, set[int]] = {}
    for row in site.rows(
        "SELECT d.device_uuid, w.pid FROM device_leases d JOIN workers w ON w.id = d.worker_id"
    ):
        found.setdefault(row.device_uuid, set()).add(row.pid)
    return found


def waiting(site: Site) -> set[int]:
    """Returns the pids of workers that say that no GPU is free for them."""
    statement = "SELECT pid FROM workers WHERE problem LIKE 'No GPU is free%'"
    return {row.pid for row in site.rows(statement)}


def test_one_more_worker_than_gpus_waits_says_so_and_takes_over(site: Site) -> None:
    workers = [start_worker(site, "GPU-a", "GPU-b") for _ in range(3)]
    site.wait(lambda: len(waiting(site)) == 1 and len(holders(site)) == 2, "a worker's waiting")
    [waits] = [worker for worker in workers if worker.pid in waiting(site)]
    busy = [worker for worker in workers if worker is not waits]
    assert holders(site).keys() == {"GPU-a", "GPU-b"}
    sweep_id = site.add_sweep(small_sweep(trials=1))
    site.start_dispatcher()
    site.wait_completed(sweep_id)
    busy[0].kill()
    site.wait(lambda: {waits.pid} in holders(site).values(), "the takeover")
    assert busy[1].stop() == 0
    site.wait(lambda: busy[1].pid not in set().union(*holders(site).values()), "the return")
    assert waiting(site) == set()
    assert broken(site.database, sweep_id) == []


def test_a_worker_that_waits_ends_when_asked_to(site: Site) -> None:
    start_worker(site, "GPU-a")
    site.wait(lambda: len(holders(site)) == 1, "the first worker's start")
    waits = start_worker(site, "GPU-a")
    site.wait(lambda: waiting(site) == {waits.pid}, "the second one's waiting")
    assert waits.stop() == 0


def test_a_worker_whose_gpu_another_has_taken_ends_and_says_so(site: Site) -> None:
    first = start_worker(site, "GPU-a")
    site.wait(lambda: len(holders(site)) == 1, "the first worker's start")
    first.send(signal.SIGSTOP)
    second = start_worker(site, "GPU-a")
    site.wait(lambda: holders(site) == {"GPU-a": {second.pid}}, "the takeover")
    first.send(signal.SIGCONT)
    site.wait(lambda: not first.alive, "the first worker's end")
    assert first.process.returncode == 75
    assert "device_lost" in first.text()


def test_workers_that_share_a_gpu_report_no_throughput(site: Site) -> None:
    for _ in range(2):
        start_worker(site, "GPU-a", CONVSWEEP_WORKERS_PER_DEVICE="2")
    site.wait(lambda: len(holders(site).get("GPU-a", ())) == 2, "both workers' start")
    sweep_id = site.add_sweep(small_sweep(trials=1, timing=TIMING))
    gates = {"max_ratio": None, "min_throughput": 1}
    timing = {**TIMING, "device_model": MODEL}
    gated = site.add_sweep(small_sweep(trials=1, timing=timing, gates=gates))
    site.start_dispatcher()
    site.wait_completed(sweep_id)
    [counted] = site.rows(
        "SELECT count(*) AS trials, count(m.id) AS timed FROM trials t "
        "JOIN jobs j ON j.id = t.job_id LEFT JOIN timings m ON m.job_id = j.id "
        "WHERE j.sweep_id = :id", id=sweep_id,
    )  # fmt: skip
    assert counted.trials > 0
    assert counted.timed == 0
    refusal = "SELECT FROM worker_problems WHERE problem LIKE '%CONVSWEEP_WORKERS_PER_DEVICE=1%'"
    site.wait(lambda: bool(site.rows(refusal)), "the reason why it does not complete")
    assert site.counts(gated)["completed"] == 0 < site.counts(gated)["pending"]
    assert not site.rows("SELECT FROM timings")
