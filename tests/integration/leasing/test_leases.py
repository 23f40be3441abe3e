"""Leases: every pending job to one claim at a time, and no result from a worker that lost it."""

import threading
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.dispatching.dispatch import reap_expired_leases
from services.leasing.group_leases import (
    Claim,
    claim_group,
    complete_claim,
    fail_claim,
    release_claim,
    renew_lease,
)
from services.sweeps.control import cancel_sweep, extend_sweep, pause_sweep, resume_sweep
from services.sweeps.reading import get_sweep
from shared.db.models import Environment, Job, Lease, Trial
from shared.db.timing_models import JobThroughput, Timing
from shared.db.worker_models import Worker
from shared.domain.errors import StaleLeaseError
from shared.domain.measurements import JobOutcome, Reason, ThroughputSource
from shared.domain.status import JobStatus
from tests.conftest import SessionFactory
from tests.integration.scenario import (
    GROUP_SIZE,
    GROUPS,
    add_sweep,
    add_worker,
    assert_counts_add_up,
    claim,
    claimed,
    complete,
    environment,
    expire,
    finish_sweep,
    rejection,
    statuses,
    success,
    successes,
    trial,
)


def job_row(session: Session, job_id: int) -> Job:
    statement = select(Job).where(Job.id == job_id).execution_options(populate_existing=True)
    return session.execute(statement).scalar_one()


def throughput_of(session: Session, job: Job) -> JobThroughput:
    """Returns the throughput of a job that one device model has timed, read anew."""
    statement = select(JobThroughput).where(JobThroughput.job_id == job.id)
    return session.execute(statement.execution_options(populate_existing=True)).scalar_one()


def jobs_of(session: Session, held: Claim) -> list[Job]:
    return [job_row(session, job.id) for job in held.jobs]


def lease_of(session: Session, held: Claim) -> Lease:
    statement = select(Lease).where(Lease.token == held.token)
    return session.execute(statement.execution_options(populate_existing=True)).scalar_one()


def trials_of(session: Session, job_id: int) -> list[Trial]:
    statement = select(Trial).where(Trial.job_id == job_id).order_by(Trial.trial)
    return list(session.execute(statement).scalars())


def reap(session: Session, max_attempts: int = 3) -> int:
    jobs = reap_expired_leases(session, max_attempts=max_attempts)
    session.commit()
    return jobs


def test_claim_hands_out_the_pending_jobs_of_one_group_with_their_trials(session: Session) -> None:
    sweep_id = add_sweep(session, trials=3)
    held = claimed(session, sweep_id, group=1)
    jobs = jobs_of(session, held)
    assert [job.group_index for job in jobs] == [1] * GROUP_SIZE
    assert {(job.status, job.attempt, job.lease_token) for job in jobs} == {
        ("running", 1, held.token)
    }
    assert [job.architecture for job in held.jobs] == [job.architecture for job in jobs]
    assert {job.trials for job in held.jobs} == {range(3)}
    assert lease_of(session, held).jobs == GROUP_SIZE
    assert assert_counts_add_up(session, sweep_id) == {"running": 4, "pending": 8}


def test_claim_of_a_group_without_pending_jobs_gives_nothing(session: Session) -> None:
    sweep_id = add_sweep(session)
    claimed(session, sweep_id)
    assert claim(session, sweep_id) is None
    assert claim(session, sweep_id, group=99) is None
    assert claim(session, 404) is None
    assert len(list(session.execute(select(Lease)))) == 1  # no empty lease is left behind


def test_claim_takes_no_more_than_its_limit_in_order(session: Session) -> None:
    sweep_id = add_sweep(session)
    ids = list(statuses(session, sweep_id))[:GROUP_SIZE]
    first, second = claim(session, sweep_id, limit=3), claim(session, sweep_id, limit=3)
    assert first is not None
    assert second is not None
    assert [job.id for job in first.jobs] == ids[:3]
    assert [job.id for job in second.jobs] == ids[3:]


def test_paused_sweep_gives_nothing_until_it_is_resumed(session: Session) -> None:
    sweep_id = add_sweep(session)
    pause_sweep(session, sweep_id)
    session.commit()
    assert claim(session, sweep_id) is None
    resume_sweep(session, sweep_id)
    session.commit()
    assert claim(session, sweep_id) is not None


