"""Sweeps that one device model times: others probe, and leave the timing to it."""

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.leaderboard.filters import parse_filters
from services.leaderboard.leaders import rank_jobs
from services.leasing.group_leases import Claim, awaited_models, claim_group, complete_claim
from services.sweeps.control import cancel_sweep, extend_sweep
from services.sweeps.creation import create_sweep
from services.sweeps.reading import get_sweep
from shared.domain.measurements import JobOutcome, Reason, Throughput, ThroughputSource
from shared.domain.protocol import Timing
from shared.domain.status import JobStatus
from tests.integration.scenario import (
    GROUP_SIZE,
    add_worker,
    assert_counts_add_up,
    environment,
    small_protocol,
    small_space,
    success,
    trial,
)

GPU = "H100"
RATE = Throughput(900.0, 0.01, 9, ThroughputSource.REPLAYED)


@pytest.fixture
def sweep_id(session: Session) -> int:
    """A sweep of one group whose networks a GPU must time."""
    protocol = small_protocol().model_copy(update={"timing": Timing(device_model=GPU)})
    sweep = create_sweep(session, small_space(1), protocol)
    session.commit()
    return sweep.id


def claim(session: Session, sweep_id: int, *, times: bool) -> Claim | None:
    worker_id = add_worker(session)
    held = claim_group(
        session, sweep_id=sweep_id, group=0, worker_id=worker_id, lease_s=60, limit=64, times=times
    )
    session.commit()
    return held


def probe(session: Session, sweep_id: int, trials: int = 2) -> None:
    """Makes the trials of all networks on a processor that times none."""
    held = claim(session, sweep_id, times=False)
    assert held is not None
    made = [success([trial(n, images_per_s=None) for n in job.trials]) for job in held.jobs]
    assert all(len(outcome.trials) == trials for outcome in made)
    complete_claim(session, held, made, environment())
    session.commit()


def time_all(session: Session, sweep_id: int, outcome: JobOutcome | None = None) -> None:
    """Times all networks on a GPU."""
    held = claim(session, sweep_id, times=True)
    assert held is not None
    assert [list(job.trials) for job in held.jobs] == [[]] * GROUP_SIZE
    timed = outcome or JobOutcome(JobStatus.COMPLETED, timing=RATE)
    complete_claim(session, held, [timed] * GROUP_SIZE, environment(GPU))
    session.commit()


def test_others_probe_and_the_timing_waits_for_the_model(session: Session, sweep_id: int) -> None:
    probe(session, sweep_id)
    assert assert_counts_add_up(session, sweep_id) == {"pending": GROUP_SIZE}
    ranked = rank_jobs(session, sweep_id).rows
    assert [(row.trials_done, row.throughput, row.attempt) for row in ranked] == [
        (2, None, 0)
    ] * GROUP_SIZE
    assert claim(session, sweep_id, times=False) is None
    assert awaited_models(session, sweep_id, 0) == [GPU]
    time_all(session, sweep_id)
    assert assert_counts_add_up(session, sweep_id) == {"completed": GROUP_SIZE}
    assert get_sweep(session, sweep_id).sweep.status == "completed"
    assert awaited_models(session, sweep_id, 0) == []
    for row in rank_jobs(session, sweep_id, sort="-throughput").rows:
        assert (row.throughput, row.throughput_device) == (900, GPU)
        assert (row.device, row.accuracy) == ("a processor", 0.5)


def test_the_group_is_due_for_a_hint_as_soon_as_its_trials_are_made(
    session: Session, sweep_id: int
) -> None:
    session.execute(text("UPDATE groups SET hinted_at = clock_timestamp()"))
    probe(session, sweep_id)
    due = text("SELECT hinted_at < now() - interval '1 day' FROM groups WHERE pending > 0")
    assert session.execute(due).scalar_one() is True


def test_the_model_itself_makes_trials_and_timing_at_once(session: Session, sweep_id: int) -> None:
    held = claim(session, sweep_id, times=True)
    assert held is not None
    made = [success([trial(0), trial(1, images_per_s=None)])] * GROUP_SIZE
    complete_claim(session, held, made, environment(GPU))
    session.commit()
    assert assert_counts_add_up(session, sweep_id) == {"completed": GROUP_SIZE}


def test_a_timing_on_another_model_is_kept_and_does_not_suffice(
    session: Session, sweep_id: int
) -> None:
    held = claim(session, sweep_id, times=False)
    assert held is not None
    complete_claim(session, held, [success([trial(0), trial(1)])] * GROUP_SIZE, environment())
    session.commit()
    assert assert_counts_add_up(session, sweep_id) == {"pending": GROUP_SIZE}
    time_all(session, sweep_id)
    rows = rank_jobs(session, sweep_id, parse_filters([("device", "a processor")])).rows
    assert {row.throughput for row in rows} == {100}
    assert rank_jobs(session, sweep_id).choice.device == GPU


def test_more_trials_of_timed_networks_need_no_timing(session: Session, sweep_id: int) -> None:
    probe(session, sweep_id)
    time_all(session, sweep_id)
    extend_sweep(session, sweep_id, trials=5)
    session.commit()
    probe(session, sweep_id, trials=3)
    assert assert_counts_add_up(session, sweep_id) == {"completed": GROUP_SIZE}


def test_the_gate_on_the_model_rejects_what_others_have_probed(
    session: Session, sweep_id: int
) -> None:
    probe(session, sweep_id)
    slow = JobOutcome(JobStatus.REJECTED, Reason.THROUGHPUT_BELOW_MINIMUM, timing=RATE)
    time_all(session, sweep_id, slow)
    assert assert_counts_add_up(session, sweep_id) == {"rejected": GROUP_SIZE}
    assert get_sweep(session, sweep_id).sweep.status == "completed"
    assert rank_jobs(session, sweep_id).rows == []


def test_cancelling_a_sweep_that_waits_for_timings_keeps_its_results(
    session: Session, sweep_id: int
) -> None:
    probe(session, sweep_id)
    cancel_sweep(session, sweep_id)
    session.commit()
    assert assert_counts_add_up(session, sweep_id) == {"completed": GROUP_SIZE}
    assert len(rank_jobs(session, sweep_id).rows) == GROUP_SIZE
