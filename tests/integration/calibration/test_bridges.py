"""Bridges: which networks several device models time, when, and what is refused."""

import threading

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from services.calibration.bridges import Bridge, build_bridge
from services.leaderboard.leaders import rank_jobs
from services.leasing.group_leases import awaited_models
from services.sweeps.control import cancel_sweep
from services.sweeps.creation import create_sweep
from services.sweeps.reading import get_sweep
from shared.domain.errors import (
    ConflictError,
    IllegalTransitionError,
    InvalidInputError,
    SweepNotFoundError,
)
from tests.integration.calibration.fleet import Worker, add_timed_sweep, timed
from tests.integration.scenario import (
    GROUP_SIZE,
    assert_counts_add_up,
    small_protocol,
    small_space,
)

GROUPS = 12
ALL = GROUPS * GROUP_SIZE


@pytest.fixture
def sweep_id(session: Session) -> int:
    return add_timed_sweep(session, GROUPS)


def bridged(session: Session, sweep_id: int, *devices: str, share: float = 0.25) -> Bridge:
    found = build_bridge(session, sweep_id, devices, share=share)
    session.commit()
    return found


def wanted(session: Session) -> set[tuple[int, str]]:
    rows = session.execute(text("SELECT job_id, device FROM wanted_timings"))
    return {(row.job_id, row.device) for row in rows}


def finish(session: Session, sweep_id: int, worker: Worker) -> None:
    for group in range(GROUPS):
        worker.evaluate(sweep_id, group)


def test_a_bridge_is_timed_on_every_model_that_runs_and_then_the_sweep_completes_again(
    session: Session, sweep_id: int
) -> None:
    first, second = Worker(session, "GPU-1", "H100"), Worker(session, "GPU-2", "L4")
    finish(session, sweep_id, first)
    assert get_sweep(session, sweep_id).sweep.status == "completed"
    found = bridged(session, sweep_id)
    assert found.devices == ("H100", "L4")
    assert 0 < found.networks < ALL
    assert found.wanted == found.networks  # the H100 has timed all of them
    assert get_sweep(session, sweep_id).sweep.status == "running"
    assert len(rank_jobs(session, sweep_id).rows) == ALL  # results stay
    for group in range(GROUPS):
        assert first.claim(sweep_id, group) is None
        if awaited_models(session, sweep_id, group):
            second.evaluate(sweep_id, group)
    assert timed(session, sweep_id) == {"H100": ALL, "L4": found.networks}
    assert get_sweep(session, sweep_id).sweep.status == "completed"
    assert assert_counts_add_up(session, sweep_id) == {"completed": ALL}


def test_networks_without_trials_are_timed_on_all_models_of_a_bridge(
    session: Session, sweep_id: int
) -> None:
    first, second = Worker(session, "GPU-1", "H100"), Worker(session, "GPU-2", "L4")
    found = bridged(session, sweep_id)
    assert found.wanted == 2 * found.networks
    finish(session, sweep_id, first)
    for group in range(GROUPS):
        if awaited_models(session, sweep_id, group):
            second.evaluate(sweep_id, group)
    assert timed(session, sweep_id) == {"H100": ALL, "L4": found.networks}
    assert get_sweep(session, sweep_id).sweep.status == "completed"


def test_a_repeated_request_asks_for_nothing_twice_and_a_larger_one_for_the_rest(
    session: Session, sweep_id: int
) -> None:
    Worker(session, "GPU-1", "H100")
    small = bridged(session, sweep_id, "H100", share=0.2)
    before = wanted(session)
    assert bridged(session, sweep_id, "H100", share=0.2).wanted == 0
    large = bridged(session, sweep_id, "H100", share=0.6)
    assert large.wanted == large.networks - small.networks > 0
    assert wanted(session) > before
    everything = bridged(session, sweep_id, "H100", share=1.0)
    assert everything.networks == ALL


def test_another_seed_chooses_other_networks(session: Session, sweep_id: int) -> None:
    Worker(session, "GPU-1", "H100")
    chosen = []
    for seed in (0, 1):
        build_bridge(session, sweep_id, ["H100"], share=0.3, seed=seed)
        chosen.append(wanted(session))
        session.rollback()
    assert chosen[0] != chosen[1]


def test_what_is_asked_while_a_network_completes_is_not_lost(
    session: Session, sweep_id: int, sessions: sessionmaker[Session]
) -> None:
    worker, other = Worker(session, "GPU-1", "H100"), Worker(session, "GPU-2", "L4")
    held = worker.claim(sweep_id, 0)
    assert held is not None
    with sessions() as asking:
        build_bridge(asking, sweep_id, ["L4"], share=1.0)
        completing = threading.Thread(target=worker.complete, args=(held,))
        completing.start()
        _wait(sessions, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted")
        asking.commit()
        completing.join()
    assert awaited_models(session, sweep_id, 0) == ["L4"]
    other.evaluate(sweep_id, 0)
    assert timed(session, sweep_id) == {"H100": GROUP_SIZE, "L4": GROUP_SIZE}


def _wait(sessions: sessionmaker[Session], condition: str) -> None:
    done = threading.Event()
    while not done.wait(0.01):
        with sessions() as session:
            if session.execute(text(condition)).scalar_one():
                done.set()


def _no_worker(session: Session) -> None:
    session.execute(text("UPDATE workers SET stopped_at = clock_timestamp()"))


@pytest.mark.parametrize(
    ("devices", "share", "error", "message"),
    [
        (["A100"], 0.5, InvalidInputError, "no worker ever had a device model 'A100'.*'H100'"),
        (["H100"], 1e-9, InvalidInputError, "is none. Ask for more"),
        ([], 0.5, ConflictError, "No worker runs now"),
    ],
)
def test_a_bridge_that_cannot_be_built_says_why_and_changes_nothing(
    session: Session,
    sweep_id: int,
    devices: list[str],
    share: float,
    error: type[Exception],
    message: str,
) -> None:
    Worker(session, "GPU-1", "H100")
    _no_worker(session)
    with pytest.raises(error, match=message):
        build_bridge(session, sweep_id, devices, share=share)
    assert wanted(session) == set()


def test_sweeps_that_cannot_be_bridged_say_why(session: Session, sweep_id: int) -> None:
    Worker(session, "GPU-1", "H100")
    with pytest.raises(SweepNotFoundError):
        build_bridge(session, sweep_id + 1000, ["H100"])
    cancel_sweep(session, sweep_id)
    with pytest.raises(IllegalTransitionError, match="was cancelled"):
        build_bridge(session, sweep_id, ["H100"])
    untimed = small_protocol().model_copy(update={"timing": None})
    other = create_sweep(session, small_space(), untimed)
    with pytest.raises(ConflictError, match="has no timing"):
        build_bridge(session, other.id, ["H100"])