def test_cancelled_and_completed_sweeps_give_nothing(session: Session) -> None:
    cancelled, completed = add_sweep(session), add_sweep(session)
    cancel_sweep(session, cancelled)
    finish_sweep(session, completed)
    assert claim(session, cancelled) is None
    assert claim(session, completed) is None


def test_claims_after_a_committed_pause_see_it(sessions: SessionFactory, session: Session) -> None:
    sweep_id, worker_id = add_sweep(session), add_worker(session)
    with sessions() as claiming, ThreadPoolExecutor(1) as pool:
        pause_sweep(session, sweep_id)  # not committed yet: the claim has to wait for it
        waiting = pool.submit(claim, claiming, sweep_id, worker_id=worker_id)
        wait_until_blocked(session, waiting)
        session.commit()
        assert waiting.result() is None


def wait_until_blocked(session: Session, *futures: Future[int] | Future[Claim | None]) -> None:
    """Returns once as many connections as there are futures wait for a lock of another."""
    waiting = text("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")
    while session.execute(waiting).scalar_one() < len(futures):
        assert not any(future.done() for future in futures)


def test_concurrent_claims_give_every_job_exactly_once(
    sessions: SessionFactory, session: Session
) -> None:
    sweep_id, worker_id = add_sweep(session, groups=6), add_worker(session)
    threads = 8
    barrier = threading.Barrier(threads)

    def claim_everything(number: int) -> list[int]:
        barrier.wait()
        mine: list[int] = []
        with sessions() as own:
            for step in range(18):  # each group thrice, starting elsewhere than the others
                group, limit = (step + number) % 6, 1 + number % 3
                found = claim(own, sweep_id, group, worker_id=worker_id, limit=limit)
                mine += [job.id for job in found.jobs] if found else []
        return mine

    with ThreadPoolExecutor(threads) as pool:
        shares = list(pool.map(claim_everything, range(threads)))
    everything = sorted(job_id for share in shares for job_id in share)
    assert everything == list(statuses(session, sweep_id))
    assert assert_counts_add_up(session, sweep_id) == {"running": 24}


def test_concurrent_workers_finish_a_sweep_with_every_job_done_once(
    sessions: SessionFactory, session: Session
) -> None:
    sweep_id, worker_id = add_sweep(session, groups=6, trials=1), add_worker(session)
    threads = 4
    barrier = threading.Barrier(threads)

    def work(number: int) -> int:
        barrier.wait()
        done = 0
        with sessions() as own:
            while get_sweep(own, sweep_id).sweep.status == "running":
                own.commit()
                reap(own)  # a dispatcher runs beside workers
                for group in range(6):
                    found = claim(own, sweep_id, group, worker_id=worker_id, limit=1 + number % 2)
                    done += complete(own, found) if found else 0
        return done

    with ThreadPoolExecutor(threads) as pool:
        done = list(pool.map(work, range(threads)))
    assert sum(done) == 24
    assert assert_counts_add_up(session, sweep_id) == {"completed": 24}
    assert session.execute(text("SELECT count(*) FROM trials")).scalar_one() == 24


def test_renewal_moves_the_expiry_by_the_clock_of_the_database(session: Session) -> None:
    held = claimed(session, add_sweep(session), lease_s=5)
    renew_lease(session, held.token, 1000)
    session.commit()
    left = text(
        "SELECT extract(epoch FROM expires_at - clock_timestamp()) FROM leases WHERE token = :token"
    )
    assert 900 < session.execute(left, {"token": held.token}).scalar_one() <= 1000


@pytest.mark.parametrize("end", ["completed", "released", "failed", "expired", "cancelled"])
def test_renewal_of_a_lease_that_is_over_is_refused(end: str, session: Session) -> None:
    held = end_claim(session, end)
    assert lease_of(session, held).outcome == end
    with pytest.raises(StaleLeaseError):
        renew_lease(session, held.token, 60)


def end_claim(session: Session, end: str) -> Claim:
    """Claims a group, lets the lease end in one of the ways it can, and commits."""
    held = claimed(session, add_sweep(session))
    match end:
        case "completed":
            complete(session, held)
        case "released":
            release_claim(session, held)
        case "failed":
            fail_claim(session, held, error="broke", max_attempts=3)
        case "expired":
            expire(session, held)
            reap(session)
        case "cancelled":
            cancel_sweep(session, held.sweep_id)
    session.commit()
    return held


