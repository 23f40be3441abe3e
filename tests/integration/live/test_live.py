"""Changes in a sweep since the last poll: each is reported once, whatever commits when."""

import random
import uuid
from typing import Any

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.orm import Session

from services.leasing.environments import environment_row
from services.leasing.group_leases import complete_claim, release_claim
from services.live.changes import Cursor, Watcher, observe
from services.monitoring.workers import (
    clear_worker_problem,
    note_worker_problem,
    note_worker_stopped,
)
from services.sweeps.control import cancel_sweep, extend_sweep, pause_sweep
from services.sweeps.creation import create_sweep
from services.sweeps.reading import get_sweep
from shared.db.queries.leasing.environments import upsert_environment
from shared.domain.errors import InvalidInputError, SweepNotFoundError
from shared.domain.events import LEADERS, End, Event, Leader, Progress, Worker
from shared.domain.ids import MAX_ID
from shared.domain.protocol import Protocol
from shared.domain.space import random_cnn_2025
from tests.conftest import SessionFactory
from tests.integration.scenario import (
    GROUP_SIZE,
    add_sweep,
    add_worker,
    claim,
    claimed,
    complete,
    environment,
    finish_sweep,
    success,
    trial,
)

Seen = tuple[Event, Cursor | None]


def look(session: Session, watcher: Watcher) -> list[Seen]:
    """Returns the events that a watcher gets now."""
    seen = observe(session, watcher.cursor.sweep_id, [watcher.cursor])
    session.rollback()
    return list(watcher.news(seen))


def only(kind: type[Any], events: list[Seen]) -> list[Any]:
    return [event for event, _ in events if type(event) is kind]


def leaders(events: list[Seen]) -> list[tuple[int, int]]:
    """Returns (job, rank) of the leaders that were reported."""
    return [(leader.job_id, leader.rank) for leader in only(Leader, events)]


def complete_with(session: Session, sweep_id: int, group: int, *accuracies: float) -> list[int]:
    """Completes a group, a job with each accuracy, and returns the jobs."""
    held = claimed(session, sweep_id, group)
    outcomes = [
        success([trial(number, accuracy) for number in job.trials])
        for job, accuracy in zip(held.jobs, accuracies, strict=True)
    ]
    complete(session, held, outcomes)
    return [job.id for job in held.jobs]


def test_a_watcher_gets_what_exists_and_then_what_is_new(session: Session) -> None:
    sweep_id = add_sweep(session)
    first = complete_with(session, sweep_id, 0, 0.1, 0.4, 0.3, 0.2)
    watcher = Watcher(Cursor(sweep_id=sweep_id))
    events = look(session, watcher)
    assert [type(event) for event, _ in events] == [Worker, *[Leader] * 4, Progress]
    assert leaders(events) == list(zip(first, [1, 1, 2, 3], strict=True))  # as each finished
    [progress] = only(Progress, events)
    assert (progress.finished, progress.total, progress.status) == (4, 12, "running")
    assert {type(event) for event, _ in look(session, watcher)} <= {Progress}  # the rate moves on
    second = complete_with(session, sweep_id, 1, 0.35, 0.05, 0.5, 0.0)
    events = look(session, watcher)
    assert leaders(events) == list(zip(second, [2, 6, 1, 8], strict=True))
    [leader] = [leader for leader in only(Leader, events) if leader.rank == 1]
    assert (leader.accuracy, leader.throughput, leader.trials_done) == (0.5, 100.0, 2)
    assert len(leader.layers) == 2
    third = complete_with(session, sweep_id, 2, 0.01, 0.02, 0.45, 0.03)
    events = look(session, watcher)
    assert leaders(events) == list(zip(third, [8, 8, 2, 9], strict=True))
    assert [type(event) for event, _ in events][-1] is End
    assert events[-1][0].status == "completed"  # type: ignore[union-attr]


def test_a_network_below_the_tenth_is_no_leader(session: Session) -> None:
    sweep_id = add_sweep(session, groups=4)
    watcher = Watcher(Cursor(sweep_id=sweep_id))
    for group in range(3):
        complete_with(session, sweep_id, group, 0.5, 0.6, 0.7, 0.8)
    assert len(leaders(look(session, watcher))) == LEADERS  # the two of them that stand no more
    complete_with(session, sweep_id, 3, 0.1, 0.2, 0.3, 0.4)
    events = look(session, watcher)
    assert leaders(events) == []
    assert only(End, events)


