"""Attempts: every hand-out of every job leaves one record, which nothing changes afterwards."""

import random
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import InternalError
from sqlalchemy.orm import Session

from services.dispatching.dispatch import reap_expired_leases
from services.leaderboard.leaders import get_job_detail
from services.leasing.group_leases import Claim, fail_claim, release_claim
from services.sweeps.control import cancel_sweep, retry_sweep
from shared.domain.measurements import JobOutcome, Reason
from shared.domain.status import JobStatus
from tests.integration.scenario import (
    GROUP_SIZE,
    GROUPS,
    add_sweep,
    claim,
    claimed,
    complete,
    expire,
    rejection,
    success,
    trial,
)


def attempts_of(session: Session, job_id: int) -> list[Any]:
    return get_job_detail(session, job_id).attempts


def only_attempt(session: Session, held: Claim) -> Any:
    [attempt] = attempts_of(session, held.jobs[0].id)
    return attempt


def test_running_job_shows_its_open_attempt(session: Session) -> None:
    held = claimed(session, add_sweep(session))
    attempt = only_attempt(session, held)
    assert (attempt.attempt, attempt.lease_token) == (1, held.token)
    assert (attempt.outcome, attempt.ended_at, attempt.error) == (None, None, None)
    assert attempt.hostname == "box"


def test_every_way_of_ending_is_recorded_by_its_name(session: Session) -> None:
    held = claimed(session, add_sweep(session))
    outcomes = [
        success([trial(0), trial(1)]),
        rejection(),
        JobOutcome(JobStatus.INVALID, Reason.INVALID_SHAPE),
        JobOutcome(JobStatus.FAILED, Reason.NON_FINITE, error="NaN in layer 2"),
    ]
    complete(session, held, outcomes)
    found = [attempts_of(session, job.id) for job in held.jobs]
    assert [(row.outcome, row.error) for [row] in found] == [
        ("completed", None),
        ("rejected", None),
        ("invalid", None),
        ("failed", "NaN in layer 2"),
    ]
    for [row] in found:
        assert (row.attempt, row.lease_token) == (1, held.token)
        assert row.started_at <= row.ended_at


@pytest.mark.parametrize("end", ["released", "failed", "expired", "cancelled"])
def test_attempt_without_a_result_says_why(end: str, session: Session) -> None:
    held = claimed(session, add_sweep(session))
    match end:
        case "released":
            release_claim(session, held)
        case "failed":
            fail_claim(session, held, error="RuntimeError: broke", max_attempts=3)
        case "expired":
            expire(session, held)
            reap_expired_leases(session, max_attempts=3)
        case "cancelled":
            cancel_sweep(session, held.sweep_id)
    session.commit()
    attempt = only_attempt(session, held)
    assert (attempt.outcome, attempt.attempt) == (end, 1)
    error = {"failed": "RuntimeError: broke"}.get(end)
    assert attempt.error == error or (end == "expired" and "vanished" in attempt.error)


def unexplained(session: Session) -> list[Any]:
    """Returns jobs whose attempt counter is not what their records add up to."""
    statement = text("""
        SELECT j.id, j.attempt, count(a.*) AS recorded FROM jobs j
        LEFT JOIN attempts a ON a.job_id = j.id AND a.outcome <> 'released'
        GROUP BY j.id
        HAVING j.attempt <> count(a.*) + (j.status = 'running')::int
    """)
    return list(session.execute(statement))


@pytest.mark.parametrize("seed", range(3))
def test_every_retry_is_explained_by_an_attempt_in_any_history(seed: int, session: Session) -> None:
    sweep_id, chance = add_sweep(session), random.Random(seed)
    ends = [
        complete,
        release_claim,
        expire,
        lambda s, c: fail_claim(s, c, error="x", max_attempts=3),
    ]
    for _ in range(40):
        held = claim(session, sweep_id, chance.randrange(GROUPS), limit=chance.choice([1, 64]))
        if held is not None:
            chance.choice(ends)(session, held)  # type: ignore[operator]
            reap_expired_leases(session, max_attempts=3)
            session.commit()
        assert unexplained(session) == []


def test_records_stay_when_a_job_is_retried_and_counted_anew(session: Session) -> None:
    sweep_id = add_sweep(session, groups=1)
    fail_claim(session, claimed(session, sweep_id), error="broke", max_attempts=1)
    retry_sweep(session, sweep_id)
    session.commit()
    again = claimed(session, sweep_id)
    assert len(again.jobs) == GROUP_SIZE
    complete(session, again)
    for job in again.jobs:
        found = [(row.attempt, row.outcome) for row in attempts_of(session, job.id)]
        assert found == [(1, "failed"), (1, "completed")]


@pytest.mark.parametrize(
    "change", ["UPDATE attempts SET outcome = 'completed'", "DELETE FROM attempts"]
)
def test_postgres_itself_refuses_to_change_a_record(change: str, session: Session) -> None:
    complete(session, claimed(session, add_sweep(session)))
    with pytest.raises(InternalError, match="never changed"):
        session.execute(text(change))


def test_records_go_with_their_sweep(session: Session) -> None:
    complete(session, claimed(session, add_sweep(session)))
    session.execute(text("DELETE FROM sweeps"))
    assert session.execute(text("SELECT count(*) FROM attempts")).scalar_one() == 0
