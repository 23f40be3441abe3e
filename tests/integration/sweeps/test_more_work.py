"""Retrying what failed, extending to more trials, and creating once under a key."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from celery import Celery
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.dispatching.dispatch import reap_expired_leases, send_hints
from services.leaderboard.filters import parse_filters
from services.leaderboard.leaders import rank_jobs
from services.leasing.group_leases import complete_claim, fail_claim
from services.sweeps.control import (
    cancel_sweep,
    extend_sweep,
    pause_sweep,
    resume_sweep,
    retry_sweep,
)
from services.sweeps.creation import create_sweep
from services.sweeps.reading import get_sweep
from shared.domain.errors import (
    ConflictError,
    IdempotencyKeyReusedError,
    IllegalTransitionError,
    InvalidInputError,
    SweepNotFoundError,
)
from shared.domain.measurements import JobOutcome, Reason
from shared.domain.space import random_cnn_2025
from shared.domain.status import JobStatus
from shared.messaging.queue import HintQueue
from tests.conftest import SessionFactory
from tests.integration.scenario import (
    GROUP_SIZE,
    GROUPS,
    add_sweep,
    assert_counts_add_up,
    claim,
    claimed,
    complete,
    environment,
    finish_sweep,
    rejection,
    small_protocol,
    small_space,
    success,
    successes,
    trial,
)

TOTAL = GROUPS * GROUP_SIZE


def status_of(session: Session, sweep_id: int) -> str:
    return get_sweep(session, sweep_id).sweep.status


def add_failed_sweep(session: Session) -> int:
    """A completed sweep whose first group has failed."""
    sweep_id = add_sweep(session)
    fail_claim(session, claimed(session, sweep_id, 0), error="broke", max_attempts=1)
    for group in range(1, GROUPS):
        complete(session, claimed(session, sweep_id, group))
    assert status_of(session, sweep_id) == "completed"
    return sweep_id


def test_retry_hands_failed_jobs_out_again_and_a_completed_sweep_runs_again(
    session: Session,
) -> None:
    sweep_id = add_failed_sweep(session)
    assert retry_sweep(session, sweep_id) == GROUP_SIZE
    session.commit()
    sweep = get_sweep(session, sweep_id).sweep
    assert (sweep.status, sweep.completed_at) == ("running", None)
    assert assert_counts_add_up(session, sweep_id) == {"pending": 4, "completed": 8}
    complete(session, claimed(session, sweep_id, 0))
    assert status_of(session, sweep_id) == "completed"
    assert assert_counts_add_up(session, sweep_id) == {"completed": TOTAL}


def test_rejected_and_invalid_jobs_stay_so_when_failed_ones_are_retried(
    session: Session,
) -> None:
    sweep_id = add_sweep(session)
    held = claimed(session, sweep_id, 0)
    invalid = JobOutcome(JobStatus.INVALID, Reason.INVALID_SHAPE)
    complete(session, held, [rejection(), rejection(), invalid, *successes(held)[3:]])
    fail_claim(session, claimed(session, sweep_id, 1), error="broke", max_attempts=1)
    assert retry_sweep(session, sweep_id) == GROUP_SIZE
    session.commit()
    assert assert_counts_add_up(session, sweep_id) == {
        "rejected": 2, "invalid": 1, "completed": 1, "pending": 2 * GROUP_SIZE,
    }  # fmt: skip


def test_rejected_jobs_stay_rejected_when_the_leaders_are_extended(session: Session) -> None:
    sweep_id = add_sweep(session, groups=1)
    held = claimed(session, sweep_id)
    complete(session, held, [rejection(), *successes(held)[1:]])
    assert extend_sweep(session, sweep_id, trials=9, top=GROUP_SIZE) == GROUP_SIZE - 1
    assert assert_counts_add_up(session, sweep_id) == {"rejected": 1, "pending": 3}


def test_retry_counts_attempts_anew(session: Session) -> None:
    sweep_id = add_failed_sweep(session)
    retry_sweep(session, sweep_id)
    session.commit()
    held = claimed(session, sweep_id, 0)
    assert len(held.jobs) == GROUP_SIZE  # together, as if never tried
    fail_claim(session, held, error="broke", max_attempts=2)
    assert assert_counts_add_up(session, sweep_id) == {"pending": 4, "completed": 8}


def test_retry_where_nothing_failed_changes_nothing(session: Session) -> None:
    sweep_id = add_sweep(session)
    assert retry_sweep(session, sweep_id) == 0
    finish_sweep(session, sweep_id)
    assert retry_sweep(session, sweep_id) == 0
    assert status_of(session, sweep_id) == "completed"


def test_retry_of_a_paused_sweep_leaves_it_paused(session: Session) -> None:
    sweep_id = add_sweep(session)
    fail_claim(session, claimed(session, sweep_id, 0), error="broke", max_attempts=1)
    pause_sweep(session, sweep_id)
    assert retry_sweep(session, sweep_id) == GROUP_SIZE
    session.commit()
    assert status_of(session, sweep_id) == "paused"
    assert claim(session, sweep_id, 0) is None
    resume_sweep(session, sweep_id)
    session.commit()
    assert claim(session, sweep_id, 0) is not None


def test_jobs_given_again_are_hinted_at_once(
    session: Session, hints: HintQueue, celery_app: Celery
) -> None:
    sweep_id = add_sweep(session)
    send_hints(session, hints, backlog=100, resend_s=86_400)
    finish_sweep(session, sweep_id)
    extend_sweep(session, sweep_id, trials=3)
    assert send_hints(session, hints, backlog=100, resend_s=86_400) == GROUPS


def test_reaper_leaves_a_sweep_running_that_is_just_given_more(
    sessions: SessionFactory, session: Session
) -> None:
    sweep_id = add_failed_sweep(session)
    session.execute(text("UPDATE sweeps SET status = 'running'"))  # as one that was passed over
    session.commit()
    retry_sweep(session, sweep_id)
    with sessions() as reaper:
        reap_expired_leases(reaper, max_attempts=3)
        session.commit()
        reaper.commit()
        reap_expired_leases(reaper, max_attempts=3)
        reaper.commit()
    assert status_of(session, sweep_id) == "running"


def test_extending_measures_only_the_missing_trials(session: Session) -> None:
    sweep_id = add_sweep(session, trials=2)
    finish_sweep(session, sweep_id)
    assert extend_sweep(session, sweep_id, trials=5) == TOTAL
    session.commit()
    assert status_of(session, sweep_id) == "running"
    for group in range(GROUPS):
        held = claimed(session, sweep_id, group)
        assert {job.trials for job in held.jobs} == {range(2, 5)}
        complete(session, held)
    assert status_of(session, sweep_id) == "completed"
    trials = session.execute(text("SELECT count(*) FROM trials")).scalar_one()
    assert trials == TOTAL * 5


def test_extending_the_leaders_leaves_the_others(session: Session) -> None:
    sweep_id = add_sweep(session, groups=1)
    held = claimed(session, sweep_id)
    accuracies = [0.3, 0.9, 0.5, 0.8]
    complete(session, held, [success([trial(0, a), trial(1, a)]) for a in accuracies])
    assert extend_sweep(session, sweep_id, trials=4, top=2) == 2
    session.commit()
    again = claimed(session, sweep_id)
    assert [job.id for job in again.jobs] == [held.jobs[1].id, held.jobs[3].id]
    complete(session, again)
    assert extend_sweep(session, sweep_id, trials=4) == 2  # the others catch up
    assert assert_counts_add_up(session, sweep_id) == {"pending": 2, "completed": 2}


def test_extending_a_sweep_that_runs_reaches_waiting_jobs_and_leaves_running_ones(
    session: Session,
) -> None:
    sweep_id = add_sweep(session, trials=2)
    complete(session, claimed(session, sweep_id, 0))
    running = claimed(session, sweep_id, 1)
    assert extend_sweep(session, sweep_id, trials=3) == 2 * GROUP_SIZE
    session.commit()
    complete(session, running)
    assert {job.trials for job in claimed(session, sweep_id, 0).jobs} == {range(2, 3)}
    assert {job.trials for job in claimed(session, sweep_id, 2).jobs} == {range(3)}
    assert extend_sweep(session, sweep_id, trials=3) == GROUP_SIZE


def test_rejected_jobs_stay_rejected_when_a_sweep_is_extended(session: Session) -> None:
    sweep_id = add_sweep(session, groups=1)
    held = claimed(session, sweep_id)
    complete(session, held, [rejection(), *successes(held)[1:]])
    assert extend_sweep(session, sweep_id, trials=9) == GROUP_SIZE - 1
    assert assert_counts_add_up(session, sweep_id) == {"rejected": 1, "pending": 3}


@pytest.mark.parametrize("trials", [1, 2])
@pytest.mark.parametrize("top", [None, 5])
def test_extending_to_what_is_there_already_is_refused(
    top: int | None, trials: int, session: Session
) -> None:
    sweep_id = add_sweep(session, trials=2)
    finish_sweep(session, sweep_id)
    with pytest.raises(InvalidInputError, match=f"fewer than {trials} trials") as caught:
        extend_sweep(session, sweep_id, trials=trials, top=top)
    assert caught.value.field == "trials"
    session.rollback()
    assert status_of(session, sweep_id) == "completed"


def test_leaders_need_a_completed_job(session: Session) -> None:
    with pytest.raises(ConflictError, match="no leaders"):
        extend_sweep(session, add_sweep(session), trials=9, top=3)


def test_cancelled_and_unknown_sweeps_get_no_more_work(session: Session) -> None:
    sweep_id = add_sweep(session)
    cancel_sweep(session, sweep_id)
    changes: list[Callable[[int], int]] = [
        lambda one: retry_sweep(session, one),
        lambda one: extend_sweep(session, one, trials=9),
    ]
    for change in changes:
        with pytest.raises(IllegalTransitionError, match="cancelled"):
            change(sweep_id)
        with pytest.raises(SweepNotFoundError):
            change(404)


def test_same_key_and_same_request_get_the_same_sweep(session: Session) -> None:
    def create() -> int:
        protocol = small_protocol()
        return create_sweep(session, small_space(), protocol, "n", idempotency_key="k").id

    first = create()
    session.commit()
    assert create() == first
    assert [state.sweep.id for state in [get_sweep(session, first)]] == [first]
    assert assert_counts_add_up(session, first) == {"pending": TOTAL}


def test_same_key_and_another_request_is_a_conflict(session: Session) -> None:
    create_sweep(session, small_space(), small_protocol(), idempotency_key="k")
    session.commit()
    for space, protocol, name in [
        (small_space(2), small_protocol(), None),
        (small_space(), small_protocol(trials=3), None),
        (small_space(), small_protocol(), "other"),
    ]:
        with pytest.raises(IdempotencyKeyReusedError):
            create_sweep(session, space, protocol, name, idempotency_key="k")
        session.rollback()


def test_the_same_key_in_two_scopes_creates_two_sweeps(session: Session) -> None:
    def create(scope: str, trials: int = 2) -> int:
        protocol = small_protocol(trials)
        return create_sweep(
            session, small_space(), protocol, idempotency_key="k", idempotency_scope=scope
        ).id

    ada, bob = create("ada"), create("bob", trials=3)
    session.commit()
    assert ada != bob
    assert (create("ada"), create("bob", trials=3)) == (ada, bob)
    with pytest.raises(IdempotencyKeyReusedError):
        create("ada", trials=3)


def test_a_key_that_an_older_version_used_counts_in_every_scope(session: Session) -> None:
    old = create_sweep(session, small_space(), small_protocol(), idempotency_key="k").id
    again = create_sweep(
        session, small_space(), small_protocol(), idempotency_key="k", idempotency_scope="ada"
    )
    assert again.id == old
    with pytest.raises(IdempotencyKeyReusedError):
        create_sweep(
            session, small_space(2), small_protocol(), idempotency_key="k", idempotency_scope="ada"
        )


def test_the_release_before_still_creates_one_sweep_under_a_key(session: Session) -> None:
    """Its statement names the constraint and knows no scope."""
    statement = text(
        "INSERT INTO sweeps (name, space, protocol, total, idempotency_key) "
        "VALUES ('n', '{}', '{}', 1, 'k') ON CONFLICT ON CONSTRAINT sweeps_idempotency_key "
        "DO NOTHING RETURNING id"
    )
    created = [session.execute(statement).all() for _ in range(2)]
    assert [len(rows) for rows in created] == [1, 0]


def test_key_of_a_creation_that_failed_is_free_again(
    sessions: SessionFactory, session: Session
) -> None:
    with sessions() as doomed:
        create_sweep(doomed, small_space(), small_protocol(), idempotency_key="k")
        doomed.rollback()
    other = create_sweep(session, small_space(2), small_protocol(), idempotency_key="k")
    assert other.total == 2 * GROUP_SIZE


def test_same_request_many_times_at_once_creates_one_sweep(
    sessions: SessionFactory, session: Session
) -> None:
    threads = 6
    barrier = threading.Barrier(threads)

    def create(_: int) -> int:
        with sessions() as own:
            barrier.wait()
            sweep = create_sweep(own, small_space(), small_protocol(), idempotency_key="k")
            own.commit()
            return sweep.id

    with ThreadPoolExecutor(threads) as pool:
        found = set(pool.map(create, range(threads)))
    assert len(found) == 1
    assert session.execute(text("SELECT count(*) FROM sweeps")).scalar_one() == 1
    assert assert_counts_add_up(session, found.pop()) == {"pending": TOTAL}


def test_extending_and_cancelling_a_large_waiting_sweep_takes_seconds(session: Session) -> None:
    """Each is one statement over all jobs, within the time limit of every statement."""
    protocol = small_protocol().model_copy(update={"input_shape": (3, 96, 96)})
    sweep = create_sweep(session, random_cnn_2025(), protocol)
    session.commit()
    assert extend_sweep(session, sweep.id, trials=9) == 46_656
    session.commit()
    assert cancel_sweep(session, sweep.id) == 46_656
    assert_counts_add_up(session, sweep.id)


def test_each_device_model_has_a_throughput_of_its_own(session: Session) -> None:
    """An extension on another device model: accuracies pool, throughputs do not."""
    sweep_id = add_sweep(session, groups=1)
    complete(session, claimed(session, sweep_id))
    extend_sweep(session, sweep_id, trials=4)
    session.commit()
    for first, device, images_per_s in ((2, "H100", 900.0), (4, "H100", 1100.0)):
        held = claimed(session, sweep_id)
        outcomes = [success([trial(n, 0.8, images_per_s) for n in job.trials]) for job in held.jobs]
        assert held.jobs[0].trials == range(first, first + 2)
        complete_claim(session, held, outcomes, environment(device))
        if first == 2:
            extend_sweep(session, sweep_id, trials=6)
        session.commit()
    figures = session.execute(text("SELECT DISTINCT accuracy, trials_done FROM jobs"))
    assert figures.one() == (pytest.approx(0.7), 6)
    rates = session.execute(
        text("SELECT DISTINCT device, throughput, throughput_min, throughput_max FROM throughputs "
             "ORDER BY 1")
    ).all()  # fmt: skip
    assert rates == [("H100", 1000.0, 900.0, 1100.0), ("a processor", 100.0, 100.0, 100.0)]
    for device, throughput, *_ in rates:
        filters = parse_filters([("device", device)])
        rows = rank_jobs(session, sweep_id, filters, sort="-throughput").rows
        assert {(row.throughput_device, row.throughput) for row in rows} == {(device, throughput)}