@pytest.mark.parametrize("end", ["completed", "released", "failed", "expired", "cancelled"])
def test_completion_with_a_stale_lease_writes_nothing(end: str, session: Session) -> None:
    held = end_claim(session, end)
    before = snapshot(session)
    with pytest.raises(StaleLeaseError):
        complete_claim(session, held, successes(held, 0.9), environment("another"))
    session.commit()  # even if what is left of that transaction is committed
    assert snapshot(session) == before
    assert release_claim(session, held) == 0
    assert fail_claim(session, held, error="broke", max_attempts=3) == 0
    session.commit()
    assert snapshot(session) == before


def snapshot(session: Session) -> list[Any]:
    """Returns every row that a completion could touch."""
    tables = ("sweeps", "sweep_progress", "groups", "jobs", "trials", "leases", "environments")
    return [
        sorted(session.execute(text(f"SELECT t::text FROM {table} t")).scalars())
        for table in tables
    ]


def test_completion_with_an_unknown_token_writes_nothing(session: Session) -> None:
    held = claimed(session, add_sweep(session))
    forged = Claim(uuid.uuid4(), held.sweep_id, held.group, held.jobs)
    before = snapshot(session)
    with pytest.raises(StaleLeaseError):
        complete_claim(session, forged, successes(forged), environment())
    session.commit()
    assert snapshot(session) == before


def test_completion_does_not_change_jobs_of_another_claim(session: Session) -> None:
    sweep_id = add_sweep(session)
    mine, other = claimed(session, sweep_id, 0), claimed(session, sweep_id, 1)
    mixed = Claim(mine.token, sweep_id, 0, (*mine.jobs, *other.jobs))
    assert complete(session, mixed) == GROUP_SIZE
    assert {job.status for job in jobs_of(session, mine)} == {"completed"}
    assert {job.status for job in jobs_of(session, other)} == {"running"}
    assert all(trials_of(session, job.id) == [] for job in other.jobs)


def test_release_consumes_no_attempt(session: Session) -> None:
    sweep_id = add_sweep(session)
    for _ in range(5):
        held = claimed(session, sweep_id)
        assert release_claim(session, held) == GROUP_SIZE
        session.commit()
        assert {(job.status, job.attempt) for job in jobs_of(session, held)} == {("pending", 0)}
    assert len(claimed(session, sweep_id).jobs) == GROUP_SIZE  # all at once, as if never claimed


def test_only_expired_leases_are_reaped(session: Session) -> None:
    sweep_id = add_sweep(session)
    lost, alive = claimed(session, sweep_id, 0), claimed(session, sweep_id, 1)
    assert reap(session) == 0
    expire(session, lost)
    assert reap(session) == GROUP_SIZE
    assert {job.status for job in jobs_of(session, lost)} == {"pending"}
    assert {job.status for job in jobs_of(session, alive)} == {"running"}
    assert reap(session) == 0


def test_lease_renewed_in_time_is_not_reaped(session: Session) -> None:
    held = claimed(session, add_sweep(session))
    expire(session, held)
    renew_lease(session, held.token, 60)  # late but before any reaper
    session.commit()
    assert reap(session) == 0
    assert complete(session, held) == GROUP_SIZE


def test_jobs_whose_worker_vanished_come_after_the_others_and_one_at_a_time(
    session: Session,
) -> None:
    sweep_id = add_sweep(session)
    lost = claim(session, sweep_id, limit=2)
    assert lost is not None
    expire(session, lost)
    assert reap(session) == 2
    fresh = claimed(session, sweep_id)
    assert {job.id for job in fresh.jobs}.isdisjoint(job.id for job in lost.jobs)
    assert len(fresh.jobs) == 2
    again = [claimed(session, sweep_id), claimed(session, sweep_id)]
    assert [len(one.jobs) for one in again] == [1, 1]
    assert [one.jobs[0].id for one in again] == [job.id for job in lost.jobs]
    assert claim(session, sweep_id) is None


