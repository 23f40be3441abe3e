"""What worker and dispatcher log: each line with the ids of what it is about."""

from typing import Any

from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from services.dispatching.dispatch import reap_expired_leases
from shared.domain.measurements import JobOutcome, Reason
from shared.domain.status import JobStatus
from shared.settings import Settings
from tests.conftest import SessionFactory
from tests.integration.leasing.test_execution import Site
from tests.integration.monitoring.test_api_logs import capture
from tests.integration.scenario import add_sweep, claimed, expire, small_protocol, statuses
from worker.evaluation.request import Evaluate, GroupRequest


def logged_by(
    engine: Evaluate, settings: Settings, sessions: SessionFactory, session: Session
) -> Any:
    """Returns the sweep's id and the lines of a worker that evaluates a group of it."""
    site = Site(settings, session)
    executor = site.executor(sessions, engine=engine)
    sweep_id = site.add_sweep(small_protocol())
    with capture() as lines:
        executor.execute_group(sweep_id, 0)
    return sweep_id, lines


def test_a_failed_group_is_logged_with_its_sweep_its_lease_and_its_jobs(
    migrated: Settings, sessions: SessionFactory, session: Session
) -> None:
    def broken(_: GroupRequest) -> Any:
        raise ValueError("no")

    sweep_id, lines = logged_by(broken, migrated, sessions, session)
    (line,) = [line for line in lines if line["event"] == "group_failed"]
    assert (line["sweep_id"], line["group"]) == (sweep_id, 0)
    assert line["job_ids"] == list(statuses(session, sweep_id))
    assert line["lease"]


def test_a_job_without_an_answer_is_logged_with_its_id_and_reason(
    migrated: Settings, sessions: SessionFactory, session: Session
) -> None:
    def blind(request: GroupRequest) -> list[JobOutcome]:
        failure = JobOutcome(JobStatus.FAILED, Reason.NON_FINITE, "not finite")
        return [failure for _ in request.architectures]

    sweep_id, lines = logged_by(blind, migrated, sessions, session)
    failed = [line for line in lines if line["event"] == "job_failed"]
    assert [line["job_id"] for line in failed] == list(statuses(session, sweep_id))
    assert {(line["sweep_id"], line["reason"]) for line in failed} == {(sweep_id, "non_finite")}


def test_an_expired_lease_is_logged_with_its_sweep_and_group(session: Session) -> None:
    sweep_id = add_sweep(session)
    lost = claimed(session, sweep_id, 1)
    expire(session, lost)
    with capture_logs() as lines:
        reap_expired_leases(session, max_attempts=3)
    session.commit()
    (line,) = lines
    assert line["event"] == "lease_expired"
    assert (line["sweep_id"], line["group"], line["lease"]) == (sweep_id, 1, str(lost.token))