def continuous_and_cut(
    session: Session, chance: random.Random, *, look_chance: float
) -> tuple[list[Any], list[Any]]:
    """Runs a sweep; returns the leaders seen by a watcher, and by one that is cut off often."""
    groups = 12
    sweep_id = add_sweep(session, groups=groups)
    steady, cut = Watcher(Cursor(sweep_id=sweep_id)), Watcher(Cursor(sweep_id=sweep_id))
    heard, pieced = look(session, steady), look(session, cut)
    for group in chance.sample(range(groups), groups):
        complete_with(session, sweep_id, group, *(chance.random() for _ in range(GROUP_SIZE)))
        heard += look(session, steady)
        if chance.random() < look_chance:
            events = look(session, cut)[: chance.randrange(12)]  # the rest never arrives
            pieced += events
            last = [cursor for _, cursor in pieced if cursor is not None][-1]
            cut = Watcher(Cursor.decode(last.encode(), sweep_id))  # in another process
    pieced += look(session, cut)
    assert only(End, heard)
    assert only(End, pieced)
    return only(Leader, heard), only(Leader, pieced)


@pytest.mark.parametrize("seed", range(8))
def test_every_leader_is_reported_once_over_any_cuts(seed: int, session: Session) -> None:
    chance = random.Random(seed)
    heard, pieced = continuous_and_cut(session, chance, look_chance=chance.random())
    assert len(heard) > LEADERS
    assert pieced == heard


def test_leaders_that_commit_late_are_reported(session: Session, sessions: SessionFactory) -> None:
    sweep_id = add_sweep(session)
    watcher = Watcher(Cursor(sweep_id=sweep_id))
    look(session, watcher)
    with sessions() as slow:
        held = claimed(slow, sweep_id, 0)
        outcomes = [success([trial(n, 0.9) for n in job.trials]) for job in held.jobs]
        complete_claim(slow, held, outcomes, environment())
        slow.flush()  # finished by the clock, but not committed
        # completed by hand: the counts of the sweep are locked by the one who is slow
        other = claim_without_counts(session, sweep_id)
        assert [job for job, _ in leaders(look(session, watcher))] == other
        resumed = Watcher(Cursor.decode(watcher.cursor.encode(), sweep_id))
        slow.commit()
    assert {job for job, _ in leaders(look(session, watcher))} == {job.id for job in held.jobs}
    assert {job for job, _ in leaders(look(session, resumed))} == {job.id for job in held.jobs}


def claim_without_counts(session: Session, sweep_id: int) -> list[int]:
    """Completes the last job of a sweep without the trigger that keeps its counts."""
    environment_id = upsert_environment(session, environment_row(environment("another")))
    statement = text("""
        SET LOCAL session_replication_role = replica;
        UPDATE jobs SET status = 'completed', trials_done = trials_target, accuracy = 0.95,
            finished_at = clock_timestamp(), environment_id = :environment_id
        WHERE id = (SELECT max(id) FROM jobs WHERE sweep_id = :id) RETURNING id
    """)
    values = {"id": sweep_id, "environment_id": environment_id}
    found = list(session.execute(statement, values).scalars())
    session.commit()
    return found


def test_a_leader_measured_again_is_reported_again_and_one_that_moved_up_is_not(
    session: Session,
) -> None:
    sweep_id = add_sweep(session, groups=4)
    for group in range(4):
        complete_with(session, sweep_id, group, *(0.1 * group + 0.01 * n for n in range(4)))
    session.execute(text("UPDATE jobs SET finished_at = finished_at - interval '1 hour'"))
    session.commit()
    watcher = Watcher(Cursor(sweep_id=sweep_id))
    assert len(leaders(look(session, watcher))) == LEADERS
    extend_sweep(session, sweep_id, trials=3, top=4)
    session.commit()
    assert leaders(look(session, watcher)) == []
    again = complete_with(session, sweep_id, 3, 0.0, 0.0, 0.0, 0.9)
    events = look(session, watcher)
    assert {job for job, _ in leaders(events)} <= set(again)
    assert leaders(events)[-1] == (again[-1], 1)


@pytest.mark.parametrize("written", ["x", "e30=", "Ünsinn", "a" * 1999, "bnVsbA==", "W10="])
def test_what_is_no_cursor_is_refused(written: str) -> None:
    with pytest.raises(InvalidInputError, match="leave it out to start again") as refused:
        Cursor.decode(written, 1)
    assert refused.value.field == "Last-Event-ID"