@pytest.mark.parametrize("way", ["expired", "failed"])
def test_last_attempt_lost_fails_the_job_with_a_reason(way: str, session: Session) -> None:
    sweep_id = add_sweep(session)
    ids: set[int] = set()
    while held := claim(session, sweep_id):
        ids |= {job.id for job in held.jobs}
        if way == "expired":
            expire(session, held)
            reap(session, max_attempts=2)
        else:
            fail_claim(session, held, error="RuntimeError: broke", max_attempts=2)
            session.commit()
    assert len(ids) == GROUP_SIZE
    for job in (job_row(session, job_id) for job_id in ids):
        assert (job.status, job.attempt, job.reason) == ("failed", 2, Reason.ATTEMPTS_EXHAUSTED)
        assert job.error
        assert job.finished_at is not None
    assert assert_counts_add_up(session, sweep_id) == {"failed": 4, "pending": 8}


def test_losing_the_last_unfinished_jobs_completes_the_sweep(session: Session) -> None:
    sweep_id = add_sweep(session, groups=1)
    expire(session, claimed(session, sweep_id))
    reap(session, max_attempts=1)
    assert get_sweep(session, sweep_id).sweep.status == "completed"


def test_completion_that_comes_before_the_reaper_wins(
    sessions: SessionFactory, session: Session
) -> None:
    held = claimed(session, add_sweep(session))
    expire(session, held)
    complete_claim(session, held, successes(held), environment())
    with sessions() as reaper:
        assert reap(reaper) == 0  # passes over the lease that is being completed
    session.commit()
    assert {job.status for job in jobs_of(session, held)} == {"completed"}
    assert reap(session) == 0


def test_completion_that_comes_after_the_reaper_writes_nothing(
    sessions: SessionFactory, session: Session
) -> None:
    held = claimed(session, add_sweep(session))
    expire(session, held)
    with sessions() as completing, ThreadPoolExecutor(1) as pool:
        assert reap_expired_leases(session, max_attempts=3) == GROUP_SIZE
        late = pool.submit(complete, completing, held)
        wait_until_blocked(session, late)
        session.commit()
        with pytest.raises(StaleLeaseError):
            late.result()
    assert {job.status for job in jobs_of(session, held)} == {"pending"}
    assert all(trials_of(session, job.id) == [] for job in held.jobs)


def test_two_reapers_at_once_take_each_job_back_once(
    sessions: SessionFactory, session: Session
) -> None:
    sweep_id = add_sweep(session)
    expire(session, *[claimed(session, sweep_id, group) for group in range(GROUPS)])
    with sessions() as other:
        assert reap_expired_leases(session, max_attempts=3) == GROUPS * GROUP_SIZE
        assert reap_expired_leases(other, max_attempts=3) == 0
    session.commit()
    assert assert_counts_add_up(session, sweep_id) == {"pending": GROUPS * GROUP_SIZE}


def test_completion_keeps_every_figure_of_every_trial(session: Session) -> None:
    held = claimed(session, add_sweep(session))
    complete(session, held)
    job = held.jobs[0]
    assert [row.trial for row in trials_of(session, job.id)] == [0, 1]
    for row in trials_of(session, job.id):
        expected = trial(row.trial)
        assert expected.throughput is not None
        assert (row.accuracy, row.train_accuracy, row.fit_s) == (0.5, 0.6, 0.25)
        assert (row.weights_seed, row.correct_bits) == (
            expected.weights_seed,
            expected.correct_bits,
        )
        assert row.attempt == 1
        timing = session.execute(
            select(Timing).filter_by(job_id=job.id, trial=row.trial)
        ).scalar_one()
        assert (timing.images_per_s, timing.spread, timing.runs) == (100, 0.01, 9)
        assert (timing.source, timing.attempt) == (ThroughputSource.MEASURED, 1)
        assert timing.environment_id == row.environment_id
        place = session.get_one(Environment, row.environment_id)
        assert (place.device, place.dataset_hash) == ("a processor", "ab" * 32)
        assert place.versions == {"python": "3", "torch": "2"}


def test_equal_environments_are_one_row_and_others_are_others(session: Session) -> None:
    sweep_id = add_sweep(session)
    for group, device in enumerate(["one", "one", "two"]):
        held = claimed(session, sweep_id, group)
        complete_claim(session, held, successes(held), environment(device))
        session.commit()
    devices = session.execute(select(Environment.device).order_by(Environment.id)).scalars()
    assert list(devices) == ["one", "two"]


