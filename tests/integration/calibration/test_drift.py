"""What follows where the references show that a device changed its speed."""

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.calibration.references import MOST_REPEATS, Drift
from services.leaderboard.leaders import rank_jobs
from services.leasing.group_leases import awaited_models, complete_claim
from services.sweeps.control import cancel_sweep, extend_sweep
from services.sweeps.reading import get_sweep
from shared.domain.measurements import JobOutcome
from shared.domain.reference_set import NETWORKS
from shared.domain.status import JobStatus
from tests.integration.calibration.fleet import GPU, SLOWER, STEADY, Worker, add_timed_sweep, timed
from tests.integration.scenario import (
    GROUP_SIZE,
    assert_counts_add_up,
    environment,
    trial,
)


@pytest.fixture
def sweep_id(session: Session) -> int:
    """A sweep of two groups whose networks every worker times."""
    return add_timed_sweep(session, 2, trials=2)


def test_a_steady_device_keeps_its_timings(session: Session, sweep_id: int) -> None:
    worker = Worker(session)
    worker.evaluate(sweep_id)
    assert worker.run_references(STEADY) == Drift(None, 0)
    worker.evaluate(sweep_id, 1)
    steady = worker.run_references([speed * 1.02 for speed in STEADY])
    assert steady.speed_change == pytest.approx(0.02)
    assert steady.invalidated == 0
    assert timed(session, sweep_id) == {GPU: 2 * GROUP_SIZE}
    assert get_sweep(session, sweep_id).sweep.status == "completed"


def test_what_a_gpu_timed_while_its_speed_changed_is_timed_again(
    session: Session, sweep_id: int
) -> None:
    worker = Worker(session)
    worker.evaluate(sweep_id, 0)
    worker.run_references(STEADY)
    worker.run_references(STEADY)
    worker.evaluate(sweep_id, 1)
    drift = worker.run_references(SLOWER)
    assert drift.speed_change == pytest.approx(-0.08)
    assert drift.invalidated == GROUP_SIZE  # the interval before keeps its own
    assert timed(session, sweep_id) == {GPU: GROUP_SIZE}
    assert assert_counts_add_up(session, sweep_id) == {
        "completed": GROUP_SIZE, "pending": GROUP_SIZE,
    }  # fmt: skip
    assert get_sweep(session, sweep_id).sweep.status == "running"
    assert len(rank_jobs(session, sweep_id).rows) == 2 * GROUP_SIZE  # accuracies stay visible
    assert awaited_models(session, sweep_id, 1) == [GPU]
    assert Worker(session, "GPU-9", "L4").claim(sweep_id, 1) is None
    worker.evaluate(sweep_id, 1, images_per_s=92.0)
    assert get_sweep(session, sweep_id).sweep.status == "completed"
    assert timed(session, sweep_id) == {GPU: 2 * GROUP_SIZE}
    speeds = {row.throughput for row in rank_jobs(session, sweep_id).rows}
    assert speeds == {100.0, 92.0}
    trials = session.execute(text("SELECT count(*) FROM trials")).scalar_one()
    assert trials == 2 * 2 * GROUP_SIZE  # none was made again


def test_the_first_timings_of_a_worker_belong_to_its_first_interval(
    session: Session, sweep_id: int
) -> None:
    worker = Worker(session)
    worker.evaluate(sweep_id)
    worker.run_references(STEADY)
    assert worker.run_references(SLOWER).invalidated == GROUP_SIZE


def test_timings_of_another_unit_stand(session: Session, sweep_id: int) -> None:
    hot, cool = Worker(session, "GPU-1"), Worker(session, "GPU-2")
    hot.run_references(STEADY)
    cool.evaluate(sweep_id, 0)
    hot.evaluate(sweep_id, 1)
    assert hot.run_references(SLOWER).invalidated == GROUP_SIZE
    assert awaited_models(session, sweep_id, 0) == []


def test_a_network_is_timed_again_only_so_often(session: Session, sweep_id: int) -> None:
    worker = Worker(session)
    worker.run_references(STEADY)
    for turn in range(MOST_REPEATS):
        worker.evaluate(sweep_id)
        drift = worker.run_references(SLOWER if turn % 2 == 0 else STEADY)
        assert drift.invalidated == GROUP_SIZE
    worker.evaluate(sweep_id)
    assert worker.run_references([50.0] * len(NETWORKS)).invalidated == 0
    assert timed(session, sweep_id) == {GPU: GROUP_SIZE}


def test_a_processor_that_others_use_keeps_its_timings(session: Session, sweep_id: int) -> None:
    worker = Worker(session, "box", "a processor", "cpu")
    worker.run_references(STEADY)
    worker.evaluate(sweep_id)
    drift = worker.run_references(SLOWER)
    assert drift.speed_change == pytest.approx(-0.08)
    assert drift.invalidated == 0


def test_a_network_that_runs_when_its_timing_loses_its_validity_is_timed_again_afterwards(
    session: Session, sweep_id: int
) -> None:
    worker, other = Worker(session), Worker(session, "GPU-9", "L4")
    worker.run_references(STEADY)
    worker.evaluate(sweep_id)
    extend_sweep(session, sweep_id, trials=3)
    session.commit()
    held = other.claim(sweep_id, 0, times=False)
    assert held is not None
    assert worker.run_references(SLOWER).invalidated == GROUP_SIZE
    other.complete(held)
    assert awaited_models(session, sweep_id, 0) == [GPU]
    worker.evaluate(sweep_id)
    assert awaited_models(session, sweep_id, 0) == []


def test_cancelling_ends_the_wait_for_timings(session: Session, sweep_id: int) -> None:
    worker = Worker(session)
    worker.run_references(STEADY)
    worker.evaluate(sweep_id, 0)
    worker.evaluate(sweep_id, 1)
    worker.run_references(SLOWER)
    cancel_sweep(session, sweep_id)
    session.commit()
    assert assert_counts_add_up(session, sweep_id) == {"completed": 2 * GROUP_SIZE}
    assert session.execute(text("SELECT count(*) FROM wanted_timings")).scalar_one() == 0


def test_a_network_that_a_throttled_device_could_not_time_waits_for_its_model(
    session: Session, sweep_id: int
) -> None:
    worker = Worker(session)
    held = worker.claim(sweep_id)
    assert held is not None
    outcomes = [
        JobOutcome(
            JobStatus.COMPLETED,
            trials=tuple(trial(number, images_per_s=None) for number in job.trials),
            throttled=True,
        )
        for job in held.jobs
    ]
    complete_claim(session, held, outcomes, environment(GPU))
    session.commit()
    assert awaited_models(session, sweep_id, 0) == [GPU]
    assert len(rank_jobs(session, sweep_id).rows) == GROUP_SIZE
    Worker(session, "GPU-2").evaluate(sweep_id)  # another GPU of the model
    assert awaited_models(session, sweep_id, 0) == []
    assert timed(session, sweep_id) == {GPU: GROUP_SIZE}


def test_a_timing_is_stored_with_the_state_of_its_device(session: Session, sweep_id: int) -> None:
    Worker(session).evaluate(sweep_id)
    unit, stored = session.execute(text("SELECT unit, conditions FROM timings LIMIT 1")).one()
    assert unit == "GPU-1"
    assert stored["driver"] == "580"
    assert stored["default_clock_mhz"] == 1755
    assert stored["after"]["clock_mhz"] == 1700
    assert stored["before"]["throttle_reasons"] == ["software_power_cap"]
