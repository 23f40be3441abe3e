"""Dispatch: a short backlog of hints in a real Valkey, in order, and again when they are lost."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from services.dispatching.dispatch import PASS_ON_S, reap_expired_leases, send_hints
from services.leasing.group_leases import decline_group, release_claim
from services.monitoring.workers import (
    clear_worker_problem,
    note_worker_problem,
    note_worker_stopped,
    note_worker_waiting,
)
from services.sweeps.control import cancel_sweep, pause_sweep, resume_sweep
from services.sweeps.creation import create_sweep
from shared.db.models import Group
from shared.db.session import make_engine, make_session_factory
from shared.domain.protocol import Order
from shared.messaging.broker import QUEUE_NAME
from shared.messaging.messages import EVALUATE_GROUP
from shared.messaging.queue import HintQueue, make_celery
from shared.settings import Settings
from tests.conftest import SessionFactory
from tests.integration.scenario import (
    GROUPS,
    add_sweep,
    add_worker,
    claimed,
    complete,
    expire,
    finish_sweep,
    small_protocol,
    small_space,
)

NEVER_S = 86_400.0
AT_ONCE_S = 0.0


def dispatch(
    session: Session, hints: HintQueue, *, backlog: int = 100, resend_s: float = NEVER_S
) -> int:
    sent = send_hints(session, hints, backlog=backlog, resend_s=resend_s)
    session.commit()
    return sent


def take_hints(app: Celery) -> list[tuple[int, int]]:
    """Takes all hints out of the queue as a worker would, and returns (sweep_id, group)."""
    taken = []
    with app.connection_for_read() as connection:
        queue = app.amqp.queues[QUEUE_NAME](connection.default_channel)
        while message := queue.get(accept=["json"]):
            message.ack()
            assert message.headers["task"] == EVALUATE_GROUP
            kwargs = message.payload[1]
            taken.append((kwargs["sweep_id"], kwargs["group"]))
    return taken


def test_every_group_with_pending_jobs_is_hinted_once(
    session: Session, hints: HintQueue, celery_app: Celery
) -> None:
    sweep_id = add_sweep(session)
    assert dispatch(session, hints) == GROUPS
    assert len(hints) == GROUPS
    assert dispatch(session, hints) == 0
    assert take_hints(celery_app) == [(sweep_id, group) for group in range(GROUPS)]


def test_backlog_is_never_above_its_target(
    session: Session, hints: HintQueue, celery_app: Celery
) -> None:
    add_sweep(session, groups=20)
    seen = 0
    for _ in range(7):
        dispatch(session, hints, backlog=3)
        assert len(hints) <= 3
        assert dispatch(session, hints, backlog=3) == 0
        seen += len(take_hints(celery_app))
    assert seen == 20


def test_room_in_the_backlog_is_filled_and_no_more(session: Session, hints: HintQueue) -> None:
    add_sweep(session, groups=20)
    assert dispatch(session, hints, backlog=5) == 5
    assert dispatch(session, hints, backlog=8) == 3
    assert dispatch(session, hints, backlog=4) == 0
    assert len(hints) == 8


def test_hints_go_in_the_order_of_positions_and_sweeps_take_turns(
    session: Session, hints: HintQueue, celery_app: Celery
) -> None:
    protocol = small_protocol(order=Order.RANDOM)
    sweeps = [create_sweep(session, small_space(9), protocol).id for _ in range(2)]
    session.commit()
    for _ in range(6):
        dispatch(session, hints, backlog=len(hints) + 3)
    groups = session.query(Group).all()
    expected = sorted(groups, key=lambda group: (group.position, group.sweep_id))
    taken = take_hints(celery_app)
    assert taken == [(group.sweep_id, group.index) for group in expected]
    assert [sweep_id for sweep_id, _ in taken] == sweeps * 9


def test_two_dispatchers_at_once_hint_no_group_twice(
    sessions: SessionFactory, session: Session, hints: HintQueue, celery_app: Celery
) -> None:
    sweep_id = add_sweep(session, groups=60)

    def run(_: int) -> int:
        with sessions() as own:
            return sum(dispatch(own, hints, backlog=60) for _ in range(20))

    with ThreadPoolExecutor(4) as pool:
        sent = sum(pool.map(run, range(4)))
    sent += dispatch(session, hints)
    taken = take_hints(celery_app)
    assert sent == len(taken) == 60
    assert sorted(taken) == [(sweep_id, group) for group in range(60)]


def test_two_dispatchers_at_once_stay_within_the_backlog(
    sessions: SessionFactory, session: Session, hints: HintQueue
) -> None:
    add_sweep(session, groups=20)
    with sessions() as other:
        assert send_hints(session, hints, backlog=5, resend_s=NEVER_S) == 5
        assert send_hints(other, hints, backlog=10, resend_s=NEVER_S) == 0  # one at a time
        session.commit()
        other.commit()
        assert dispatch(other, hints, backlog=5) == 0
    assert len(hints) == 5


def test_dispatcher_that_hangs_in_its_turn_loses_it_to_another(
    migrated: Settings, session: Session, hints: HintQueue
) -> None:
    add_sweep(session)
    engine = make_engine(migrated, pool_size=1, idle_in_transaction_s=0.2)
    with make_session_factory(engine)() as hung:
        assert send_hints(hung, hints, backlog=1, resend_s=NEVER_S) == 1  # and then nothing more
        while not dispatch(session, hints, backlog=100):
            time.sleep(0.01)
        with pytest.raises(DBAPIError):
            hung.commit()
    engine.dispose()
    assert len(hints) == 1 + GROUPS  # what it had sent comes once more


def test_lost_hints_are_sent_again_after_the_resend_time(
    session: Session, hints: HintQueue, celery_app: Celery
) -> None:
    add_sweep(session)
    dispatch(session, hints)
    with celery_app.connection_for_write() as connection:
        connection.default_channel.client.flushall()
    assert len(hints) == 0
    assert dispatch(session, hints, resend_s=NEVER_S) == 0
    session.execute(text("UPDATE groups SET hinted_at = hinted_at - interval '16 seconds'"))
    assert dispatch(session, hints, resend_s=15) == GROUPS


def test_groups_never_hinted_come_before_those_hinted_again(
    session: Session, hints: HintQueue, celery_app: Celery
) -> None:
    sweep_id = add_sweep(session)
    dispatch(session, hints, backlog=1)
    take_hints(celery_app)
    assert dispatch(session, hints, backlog=2, resend_s=AT_ONCE_S) == 2
    assert take_hints(celery_app) == [(sweep_id, 1), (sweep_id, 2)]


def test_groups_that_are_claimed_or_done_get_no_hint(
    session: Session, hints: HintQueue, celery_app: Celery
) -> None:
    sweep_id = add_sweep(session)
    claimed(session, sweep_id, 0)
    complete(session, claimed(session, sweep_id, 1))
    assert dispatch(session, hints, resend_s=AT_ONCE_S) == 1
    assert take_hints(celery_app) == [(sweep_id, 2)]


@pytest.mark.parametrize("end", [pause_sweep, cancel_sweep, finish_sweep])
def test_only_running_sweeps_get_hints(end: object, session: Session, hints: HintQueue) -> None:
    sweep_id = add_sweep(session)
    assert callable(end)
    end(session, sweep_id)
    session.commit()
    assert dispatch(session, hints, resend_s=AT_ONCE_S) == 0


def test_resumed_sweep_is_hinted_again(session: Session, hints: HintQueue) -> None:
    sweep_id = add_sweep(session)
    pause_sweep(session, sweep_id)
    assert dispatch(session, hints) == 0
    resume_sweep(session, sweep_id)
    assert dispatch(session, hints) == GROUPS


def test_group_of_an_expired_lease_is_hinted_at_once(
    session: Session, hints: HintQueue, celery_app: Celery
) -> None:
    sweep_id = add_sweep(session)
    dispatch(session, hints)
    take_hints(celery_app)
    expire(session, claimed(session, sweep_id, 1))
    reap_expired_leases(session, max_attempts=3)
    assert dispatch(session, hints, resend_s=NEVER_S) == 1
    assert take_hints(celery_app) == [(sweep_id, 1)]


def test_group_handed_back_is_hinted_at_once(
    session: Session, hints: HintQueue, celery_app: Celery
) -> None:
    sweep_id = add_sweep(session)
    dispatch(session, hints)
    take_hints(celery_app)
    release_claim(session, claimed(session, sweep_id, 2))
    assert dispatch(session, hints, resend_s=NEVER_S) == 1
    assert take_hints(celery_app) == [(sweep_id, 2)]


def test_crash_between_sending_and_committing_repeats_hints(
    session: Session, hints: HintQueue, celery_app: Celery
) -> None:
    sweep_id = add_sweep(session)
    send_hints(session, hints, backlog=100, resend_s=NEVER_S)
    session.rollback()
    assert dispatch(session, hints) == GROUPS
    every_group = [(sweep_id, group) for group in range(GROUPS)]
    assert take_hints(celery_app) == every_group * 2


def test_broker_that_is_away_costs_no_hint(
    session: Session, hints: HintQueue, tmp_path_factory: pytest.TempPathFactory
) -> None:
    add_sweep(session)
    nowhere = f"redis+socket://{tmp_path_factory.mktemp('x') / 'no.sock'}"
    away = make_celery(Settings(broker_url=nowhere))
    away.conf.broker_connection_timeout = 0.1
    with pytest.raises(OperationalError):
        dispatch(session, HintQueue(away))
    away.close()
    session.rollback()
    assert dispatch(session, hints) == GROUPS


def test_hints_are_plain_json_without_results(hints: HintQueue, celery_app: Celery) -> None:
    hints.send(2**62, 7)
    with celery_app.connection_for_read() as connection:
        (raw,) = connection.default_channel.client.lrange(QUEUE_NAME, 0, -1)
    message = json.loads(raw)
    assert message["content-type"] == "application/json"
    assert message["headers"]["ignore_result"] is True
    assert take_hints(celery_app) == [(2**62, 7)]


def test_a_sweep_that_no_worker_can_serve_does_not_keep_others_waiting(
    session: Session, hints: HintQueue, celery_app: Celery
) -> None:
    hopeless, served = add_sweep(session), add_sweep(session)
    session.commit()
    reached: set[tuple[int, int]] = set()
    for _ in range(GROUPS):
        dispatch(session, hints, backlog=4)
        for sweep_id, group in take_hints(celery_app):
            if sweep_id == hopeless:
                decline_group(session, sweep_id, group)
            else:
                reached.add((sweep_id, group))
        session.commit()
    assert reached == {(served, group) for group in range(GROUPS)}
    dispatch(session, hints, backlog=4)
    assert {sweep_id for sweep_id, _ in take_hints(celery_app)} == {hopeless}


def drain(session: Session, hints: HintQueue, app: Celery, unable: int) -> list[tuple[int, int]]:
    """Dispatches once; the workers that cannot serve the sweep ``unable`` decline all its hints."""
    dispatch(session, hints, backlog=32, resend_s=60)
    taken = take_hints(app)
    for sweep_id, group in taken:
        if sweep_id == unable:
            decline_group(session, sweep_id, group)
    session.commit()
    return taken


def let_time_pass(session: Session, seconds: float) -> None:
    """Moves all hints and problems into the past."""
    past = {"past": f"{seconds} seconds"}
    for table in ("groups", "worker_problems"):
        session.execute(
            text(f"UPDATE {table} SET hinted_at = hinted_at - CAST(:past AS interval)"), past
        )
    session.commit()


@pytest.mark.parametrize("workers", [1, 3])
def test_a_sweep_that_no_worker_can_serve_gets_one_hint_for_each_worker_and_resend_time(
    workers: int, session: Session, hints: HintQueue, celery_app: Celery
) -> None:
    sweep_id = add_sweep(session, groups=20)
    for _ in range(workers):
        note_worker_problem(session, add_worker(session), sweep_id, "no images")
    assert drain(session, hints, celery_app, sweep_id) == []
    for _ in range(3):
        let_time_pass(session, 61)
        rounds = [drain(session, hints, celery_app, sweep_id) for _ in range(5)]
        assert [len(taken) for taken in rounds] == [workers, 0, 0, 0, 0]


def test_a_sweep_that_some_workers_can_serve_goes_on_without_filling_the_queue(
    session: Session, hints: HintQueue, celery_app: Celery
) -> None:
    sweep_id, other = add_sweep(session, groups=20), add_sweep(session, groups=20)
    unable, _able = add_worker(session), add_worker(session)
    note_worker_problem(session, unable, sweep_id, "no images")
    first = drain(session, hints, celery_app, sweep_id)
    assert {taken for taken, _ in first} == {other}
    let_time_pass(session, PASS_ON_S)
    assert len(drain(session, hints, celery_app, sweep_id)) == 2
    assert drain(session, hints, celery_app, sweep_id) == []


@pytest.mark.parametrize("end", ["cleared", "stopped", "silent", "waits for a device"])
def test_a_problem_that_is_over_limits_no_hints(
    end: str, session: Session, hints: HintQueue, celery_app: Celery
) -> None:
    sweep_id, worker_id = add_sweep(session, groups=20), add_worker(session)
    note_worker_problem(session, worker_id, sweep_id, "no images")
    if end == "cleared":
        clear_worker_problem(session, worker_id, sweep_id)
    elif end == "stopped":
        note_worker_stopped(session, worker_id)
    elif end == "waits for a device":
        note_worker_waiting(session, worker_id, "no GPU is free")
    else:
        session.execute(text("UPDATE workers SET last_seen_at = now() - interval '3 minutes'"))
    assert len(drain(session, hints, celery_app, sweep_id)) == 20