def test_totals_of_a_job_are_those_of_its_trials_also_after_more_of_them(
    session: Session,
) -> None:
    sweep_id = add_sweep(session, groups=1, trials=3)
    rng = np.random.default_rng(5)
    accuracy, speed = rng.uniform(0.1, 0.9, 7), rng.uniform(50, 900, 7)

    def measure(held: Claim) -> None:
        outcomes = [
            success([trial(n, accuracy[n], speed[n]) for n in job.trials]) for job in held.jobs
        ]
        complete(session, held, outcomes)
        for job in jobs_of(session, held):
            done = job.trials_done
            assert done == job.trials_target
            assert job.accuracy == pytest.approx(np.mean(accuracy[:done]), rel=1e-12)
            assert job.accuracy_sd == pytest.approx(np.std(accuracy[:done], ddof=1), rel=1e-9)
            assert job.accuracy_min == accuracy[:done].min()
            assert job.accuracy_max == accuracy[:done].max()
            assert job.train_accuracy == pytest.approx(np.mean(accuracy[:done] + 0.1), rel=1e-12)
            rate = throughput_of(session, job)
            assert rate.throughput == pytest.approx(np.median(speed[:done]), rel=1e-12)
            assert rate.throughput_min == speed[:done].min()
            assert rate.throughput_max == speed[:done].max()
            assert rate.throughput_measured is True
            assert job.fit_s == 0.25

    measure(claimed(session, sweep_id))
    session.execute(text("UPDATE sweeps SET status = 'running'"))
    session.execute(text("UPDATE jobs SET status = 'pending', attempt = 0, trials_target = 7"))
    session.commit()
    more = claimed(session, sweep_id)
    assert {job.trials for job in more.jobs} == {range(3, 7)}
    measure(more)
    assert assert_counts_add_up(session, sweep_id) == {"completed": GROUP_SIZE}


def test_one_trial_has_no_spread_and_untimed_trials_no_throughput(session: Session) -> None:
    held = claimed(session, add_sweep(session, trials=1))
    complete(session, held, [success([trial(0, images_per_s=None)])] * GROUP_SIZE)
    job = jobs_of(session, held)[0]
    assert job.accuracy_sd is None
    assert session.execute(select(JobThroughput)).all() == []


def test_disturbed_timings_do_not_move_the_throughput_of_a_network(session: Session) -> None:
    speeds = (88_140.0, 89_920.0, 75_960.0, 381.0, 7_238.0, 57_180.0, 85_000.0)
    held = claimed(session, add_sweep(session, groups=1, trials=len(speeds)))
    trials = [trial(number, 0.5, speed) for number, speed in enumerate(speeds)]
    complete(session, held, [success(trials)] * GROUP_SIZE)
    rate = throughput_of(session, jobs_of(session, held)[0])
    assert (rate.throughput, rate.throughput_min, rate.throughput_max) == (75_960, 381, 89_920)


def test_a_network_timed_once_has_that_throughput(session: Session) -> None:
    held = claimed(session, add_sweep(session, groups=1, trials=3))
    timed, *untimed = (trial(n, 0.5, 700.0 if n == 0 else None) for n in range(3))
    complete(session, held, [success([timed, *untimed])] * GROUP_SIZE)
    rate = throughput_of(session, jobs_of(session, held)[0])
    assert (rate.throughput, rate.throughput_min, rate.throughput_measured) == (700, 700, True)


def test_a_claim_says_what_the_device_model_has_timed(session: Session) -> None:
    sweep_id = add_sweep(session, groups=1)
    held = claimed(session, sweep_id)
    assert not any(job.timed for job in held.jobs)
    untimed = success([trial(n, images_per_s=None) for n in range(2)])
    complete(session, held, [untimed, *successes(held)[1:]])  # on "a processor", as the workers
    extend_sweep(session, sweep_id, trials=3)
    session.commit()
    again = claimed(session, sweep_id)
    assert [job.timed for job in again.jobs] == [False] + [True] * (GROUP_SIZE - 1)
    release_claim(session, again)
    session.execute(text("UPDATE workers SET device = 'another'"))
    elsewhere = claim(session, sweep_id, worker_id=session.scalars(select(Worker.id)).first())
    assert elsewhere is not None
    assert not any(job.timed for job in elsewhere.jobs)


