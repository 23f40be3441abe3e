"""Devices that fail: out of memory, damaged, hung, gone, or wrong in what they compute."""

import pytest

from tests.acceptance.conftest import small_sweep
from tests.acceptance.faults.invariants import Answers, check
from tests.acceptance.faults.site import Plan, Site

IMAGES = 100
TRIALS = 2
POISON = [[3, 1, 1], [5, 2, 1]]  # kernel size, stride and dilation of two layers


def keep_working(site: Site, sweep_id: int, plan: Plan, **environment: str) -> int:
    """Starts a worker again whenever it has ended, until the sweep ends; returns how often."""
    starts = 1
    worker = site.start_worker(plan, **environment)

    def completed() -> bool:
        nonlocal worker, starts
        if not worker.alive:
            worker = site.start_worker(plan, **environment)
            starts += 1
        return site.status(sweep_id) == "completed"

    site.wait(completed, "completion")
    return starts


def failures(site: Site, sweep_id: int) -> list[tuple[str, int]]:
    """Returns (reason, attempt) of every failed job."""
    statement = "SELECT reason, attempt FROM jobs WHERE sweep_id = :id AND status = 'failed'"
    return [(row.reason, row.attempt) for row in site.rows(statement, id=sweep_id)]


@pytest.mark.faults
@pytest.mark.parametrize("fault", ["kill", "illegal_access", "hang"])
def test_an_architecture_that_always_takes_its_worker_with_it_fails_and_its_siblings_do_not(
    site: Site, undisturbed: Answers, fault: str
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    site.start_dispatcher()
    deadline = {"CONVSWEEP_PROGRESS_DEADLINE_S": "3"}
    starts = keep_working(site, sweep_id, {"poison": POISON, "fault": fault}, **deadline)
    assert starts == 4  # three attempts, and the one that did the rest
    assert failures(site, sweep_id) == [("attempts_exhausted", 3)]
    check(site.database, sweep_id, undisturbed, IMAGES, missing=TRIALS)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("fault", "cause"),
    [("illegal_access", "illegal memory access"), ("vanished", "cuda is unusable")],
)
def test_a_device_damaged_or_lost_once_costs_one_attempt_and_no_result(
    site: Site, undisturbed: Answers, fault: str, cause: str
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    site.start_dispatcher()
    damaged = site.start_worker({"poison": POISON, "fault": fault})
    site.wait(lambda: not damaged.alive, "the end of the damaged worker")
    assert damaged.process.returncode != 0
    site.start_worker()
    site.wait_completed(sweep_id)
    check(site.database, sweep_id, undisturbed, IMAGES)
    [record] = site.rows("SELECT DISTINCT error FROM attempts WHERE outcome = 'failed'")
    assert cause in record.error


@pytest.mark.parametrize(
    "fault", ["out_of_memory", pytest.param("no_host_memory", marks=pytest.mark.faults)]
)
def test_a_device_out_of_memory_for_a_moment_costs_nothing(
    site: Site, undisturbed: Answers, fault: str
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    site.start_dispatcher()
    site.start_worker({"poison": POISON, "fault": fault, "times": 2})
    site.wait_completed(sweep_id)
    assert failures(site, sweep_id) == []
    assert site.attempts(sweep_id) == {1}
    check(site.database, sweep_id, undisturbed, IMAGES)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("fault", "reason"), [("out_of_memory", "out_of_memory"), ("nan", "non_finite")]
)
def test_only_an_architecture_without_an_answer_fails_with_its_reason_and_never_ranks(
    site: Site, undisturbed: Answers, fault: str, reason: str
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    site.start_dispatcher()
    site.start_worker({"poison": POISON, "fault": fault})
    site.wait_completed(sweep_id)
    assert failures(site, sweep_id) == [(reason, 1)]
    check(site.database, sweep_id, undisturbed, IMAGES, missing=TRIALS)
    [job] = site.rows("SELECT accuracy, error FROM jobs WHERE status = 'failed'")
    assert job.accuracy is None
    assert "trial 0" in job.error


@pytest.mark.faults
def test_a_worker_whose_device_has_vanished_claims_nothing_and_says_why(
    site: Site, undisturbed: Answers
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    site.start_dispatcher()
    blind = site.start_worker(None, CONVSWEEP_DEVICE="cuda:99")
    site.wait(lambda: not blind.alive, "the end of the worker without a device")
    assert blind.process.returncode == 1
    assert "cuda:99 was requested" in blind.text()
    assert "Traceback" not in blind.text()
    assert site.counts(sweep_id)["pending"] == 64
    site.start_worker()
    site.wait_completed(sweep_id)
    check(site.database, sweep_id, undisturbed, IMAGES)
