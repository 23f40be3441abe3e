"""The embedded cluster when whole parts of it are killed at once."""

import os
import signal

import httpx
import psutil
import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from tests.acceptance.conftest import Cluster, Json, small_sweep
from tests.acceptance.faults.invariants import Answers, check
from tests.acceptance.faults.site import measured, wait_for

IMAGES = 100
SLOW: Json = {
    "train_images": 300,
    "validation_images": 300,
    "trials": 10,
    "input_shape": [1, 24, 24],
}


def database(cluster: Cluster) -> Engine:
    """Connects to the cluster's Postgres."""
    lines = (cluster.data_dir / "cluster/postgres/postmaster.pid").read_text().splitlines()
    url = f"postgresql+psycopg2://postgres@/postgres?host={lines[4]}"
    return create_engine(url, poolclass=NullPool)


def wait_completed(cluster: Cluster, sweep_id: int) -> None:
    with cluster.client() as client:
        wait_for(
            lambda: client.get_sweep(sweep_id)["status"] == "completed",
            "completion",
            cluster.logs,
        )


@pytest.mark.faults
def test_a_killed_supervisor_and_its_workers_cost_nothing_but_the_time_until_the_next_up(
    idle_cluster: Cluster, undisturbed: Answers
) -> None:
    cluster = idle_cluster
    cluster.up("--workers", "2")
    with cluster.client() as client:
        busy = client.create_sweep(small_sweep(**SLOW))["id"]
        sweep_id = client.create_sweep(small_sweep())["id"]
        wait_for(lambda: client.get_sweep(busy)["counts"]["running"] > 0, "a group", cluster.logs)
    pids = [cluster.info.supervisor_pid, cluster.pid("worker-1"), cluster.pid("worker-2")]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    cluster.up("--workers", "2")
    for one in (sweep_id, busy):
        wait_completed(cluster, one)
    check(database(cluster), sweep_id, undisturbed, IMAGES)


@pytest.mark.faults
def test_a_clusters_own_servers_are_started_again_when_they_are_killed(
    cluster: Cluster, undisturbed: Answers
) -> None:
    with cluster.client() as client:
        busy = client.create_sweep(small_sweep(**SLOW))["id"]
        sweep_id = client.create_sweep(small_sweep())["id"]
        wait_for(lambda: client.get_sweep(busy)["counts"]["running"] > 0, "a group", cluster.logs)
    pid_file = cluster.data_dir / "cluster/postgres/postmaster.pid"
    for pid in (_valkey(cluster), int(pid_file.read_text().split()[0])):
        os.kill(pid, signal.SIGKILL)
    killed = wait_for(lambda: _ready(cluster), "an answer", cluster.logs)
    measured("a cluster's killed servers answer again", killed)
    for one in (sweep_id, busy):
        wait_completed(cluster, one)
    check(database(cluster), sweep_id, undisturbed, IMAGES)


def _valkey(cluster: Cluster) -> int:
    children = psutil.Process(cluster.info.supervisor_pid).children()
    [pid] = [child.pid for child in children if "valkey" in child.name()]
    return pid


def _ready(cluster: Cluster) -> bool:
    return httpx.get(f"{cluster.info.url}/readyz", timeout=30).is_success