def test_jobs_of_one_claim_may_end_in_every_way(session: Session) -> None:
    sweep_id = add_sweep(session, trials=2)
    held = claimed(session, sweep_id)
    outcomes = [
        success([trial(0), trial(1)]),
        rejection(),
        JobOutcome(JobStatus.INVALID, Reason.INVALID_SHAPE),
        JobOutcome(JobStatus.FAILED, Reason.NON_FINITE, error="NaN in layer 2"),
    ]
    assert complete(session, held, outcomes) == GROUP_SIZE
    completed, rejected, invalid, failed = jobs_of(session, held)
    assert (completed.status, completed.reason, completed.trials_done) == ("completed", None, 2)
    assert (rejected.status, rejected.reason) == ("rejected", "accuracy_below_minimum")
    assert (rejected.trials_done, rejected.accuracy) == (1, 0.1)
    assert (invalid.status, invalid.reason, invalid.accuracy) == ("invalid", "invalid_shape", None)
    assert (failed.status, failed.error, failed.accuracy) == ("failed", "NaN in layer 2", None)
    counts = assert_counts_add_up(session, sweep_id)
    assert counts == {"completed": 1, "rejected": 1, "invalid": 1, "failed": 1, "pending": 8}


@pytest.mark.parametrize("message", ["a\0b", "half \ud800", "ünïcödé €", "'; DROP TABLE jobs"])
def test_any_error_message_is_kept_readable(message: str, session: Session) -> None:
    sweep_id = add_sweep(session)
    reported, lost = claimed(session, sweep_id, 0), claimed(session, sweep_id, 1)
    outcome = JobOutcome(JobStatus.FAILED, Reason.ENGINE_ERROR, error=message)
    complete(session, reported, [outcome] * GROUP_SIZE)
    fail_claim(session, lost, error=message, max_attempts=1)
    session.commit()
    readable = message.replace("\0", "?").replace("\ud800", "?")
    assert {job.error for job in jobs_of(session, reported) + jobs_of(session, lost)} == {readable}


def test_last_completion_completes_the_sweep_and_no_earlier_one(session: Session) -> None:
    sweep_id = add_sweep(session)
    for group in range(GROUPS):
        assert get_sweep(session, sweep_id).sweep.status == "running"
        complete(session, claimed(session, sweep_id, group))
    sweep = get_sweep(session, sweep_id).sweep
    assert sweep.status == "completed"
    assert sweep.completed_at is not None


def test_sweep_paused_before_its_last_completion_completes(session: Session) -> None:
    sweep_id = add_sweep(session, groups=1)
    held = claimed(session, sweep_id)
    pause_sweep(session, sweep_id)
    complete(session, held)
    assert get_sweep(session, sweep_id).sweep.status == "completed"


def test_two_last_completions_at_once_complete_the_sweep(
    sessions: SessionFactory, session: Session
) -> None:
    sweep_id = add_sweep(session, groups=2)
    first, second = claimed(session, sweep_id, 0), claimed(session, sweep_id, 1)
    complete_claim(session, first, successes(first), environment())
    with sessions() as other, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(complete, other, second)
        wait_until_blocked(session, waiting)
        session.commit()
        assert waiting.result() == GROUP_SIZE
    assert get_sweep(session, sweep_id).sweep.status == "completed"
    assert assert_counts_add_up(session, sweep_id) == {"completed": 8}


def test_completions_of_different_sweeps_do_not_wait_for_each_other(
    sessions: SessionFactory, session: Session
) -> None:
    finish_sweep(session, add_sweep(session))  # the environment is known by now
    first, second = claimed(session, add_sweep(session)), claimed(session, add_sweep(session))
    complete_claim(session, first, successes(first), environment())
    with sessions() as other:
        other.execute(text("SET LOCAL lock_timeout = '100ms'"))
        assert complete(other, second) == GROUP_SIZE
    session.commit()


def test_cancelling_during_the_last_completion_ends_in_one_of_the_two(
    sessions: SessionFactory, session: Session
) -> None:
    sweep_id = add_sweep(session, groups=2)
    complete(session, claimed(session, sweep_id, 0))
    held = claimed(session, sweep_id, 1)
    session.execute(text("SELECT FROM leases FOR UPDATE"))  # both wait here, then both go on
    with sessions() as completing, sessions() as cancelling, ThreadPoolExecutor(2) as pool:
        completion = pool.submit(complete, completing, held)
        wait_until_blocked(session, completion)
        cancellation = pool.submit(commit_cancel, cancelling, sweep_id)
        wait_until_blocked(session, completion, cancellation)
        session.commit()
        assert completion.result() == GROUP_SIZE
        cancellation.result()
    assert get_sweep(session, sweep_id).sweep.status in ("completed", "cancelled")
    assert assert_counts_add_up(session, sweep_id) == {"completed": 2 * GROUP_SIZE}


