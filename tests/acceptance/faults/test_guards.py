"""The guards themselves: a completion races the reaper, and without a guard the tests fail."""

import shutil
import subprocess
import sys
import threading
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from services.dispatching.dispatch import reap_expired_leases
from services.leasing.group_leases import Claim
from shared.db.queries.leasing.group_leases import complete_jobs
from shared.domain.errors import StaleLeaseError
from shared.domain.measurements import JobOutcome
from tests.acceptance.faults.invariants import broken
from tests.acceptance.faults.site import ROOT
from tests.conftest import SessionFactory
from tests.integration import scenario

ROUNDS = 25
COPIED = ("shared", "services", "api", "worker", "cli", "migrations", "tests")
TOKEN_GUARD = (
    "shared/db/queries/leasing/group_leases.py",
    "WHERE jobs.lease_token = :token AND jobs.status = 'running'",
    "WHERE :token IS NOT NULL",
)
LEASE_GUARD = (
    "services/leasing/group_leases.py",
    'if not lease_queries.end_leases(session, [claim.token], "completed"):',
    'if lease_queries.end_leases(session, [claim.token], "completed") < 0:',
)


def _outcome(trials: range) -> JobOutcome:
    """A result whose bits are those of its accuracy, a half of 500 images."""
    bits = b"\xff" * 31 + b"\xc0"
    return scenario.success([replace(scenario.trial(n), correct_bits=bits) for n in trials])


def _complete(
    sessions: SessionFactory, claim: Claim, won: list[str], start: threading.Barrier
) -> None:
    start.wait()
    with sessions() as session:
        try:
            scenario.complete(session, claim, [_outcome(job.trials) for job in claim.jobs])
            won.append("completion")
        except StaleLeaseError:
            session.rollback()


def _reap(sessions: SessionFactory, won: list[str], start: threading.Barrier) -> None:
    start.wait()
    with sessions.begin() as session:
        if reap_expired_leases(session, max_attempts=ROUNDS + 1):
            won.append("reaper")


def test_of_a_completion_and_the_reaper_at_once_exactly_one_wins(sessions: SessionFactory) -> None:
    with sessions() as session:
        sweep_id = scenario.add_sweep(session, groups=ROUNDS)
    winners = []
    for group in range(ROUNDS):
        with sessions() as session:
            claim = scenario.claimed(session, sweep_id, group)
            scenario.expire(session, claim)
        won: list[str] = []
        start = threading.Barrier(2)
        threads = [
            threading.Thread(target=_complete, args=[sessions, claim, won, start]),
            threading.Thread(target=_reap, args=[sessions, won, start]),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        winners += won
        with sessions() as session:
            assert broken(session.get_bind(), sweep_id, ended=False) == []  # type: ignore[arg-type]
    with sessions() as session:
        reaped = session.execute(
            text("SELECT count(*) FROM jobs WHERE sweep_id = :id AND status = 'pending'"),
            {"id": sweep_id},
        ).scalar_one()
    assert reaped == winners.count("reaper") * scenario.GROUP_SIZE


def test_a_job_that_another_token_holds_does_not_change(sessions: SessionFactory) -> None:
    with sessions() as session:
        sweep_id = scenario.add_sweep(session)
        claim = scenario.claimed(session, sweep_id)
        job = {"id": claim.jobs[0].id, "status": "failed", "reason": "engine_error", "error": "x"}
        environment_id = session.execute(text("SELECT max(id) FROM environments")).scalar_one()
        written = complete_jobs(
            session,
            token=uuid.uuid4(),
            environment_id=environment_id,
            jobs=[job],
            trials=[],
            timings=[],
            device="cpu",
        )
        assert written == []
        assert set(scenario.statuses(session, sweep_id).values()) == {"pending", "running"}


@pytest.mark.faults
@pytest.mark.parametrize("guard", [TOKEN_GUARD, LEASE_GUARD], ids=["token", "lease"])
def test_without_a_guard_a_test_fails(guard: tuple[str, str, str], tmp_path: Path) -> None:
    for room in COPIED:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path, there, instead = guard
    code = (tmp_path / path).read_text()
    assert code.count(there) == 1, f"the guard in {path} has moved; move it here too"
    tests = ["tests/integration/leasing/test_leases.py", "tests/acceptance/faults/test_guards.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-k", "stale or another_token", *tests]
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode == 0
    (tmp_path / path).write_text(code.replace(there, instead))
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout
    assert "1 failed" in done.stdout