def test_a_cursor_of_another_sweep_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="belongs to sweep 2"):
        Cursor.decode(Cursor(sweep_id=2).encode(), 1)


def test_a_cursor_is_short_enough_for_a_header(session: Session) -> None:
    sweep_id = add_sweep(session)
    watcher = Watcher(Cursor(sweep_id=sweep_id))
    finish_sweep(session, sweep_id)
    for _, cursor in look(session, watcher):
        assert cursor is None or len(cursor.encode()) < 1000
    largest = Cursor(
        sweep_id=MAX_ID, as_of=2**53, floor=(1 / 3, MAX_ID),
        known=[(MAX_ID, 2**53)] * LEADERS,
    )  # fmt: skip
    assert len(largest.encode()) < 2000
    assert Cursor.decode(largest.encode(), MAX_ID) == largest


def test_a_sweep_that_is_not_there_cannot_be_watched(session: Session) -> None:
    with pytest.raises(SweepNotFoundError):
        observe(session, 404)


def test_pauses_and_cancellation_are_reported(session: Session) -> None:
    sweep_id = add_sweep(session)
    watcher = Watcher(Cursor(sweep_id=sweep_id))
    look(session, watcher)
    pause_sweep(session, sweep_id)
    session.commit()
    assert [one.status for one in only(Progress, look(session, watcher))] == ["paused"]
    cancel_sweep(session, sweep_id)
    session.commit()
    assert [one.status for one in only(End, look(session, watcher))] == ["cancelled"]


def workers(events: list[Seen]) -> list[tuple[str, uuid.UUID]]:
    return [(worker.change, worker.id) for worker in only(Worker, events)]


def test_changes_of_workers_are_reported(session: Session) -> None:
    sweep_id, first = add_sweep(session), add_worker(session)
    watcher = Watcher(Cursor(sweep_id=sweep_id))
    assert workers(look(session, watcher)) == [("present", first)]
    second = add_worker(session)
    assert workers(look(session, watcher)) == [("joined", second)]
    held = claim(session, sweep_id, worker_id=second)
    [changed] = only(Worker, look(session, watcher))
    assert (changed.change, changed.sweep_id, changed.group_index) == ("group", sweep_id, 0)
    note_worker_problem(session, first, sweep_id, "its images are missing")
    session.commit()
    [changed] = only(Worker, look(session, watcher))
    assert (changed.change, changed.problem) == ("problem", "its images are missing")
    assert held is not None
    release_claim(session, held)
    note_worker_stopped(session, second)
    session.execute(text("UPDATE workers SET last_seen_at = now() - interval '3 min' "
                         "WHERE id = :id"), {"id": first})  # fmt: skip
    session.commit()
    assert set(workers(look(session, watcher))) == {("gone", first), ("gone", second)}
    assert workers(look(session, watcher)) == []


def test_a_worker_that_left_during_a_cut_is_reported_afterwards(session: Session) -> None:
    sweep_id, worker_id = add_sweep(session), add_worker(session)
    watcher = Watcher(Cursor(sweep_id=sweep_id))
    look(session, watcher)
    note_worker_stopped(session, worker_id)
    session.commit()
    resumed = Watcher(Cursor.decode(watcher.cursor.encode(), sweep_id))
    assert workers(look(session, resumed)) == [("gone", worker_id)]
    assert workers(look(session, Watcher(Cursor(sweep_id=sweep_id)))) == []


def test_a_problem_is_shown_as_long_as_its_sweep_runs(session: Session) -> None:
    sweep_id, worker_id = add_sweep(session), add_worker(session)
    note_worker_problem(session, worker_id, sweep_id, "its images are missing")
    session.commit()
    watcher = Watcher(Cursor(sweep_id=sweep_id))
    assert [one.problem for one in only(Worker, look(session, watcher))] == [
        "its images are missing"
    ]
    pause_sweep(session, sweep_id)
    session.commit()
    assert [one.problem for one in only(Worker, look(session, watcher))] == [None]


def test_a_problem_is_shown_with_its_own_sweep_only(session: Session) -> None:
    sick, healthy = add_sweep(session), add_sweep(session)
    first, second = add_worker(session), add_worker(session)
    for worker_id in (first, second):
        note_worker_problem(session, worker_id, sick, "its images are missing")
    note_worker_problem(session, first, healthy, "wants a GPU")
    clear_worker_problem(session, first, healthy)
    session.commit()
    assert [row.worker_id for row in get_sweep(session, sick).problems] == [first, second]
    assert get_sweep(session, healthy).problems == []
    events = look(session, Watcher(Cursor(sweep_id=sick)))
    assert [event.problem for event in only(Worker, events)] == ["its images are missing"] * 2
    events = look(session, Watcher(Cursor(sweep_id=healthy)))
    assert [event.problem for event in only(Worker, events)] == [None, None]


