"""Dispatchers that double, die and come back; pauses and cancellations in the middle of it all."""

import time

import pytest

from services.sweeps.control import cancel_sweep, pause_sweep, resume_sweep
from shared.db.session import make_session_factory
from shared.messaging.queue import HintQueue, make_celery
from tests.acceptance.conftest import small_sweep
from tests.acceptance.faults.invariants import Answers, answers, broken, check
from tests.acceptance.faults.site import Site, measured

PACE_S = 0.07
IMAGES = 100
BACKLOG = 3
GROUPS = 8
HINTED = "SELECT count(hinted_at) AS groups, max(hinted_at) AS last FROM groups"


@pytest.mark.parametrize("victim", [0, pytest.param(1, marks=pytest.mark.faults)])
def test_of_two_dispatchers_either_may_die_and_the_backlog_stays_short(
    site: Site, undisturbed: Answers, victim: int
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    short = {"CONVSWEEP_BACKLOG": str(BACKLOG)}
    dispatchers = [site.start_dispatcher(**short) for _ in range(2)]
    site.wait(lambda: all("dispatcher_started" in one.text() for one in dispatchers), "both")
    site.start_worker({"pace_s": PACE_S})
    hints = HintQueue(make_celery(site.settings))
    longest = 0

    def underway() -> bool:
        nonlocal longest
        longest = max(longest, len(hints))
        return site.finished(sweep_id) > 0

    site.wait(underway, "a finished group")
    assert 0 < longest <= BACKLOG
    dispatchers[victim].kill()
    killed = time.monotonic()
    [hinted] = site.rows(HINTED)
    assert hinted.groups < GROUPS
    site.wait(lambda: site.rows(HINTED)[0].last > hinted.last, "a hint from the other one", 15)
    measured("another dispatcher sends hints", time.monotonic() - killed)
    site.wait_completed(sweep_id)
    assert site.attempts(sweep_id) == {1}
    check(site.database, sweep_id, undisturbed, IMAGES)


@pytest.mark.faults
def test_without_a_dispatcher_work_waits_and_with_a_new_one_it_goes_on(
    site: Site, undisturbed: Answers
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    dispatcher = site.start_dispatcher(CONVSWEEP_BACKLOG="1")
    victim = site.start_worker({"pace_s": PACE_S})
    site.wait_running(sweep_id)
    dispatcher.kill()
    victim.kill()
    site.start_worker({"pace_s": PACE_S / 4})
    time.sleep(10)
    assert site.status(sweep_id) == "running"
    assert broken(site.database, sweep_id, ended=False) == []
    site.start_dispatcher()
    started = time.monotonic()
    site.wait_more(sweep_id, 15)
    measured("work after a new dispatcher", time.monotonic() - started)
    site.wait_completed(sweep_id)
    check(site.database, sweep_id, undisturbed, IMAGES)


def test_results_that_come_after_a_cancellation_are_refused(
    site: Site, undisturbed: Answers
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    site.start_dispatcher()
    worker = site.start_worker({"pace_s": PACE_S})
    site.wait_running(sweep_id)
    with make_session_factory(site.database).begin() as session:
        cancelled = cancel_sweep(session, sweep_id)
    before = answers(site.database, sweep_id)
    site.wait(lambda: "group_dropped" in worker.text(), "the worker's notice")
    assert site.status(sweep_id) == "cancelled"
    assert site.counts(sweep_id)["cancelled"] == cancelled > 0
    assert answers(site.database, sweep_id) == before
    check(site.database, sweep_id, undisturbed, IMAGES, missing=len(undisturbed) - len(before))
    after = site.add_sweep(small_sweep())  # the worker is free again
    site.wait_more(after)
    assert worker.alive


@pytest.mark.faults
def test_a_pause_and_a_cancellation_survive_a_restart_of_everything(
    site: Site, undisturbed: Answers
) -> None:
    paused, cancelled = site.add_sweep(small_sweep()), site.add_sweep(small_sweep())
    processes = [site.start_dispatcher(), site.start_worker({"pace_s": PACE_S})]
    site.wait(lambda: all(site.finished(one) > 0 for one in (paused, cancelled)), "a group of each")
    with make_session_factory(site.database).begin() as session:
        pause_sweep(session, paused)
        cancel_sweep(session, cancelled)
    for process in processes:
        process.kill()
    stopped = answers(site.database, cancelled)
    site.start_dispatcher()
    site.start_worker({"pace_s": PACE_S / 2})
    site.wait(lambda: site.counts(paused)["running"] == 0, "the reaper")
    finished = site.finished(paused)
    time.sleep(6)
    assert site.finished(paused) == finished < 64
    assert site.status(paused) == "paused"
    with make_session_factory(site.database).begin() as session:
        resume_sweep(session, paused)
    site.wait_completed(paused)
    check(site.database, paused, undisturbed, IMAGES)
    assert answers(site.database, cancelled) == stopped
    assert broken(site.database, cancelled) == []