def test_last_completion_that_had_to_leave_the_sweep_is_made_good_by_the_reaper(
    sessions: SessionFactory, session: Session
) -> None:
    sweep_id = add_sweep(session, groups=2)
    complete(session, claimed(session, sweep_id, 0))
    held = claimed(session, sweep_id, 1)
    with sessions() as elsewhere:
        elsewhere.execute(text("SELECT FROM sweeps FOR SHARE"))  # as a claim does
        complete(session, held)
    assert get_sweep(session, sweep_id).sweep.status == "running"
    reap(session)
    assert get_sweep(session, sweep_id).sweep.status == "completed"


def commit_cancel(session: Session, sweep_id: int) -> int:
    cancelled = cancel_sweep(session, sweep_id)
    session.commit()
    return cancelled


REFUSED = {
    "running without a token": ("jobs_lease", "UPDATE jobs SET lease_token = NULL"),
    "a token without running": ("jobs_lease", "UPDATE jobs SET status = 'pending'"),
    "an unknown job state": ("jobs_status", "UPDATE jobs SET status = 'x', lease_token = NULL"),
    "an unknown sweep state": ("sweeps_status", "UPDATE sweeps SET status = 'x'"),
    "completed with missing trials": (
        "jobs_completed",
        "UPDATE jobs SET status = 'completed', lease_token = NULL",
    ),
    "more trials than wanted": ("jobs_trials", "UPDATE jobs SET trials_done = 3"),
    "a lease over without outcome": ("leases_outcome", "UPDATE leases SET ended_at = now()"),
    "a job of no group": ("jobs_sweep_id_group_index_fkey", "UPDATE jobs SET group_index = 99"),
    "fewer than no pending jobs": ("groups_pending", "UPDATE groups SET pending = -1"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_postgres_itself_refuses(what: str, session: Session) -> None:
    constraint, statement = REFUSED[what]
    claimed(session, add_sweep(session, groups=1))
    with pytest.raises(IntegrityError, match=constraint):
        session.execute(text(statement))


@pytest.mark.parametrize(
    ("outcome", "constraint"),
    [
        (success([trial(0), trial(0)]), "trials_pkey"),
        (success([trial(0)]), "jobs_completed"),
        (rejection(0, 1, 2), "jobs_trials"),
        (success([trial(0), trial(-1)]), "trials_trial"),
        (success([trial(0), trial(1, images_per_s=0)]), "timings_measured"),
        (success([trial(0), trial(1, accuracy=-0.01)]), "trials_accuracy"),
        (success([trial(0), trial(1, accuracy=1.01)]), "trials_accuracy"),
    ],
)
def test_results_that_cannot_be_are_refused_whole(
    outcome: JobOutcome, constraint: str, session: Session
) -> None:
    held = claimed(session, add_sweep(session))
    before = snapshot(session)
    outcomes = [*successes(held)[1:], outcome]
    with pytest.raises(IntegrityError, match=constraint):
        complete_claim(session, held, outcomes, environment())
    session.rollback()
    assert snapshot(session) == before


def test_trial_written_twice_is_refused_by_postgres_itself(session: Session) -> None:
    sweep_id = add_sweep(session, groups=1)
    complete(session, claimed(session, sweep_id))
    session.execute(text("UPDATE sweeps SET status = 'running'"))
    session.execute(text("UPDATE jobs SET status = 'pending', attempt = 0, trials_target = 3"))
    held = claimed(session, sweep_id)
    with pytest.raises(IntegrityError, match="trials_pkey"):
        complete(session, held, [success([trial(1)])] * GROUP_SIZE)


def test_claim_that_is_never_committed_holds_nothing(
    sessions: SessionFactory, session: Session
) -> None:
    sweep_id, worker_id = add_sweep(session), add_worker(session)
    with sessions() as dying:
        found = claim_group(
            dying, sweep_id=sweep_id, group=0, worker_id=worker_id, lease_s=60, limit=64
        )
        assert found is not None
        dying.rollback()
    assert len(claimed(session, sweep_id).jobs) == GROUP_SIZE
