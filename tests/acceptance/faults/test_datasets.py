"""Machines whose images are missing or are not those that the sweep has begun with."""

import signal
from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.conftest import small_sweep
from tests.acceptance.faults.invariants import answers, check
from tests.acceptance.faults.site import Site

PACE_S = 0.1
IMAGES = 50
SWEEP = small_sweep(
    dataset="mine", input_shape=[3, 16, 16], train_images=IMAGES, validation_images=IMAGES
)


def write_images(folder: Path, seed: int) -> None:
    """Writes random images with labels as ``mine.npz``."""
    folder.mkdir()
    labels = np.arange(IMAGES) % 10
    images = np.random.default_rng(seed).integers(0, 256, (IMAGES, 3, 16, 16), dtype=np.uint8)
    np.savez(folder / "mine.npz", train_x=images, train_y=labels, test_x=images, test_y=labels)


def problem(site: Site, pid: int) -> str:
    """Returns what keeps a worker from working."""
    statement = """
        SELECT p.problem FROM worker_problems p JOIN workers w ON w.id = p.worker_id
        WHERE pid = :pid
    """
    rows = site.rows(statement, pid=pid)
    return str(rows[0].problem) if rows else ""


@pytest.mark.faults
@pytest.mark.parametrize(("other", "message"), [("missing", "mine.npz"), ("changed", "mine")])
def test_a_worker_without_the_sweeps_images_leaves_its_jobs_to_one_that_has_them(
    site: Site, tmp_path: Path, other: str, message: str
) -> None:
    write_images(tmp_path / "right", seed=0)
    if other == "changed":
        write_images(tmp_path / "changed", seed=1)
    right = {"CONVSWEEP_DATA_DIR": str(tmp_path / "right")}
    wrong = site.start_spare(None, CONVSWEEP_DATA_DIR=str(tmp_path / other))
    site.start_dispatcher()
    site.start_worker({"pace_s": PACE_S}, **right)
    sweep_id = site.add_sweep(SWEEP)
    site.wait_running(sweep_id)
    wrong.send(signal.SIGCONT)
    site.wait(lambda: message in problem(site, wrong.pid), "the worker's problem")
    assert wrong.alive
    site.wait_completed(sweep_id)
    hashes = site.rows("SELECT DISTINCT dataset_hash FROM environments JOIN trials ON"
                       " environments.id = environment_id")  # fmt: skip
    assert len(hashes) == 1
    strays = site.rows(
        "SELECT FROM leases JOIN workers ON workers.id = worker_id WHERE pid = :pid", pid=wrong.pid
    )
    assert strays == []
    wrong.stop()
    undisturbed = site.add_sweep(SWEEP)
    site.wait_completed(undisturbed)
    check(site.database, sweep_id, answers(site.database, undisturbed), IMAGES)
