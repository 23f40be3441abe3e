"""The command line against a real API: retrying, extending, starting under a key, attempts."""

import json
from typing import Any

import pytest
from sqlalchemy.orm import Session
from typer.testing import CliRunner, Result

from cli.main import app
from services.leasing.group_leases import fail_claim
from tests.integration.scenario import GROUP_SIZE, add_sweep, claimed, finish_sweep


@pytest.fixture
def url(api_url: str, session: Session) -> str:
    """The API on an empty database."""
    return api_url


def convsweep(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--url", url])


def answer(url: str, *arguments: str) -> Any:
    done = convsweep(url, *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("options", [[], ["--failed"]])
def test_retry_hands_failed_jobs_out_again(options: list[str], url: str, session: Session) -> None:
    sweep_id = add_sweep(session, groups=1)
    fail_claim(session, claimed(session, sweep_id), error="broke", max_attempts=1)
    session.commit()
    sweep = answer(url, "sweep", "retry", str(sweep_id), *options)
    assert (sweep["status"], sweep["counts"]["pending"]) == ("running", GROUP_SIZE)


def test_extend_reaches_all_or_the_leaders(url: str, session: Session) -> None:
    sweep_id = add_sweep(session, groups=1)
    finish_sweep(session, sweep_id, groups=1)
    sweep = answer(url, "sweep", "extend", "latest", "--trials", "5", "--top", "1")
    assert sweep["counts"]["pending"] == 1
    sweep = answer(url, "sweep", "extend", str(sweep_id), "--trials", "4")
    assert sweep["counts"]["pending"] == GROUP_SIZE


def test_extend_to_fewer_trials_says_what_to_do(url: str, session: Session) -> None:
    sweep_id = add_sweep(session, groups=1)
    finish_sweep(session, sweep_id, groups=1)
    done = convsweep(url, "sweep", "extend", str(sweep_id), "--trials", "2")
    assert done.exit_code != 0
    assert "Ask for more" in str(done.exception)


def test_starting_twice_under_a_key_starts_one_sweep(url: str) -> None:
    ids = {
        answer(url, "sweep", "start", "--preset", "quick", "--key", "nightly")["id"]
        for _ in range(2)
    }
    assert len(ids) == 1
    assert len(answer(url, "sweep", "list")) == 1


def test_job_shows_every_attempt(url: str, session: Session) -> None:
    held = claimed(session, add_sweep(session))
    fail_claim(session, held, error="RuntimeError: broke [/at] x", max_attempts=3)
    session.commit()
    done = convsweep(url, "job", str(held.jobs[0].id))
    assert done.exit_code == 0
    assert "attempts" in done.stdout
    assert "RuntimeError: broke [/at] x" in done.stdout
    claimed(session, held.sweep_id)
    rows = answer(url, "job", str(held.jobs[0].id))["attempts"]
    assert [row["outcome"] for row in rows] == ["failed", None]  # one that runs