@pytest.mark.parametrize("end", ["can work again", "stopped", "silent"])
def test_a_problem_goes_with_its_cause_or_its_worker(end: str, session: Session) -> None:
    sweep_id, worker_id = add_sweep(session), add_worker(session)
    note_worker_problem(session, worker_id, sweep_id, "its images are missing")
    if end == "can work again":
        clear_worker_problem(session, worker_id, sweep_id)
    elif end == "stopped":
        note_worker_stopped(session, worker_id)
    else:
        session.execute(text("UPDATE workers SET last_seen_at = now() - interval '3 minutes'"))
        session.commit()
    assert get_sweep(session, sweep_id).problems == []
    add_worker(session)  # a start forgets the problems of workers that are gone
    assert session.execute(text("SELECT count(*) FROM worker_problems")).scalar_one() == 0


def test_trainings_with_the_same_problem_are_one_line(session: Session) -> None:
    sweep_id, worker_id = add_sweep(session), add_worker(session)
    complete(session, claimed(session, sweep_id))
    statement = text("""
        INSERT INTO trainings (sweep_id, job_id, recipe, recipe_hash, epochs)
        SELECT sweep_id, id, '{}', 'x', 1 FROM jobs WHERE status = 'completed' RETURNING id
    """)
    trainings = list(session.execute(statement).scalars())
    for training_id in trainings:
        note_worker_problem(session, worker_id, sweep_id, "too few", training_id=training_id)
    session.commit()
    [row] = get_sweep(session, sweep_id).problems
    assert (row.problem, row.training_id) == ("too few", min(trainings))
    session.execute(text("UPDATE trainings SET status = 'cancelled'"))
    assert get_sweep(session, sweep_id).problems == []


def test_a_rate_is_not_diluted_by_a_pause(session: Session) -> None:
    sweep_id = add_sweep(session)
    for group in (0, 1):
        complete(session, claimed(session, sweep_id, group))
    session.execute(
        text("""
        UPDATE leases SET
            claimed_at = now() - CASE group_index WHEN 0 THEN interval '1 hour'
                                                  ELSE interval '2 seconds' END,
            ended_at = now() - CASE group_index WHEN 0 THEN interval '3598 seconds'
                                                ELSE interval '0 seconds' END
    """)
    )
    rate = get_sweep(session, sweep_id).forecast.jobs_per_s
    assert rate == pytest.approx(GROUP_SIZE / 2, rel=0.05)


@pytest.fixture
def half_done(session: Session) -> int:
    """The published sweep with most of its jobs completed."""
    sweep = create_sweep(session, random_cnn_2025(), Protocol(dataset="digits"))
    environment_id = upsert_environment(session, environment_row(environment()))
    session.execute(
        text("""
        UPDATE jobs SET status = 'completed', trials_done = trials_target, accuracy = random(),
            finished_at = now(), environment_id = :environment_id WHERE id % 4 > 0
    """),
        {"environment_id": environment_id},
    )
    session.commit()
    session.execute(text("ANALYZE jobs"))
    session.commit()
    return sweep.id


def test_a_look_reads_the_best_by_their_index(session: Session, half_done: int) -> None:
    plans: list[str] = []

    def explain(
        connection: Connection, _cursor: Any, statement: str, parameters: Any, *_: Any
    ) -> None:
        if "accuracy DESC" in statement and not statement.startswith("EXPLAIN"):
            rows = connection.exec_driver_sql("EXPLAIN ANALYZE " + statement, parameters)
            plans.append("\n".join(row[0] for row in rows))

    connection = session.connection()
    event.listen(connection, "before_cursor_execute", explain)
    standing = observe(session, half_done)
    watcher = Watcher(Cursor(sweep_id=half_done))
    list(watcher.news(standing))
    observe(session, half_done, [watcher.cursor])
    event.remove(connection, "before_cursor_execute", explain)
    assert len(plans) == 2
    for plan, scans in zip(plans, (1, 2), strict=True):  # a first look goes no further back
        assert plan.count("jobs_ranked_by_accuracy") == scans, plan
        assert "Seq Scan" not in plan, plan
