"""Every statement that changes the states of jobs changes only those in the states it starts from.

A sweep holds a job in each state. A statement runs on all of them; rows of other states, their
trials and their attempts must be what they were before.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.leasing.environments import environment_row
from services.leasing.group_leases import Claim, fail_claim
from shared.db.queries.leasing import group_leases
from shared.db.queries.leasing.environments import find_environment
from shared.db.queries.sweeps import control
from shared.domain.measurements import JobOutcome, Reason
from shared.domain.status import JobStatus
from tests.integration import scenario
from tests.integration.scenario import (
    add_sweep,
    add_worker,
    assert_counts_add_up,
    claimed,
    complete,
    environment,
    rejection,
    statuses,
    success,
    trial,
)

PENDING, RUNNING, COMPLETED, INVALID, REJECTED, FAILED, CANCELLED = JobStatus
GROUP = 1
TRIALS = 2


@dataclass(frozen=True)
class Jobs:
    """A sweep of one group with a job in each state, and every lease token that was given."""

    session: Session
    sweep_id: int
    ids: dict[JobStatus, int]
    tokens: list[uuid.UUID]
    environment_id: int

    def rows(self) -> dict[JobStatus, Any]:
        """Returns everything stored about each job, by the state it had at first."""
        statement = text("""
            SELECT to_jsonb(jobs) AS job,
                (SELECT jsonb_agg(to_jsonb(trials) ORDER BY trial) FROM trials
                 WHERE job_id = jobs.id) AS trials,
                (SELECT jsonb_agg(to_jsonb(attempts) ORDER BY ended_at) FROM attempts
                 WHERE job_id = jobs.id) AS attempts
            FROM jobs WHERE id = :id
        """)
        return {
            status: self.session.execute(statement, {"id": job_id}).one()._asdict()
            for status, job_id in self.ids.items()
        }


@pytest.fixture
def jobs(session: Session) -> Jobs:
    """Jobs that leases brought to their states, except the cancelled one; all in one group."""
    sweep_id = add_sweep(session, groups=2, trials=TRIALS)
    ended = claimed(session, sweep_id)
    measured = success([trial(number) for number in range(TRIALS)])
    invalid = JobOutcome(INVALID, Reason.INVALID_SHAPE)
    complete(session, ended, [measured, rejection(), invalid, measured])
    failed, running = (claim_one(session, sweep_id, 1) for _ in range(2))
    fail_claim(session, failed, error="broke", max_attempts=1)
    completed, rejected, invalid_id, cancelled = (job.id for job in ended.jobs)
    session.execute(
        text("""
            UPDATE jobs SET group_index = :group,
                status = CASE WHEN id = :cancelled THEN 'cancelled' ELSE status END
            WHERE sweep_id = :sweep_id
        """),
        {"sweep_id": sweep_id, "group": GROUP, "cancelled": cancelled},
    )
    session.commit()
    found = statuses(session, sweep_id)
    ids = {
        PENDING: min(job_id for job_id, status in found.items() if status == PENDING),
        RUNNING: running.jobs[0].id, COMPLETED: completed, INVALID: invalid_id,
        REJECTED: rejected, FAILED: failed.jobs[0].id, CANCELLED: cancelled,
    }  # fmt: skip
    assert [found[ids[status]] for status in JobStatus] == list(JobStatus)
    known = find_environment(session, environment_row(environment())["fingerprint"], sweep_id)
    assert known.id is not None
    return Jobs(session, sweep_id, ids, [ended.token, failed.token, running.token], known.id)


def claim_one(session: Session, sweep_id: int, group: int) -> Claim:
    held = scenario.claim(session, sweep_id, group, limit=1)
    assert held is not None
    return held


def claim(jobs: Jobs) -> None:
    group_leases.claim_jobs(
        jobs.session, sweep_id=jobs.sweep_id, group=GROUP, worker_id=add_worker(jobs.session),
        token=uuid.uuid4(), lease_s=60, limit=64,
    )  # fmt: skip


def complete_all(jobs: Jobs) -> None:
    results = [
        {"id": job_id, "status": "rejected", "reason": "accuracy_below_minimum", "error": None}
        for job_id in jobs.ids.values()
    ]
    for token in jobs.tokens:
        group_leases.complete_jobs(
            jobs.session,
            token=token,
            environment_id=jobs.environment_id,
            jobs=results,
            trials=[],
            timings=[],
            device="cpu",
        )


def release(jobs: Jobs) -> None:
    for token in jobs.tokens:
        group_leases.release_jobs(jobs.session, token)


def lose(jobs: Jobs, max_attempts: int) -> None:
    group_leases.release_lost_jobs(
        jobs.session, jobs.tokens, outcome="expired", max_attempts=max_attempts, error="gone"
    )


# statement: what it makes of each state that it may start from
EDGES: dict[str, tuple[Callable[[Jobs], object], dict[JobStatus, JobStatus]]] = {
    "claim": (claim, {PENDING: RUNNING}),
    "complete": (complete_all, {RUNNING: REJECTED}),
    "release": (release, {RUNNING: PENDING}),
    "lose an attempt": (lambda jobs: lose(jobs, 9), {RUNNING: PENDING}),
    "lose the last attempt": (lambda jobs: lose(jobs, 1), {RUNNING: FAILED}),
    "cancel": (
        lambda jobs: control.cancel_jobs(jobs.session, jobs.sweep_id),
        {PENDING: CANCELLED, RUNNING: CANCELLED},
    ),
    "retry": (
        lambda jobs: control.retry_failed_jobs(jobs.session, jobs.sweep_id),
        {FAILED: PENDING},
    ),
    "extend": (
        lambda jobs: control.extend_jobs(jobs.session, jobs.sweep_id, TRIALS + 1),
        {COMPLETED: PENDING, PENDING: PENDING},
    ),
    "extend the leaders": (
        lambda jobs: control.extend_leaders(
            jobs.session, jobs.sweep_id, TRIALS + 1, 100, device=None, min_throughput=None
        ),
        {COMPLETED: PENDING},
    ),
}
ILLEGAL = [
    (name, source)
    for name, (_, targets) in EDGES.items()
    for source in JobStatus
    if source not in targets
]


@pytest.mark.parametrize("name", EDGES)
def test_a_statement_moves_jobs_of_its_source_states(name: str, jobs: Jobs) -> None:
    statement, targets = EDGES[name]
    before = jobs.rows()
    statement(jobs)
    after = jobs.rows()
    for source, target in targets.items():
        assert after[source] != before[source]
        assert after[source]["job"]["status"] == target
    assert_counts_add_up(jobs.session, jobs.sweep_id)


@pytest.mark.parametrize(("name", "source"), ILLEGAL)
def test_a_statement_changes_nothing_of_jobs_in_other_states(
    name: str, source: JobStatus, jobs: Jobs
) -> None:
    before = jobs.rows()[source]
    EDGES[name][0](jobs)
    assert jobs.rows()[source] == before
