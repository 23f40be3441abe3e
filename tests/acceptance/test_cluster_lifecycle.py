"""Starting, stopping, killing and finding again: nothing is lost, nothing happens twice."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from cli.embedded.log_files import MAX_LOG_BYTES, find_logs
from tests.acceptance.conftest import Cluster, accuracies, check_counts, small_sweep

SLOW: dict[str, Any] = {
    "train_images": 300,
    "validation_images": 300,
    "trials": 10,
    "input_shape": [1, 24, 24],
}


def _wait(
    condition: Callable[[], bool], what: str, cluster: Cluster, timeout_s: float = 90
) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen\n{cluster.logs()}"
        time.sleep(0.1)


def _wait_completed(cluster: Cluster, sweep_id: int) -> None:
    with cluster.client() as client:

        def completed() -> bool:
            sweep = client.get_sweep(sweep_id)
            check_counts(sweep)
            return bool(sweep["status"] == "completed")

        _wait(completed, "completion", cluster, 150)


def _wait_underway(cluster: Cluster, sweep_id: int) -> None:
    """Returns when some jobs have finished, others run and others wait."""
    with cluster.client() as client:

        def underway() -> bool:
            sweep = client.get_sweep(sweep_id)
            return bool(sweep["finished"] and sweep["counts"]["running"])

        _wait(underway, "a group underway", cluster)


@pytest.fixture(scope="module")
def slow_accuracies(cluster_folder: Cluster) -> dict[str, float]:
    """The accuracies of the slow sweep on a cluster that runs all the time."""
    if not cluster_folder.workers():
        cluster_folder.up()
    with cluster_folder.client() as client:
        sweep_id = client.create_sweep(small_sweep(**SLOW))["id"]
        _wait_completed(cluster_folder, sweep_id)
        return accuracies(client, sweep_id)


def test_down_and_up_in_the_middle_lose_and_repeat_nothing(
    cluster: Cluster, slow_accuracies: dict[str, float]
) -> None:
    with cluster.client() as client:
        sweep_id = client.create_sweep(small_sweep(**SLOW))["id"]
    _wait_underway(cluster, sweep_id)
    cluster.down()
    cluster.up()
    with cluster.client() as client:
        sweep = client.get_sweep(sweep_id)
        check_counts(sweep)
        assert 0 < sweep["finished"] < sweep["total"]
        _wait_completed(cluster, sweep_id)
        jobs = client.leaderboard(sweep_id)
        assert {row["attempt"] for row in jobs} == {1}  # an orderly stop consumes no attempt
        assert accuracies(client, sweep_id) == slow_accuracies


def test_a_killed_workers_jobs_run_again_with_the_same_results(
    cluster: Cluster, slow_accuracies: dict[str, float]
) -> None:
    with cluster.client() as client:
        sweep_id = client.create_sweep(small_sweep(**SLOW))["id"]
        _wait_underway(cluster, sweep_id)
        os.kill(cluster.pid("worker-1"), signal.SIGKILL)
        _wait_completed(cluster, sweep_id)
        rows = client.leaderboard(sweep_id)
        assert {row["attempt"] for row in rows} == {1, 2}
        assert all(row["trials_done"] == 10 for row in rows)
        again = accuracies(client, sweep_id)
        assert again.keys() == slow_accuracies.keys()
        assert np.allclose(
            list(again.values()), [slow_accuracies[key] for key in again], atol=0.0015
        )


def test_a_killed_supervisor_leaves_nothing_that_the_next_up_cannot_clear(
    cluster: Cluster,
) -> None:
    with cluster.client() as client:
        sweep_id = client.create_sweep(small_sweep())["id"]
    left_behind = [int(pid) for pid, _ in cluster.info.processes.values()]
    os.kill(cluster.info.supervisor_pid, signal.SIGKILL)
    cluster.up()
    for pid in left_behind:
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"
    _wait_completed(cluster, sweep_id)


def test_a_second_up_on_the_same_folder_is_refused_with_the_first_ones_address(
    cluster: Cluster,
) -> None:
    refused = cluster.convsweep("up", "--detach", check=False)
    assert refused.returncode == 1
    assert cluster.info.url in refused.stderr.replace("\n", "")


def test_logs_of_the_cluster_are_closed_to_others_and_limited_in_size(cluster: Cluster) -> None:
    folder = cluster.data_dir / "cluster"
    logs = list(find_logs(folder))
    assert {path.name for path in logs} >= {"supervisor.log", "api.log", "log", "valkey.log"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in logs} == {0o600}
    assert stat.S_IMODE((folder / "logs").stat().st_mode) == 0o700
    for path in logs:
        with path.open("ab") as log:
            log.write(b"a line of a hundred characters".ljust(99) + b"\n")
            log.truncate(MAX_LOG_BYTES + 1)
    _wait(lambda: all(p.stat().st_size < MAX_LOG_BYTES for p in logs), "rotation", cluster)
    with cluster.client() as client:
        client.list_workers()
    api_log = folder / "logs" / "api.log"
    _wait(lambda: "/v1/workers" in api_log.read_text(), "the next line", cluster)
    assert "\0" not in api_log.read_text()
    assert api_log.with_name("api.log.1").stat().st_size == MAX_LOG_BYTES


def test_down_ends_every_process_of_the_cluster(cluster: Cluster) -> None:
    pids = [cluster.info.supervisor_pid, *(int(p) for p, _ in cluster.info.processes.values())]
    assert len(pids) == 5  # supervisor, API, dispatcher, worker, Valkey
    cluster.down()
    for pid in pids:
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"
    assert not (cluster.data_dir / "cluster" / "postgres" / "postmaster.pid").exists()


def test_ctrl_c_stops_a_cluster_in_the_foreground(idle_cluster: Cluster) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "cli.main", "up"],
        env=idle_cluster.environment, stdout=subprocess.PIPE, text=True,
    ) as up:  # fmt: skip
        assert up.stdout is not None
        line = ""
        while "Ctrl-C" not in line:
            line = up.stdout.readline()
            assert line, idle_cluster.logs()
        up.send_signal(signal.SIGINT)
        assert "Stopped." in up.stdout.read()
    assert up.returncode == 0
    assert not (idle_cluster.data_dir / "cluster" / "cluster.json").exists()


def test_a_missing_dataset_is_named_with_what_to_do_and_its_jobs_stay_pending(
    cluster: Cluster,
) -> None:
    wanted = small_sweep(dataset="mine", input_shape=[3, 16, 16])
    with cluster.client() as client:
        sweep_id = client.create_sweep(wanted)["id"]

        def problem_known() -> bool:
            return bool(client.get_sweep(sweep_id)["problems"])

        _wait(problem_known, "the worker's problem", cluster)
        [problem] = client.get_sweep(sweep_id)["problems"]
        assert f"put mine.npz into {cluster.data_dir}" in problem["problem"]
        assert "put mine.npz" in cluster.convsweep("sweep", "show", str(sweep_id)).stdout
        counts = client.get_sweep(sweep_id)["counts"]
        assert counts["pending"] == 64
        _write_dataset(cluster.data_dir / "mine.npz")
        _wait_completed(cluster, sweep_id)
        assert {row["attempt"] for row in client.leaderboard(sweep_id)} == {1}


def _write_dataset(path: Path) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(100) % 10
    images = random.integers(0, 256, (100, 3, 16, 16), dtype=np.uint8)
    partial = path.with_name("partial.bin")
    with partial.open("wb") as file:
        np.savez(file, train_x=images, train_y=labels, test_x=images, test_y=labels)
    partial.replace(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", "show", "9999"], "There is no sweep 9999."),
        (["sweep", "start", "--preset", "nothing"], "preset"),
        (["sweep", "start", "--preset", "quick", "--trials", "0"], "protocol.trials"),
        (["sweep", "start"], "--preset quick"),
        (["top", "abc"], "is not a sweep"),
        (["job", "999999"], "There is no job 999999."),
        (["plot", "1", "pie", "-o", "x.png"], "There is no plot"),
        (["export", "1", "-o", "/nowhere/x.csv"], "does not exist"),
        (["sweep", "show", "1", "--url", "http://127.0.0.1:9"], "convsweep up"),
    ],
)
def test_wrong_commands_end_with_a_message_that_helps(
    cluster: Cluster, arguments: list[str], message: str
) -> None:
    done = cluster.convsweep(*arguments, check=False)
    assert done.returncode == 1
    assert message in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
