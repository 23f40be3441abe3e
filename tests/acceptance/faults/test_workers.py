"""Workers that are killed, stopped, restarted or cut off: nothing lost, nothing twice."""

import signal
import time
import uuid
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.leasing.training_leases import claim_training
from tests.acceptance.conftest import small_sweep
from tests.acceptance.faults.invariants import Answers, answers, check
from tests.acceptance.faults.site import LEASE_S, ROOT, Postgres, Proxy, Site, measured
from tests.integration.scenario import add_worker

PACE_S = 0.07
IMAGES = 100


def test_a_worker_killed_mid_group_loses_nothing_and_its_jobs_run_again(
    site: Site, undisturbed: Answers
) -> None:
    spare = site.start_spare()
    sweep_id = site.add_sweep(small_sweep())
    site.start_dispatcher()
    victim = site.start_worker({"pace_s": PACE_S})
    site.wait_running(sweep_id)
    victim.kill()
    killed = time.monotonic()
    spare.send(signal.SIGCONT)
    site.wait(lambda: max(site.attempts(sweep_id)) > 1, "a second attempt", LEASE_S + 10)
    measured("killed worker's jobs run again", time.monotonic() - killed)
    site.wait_completed(sweep_id)
    check(site.database, sweep_id, undisturbed, IMAGES)


def test_a_dispatcher_takes_back_the_training_of_a_vanished_worker(site: Site) -> None:
    sweep_id = site.add_sweep(small_sweep())
    statement = """
        INSERT INTO trainings (sweep_id, job_id, recipe, recipe_hash, epochs)
        SELECT sweep_id, min(id), '{}', 'x', 1 FROM jobs WHERE sweep_id = :id GROUP BY sweep_id
    """
    token = uuid.uuid4()
    with Session(site.database) as session:
        session.execute(text(statement), {"id": sweep_id})
        training_id = session.execute(text("SELECT max(id) FROM trainings")).scalar_one()
        worker_id = add_worker(session)  # it never renews its lease
        assert claim_training(session, training_id, worker_id=worker_id, token=token, lease_s=1)
        session.commit()
    site.start_dispatcher()
    waiting = "SELECT FROM trainings WHERE id = :id AND status = 'pending' AND attempt = 1"
    site.wait(lambda: bool(site.rows(waiting, id=training_id)), "the dispatcher", 10)
    [lease] = site.rows("SELECT outcome FROM leases WHERE token = :token", token=token)
    assert lease.outcome == "expired"


def test_a_worker_asked_to_stop_mid_group_releases_its_jobs_and_consumes_no_attempt(
    site: Site, undisturbed: Answers
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    site.start_dispatcher()
    old = site.start_worker({"pace_s": PACE_S})
    site.wait_running(sweep_id)
    asked = time.monotonic()
    assert old.stop(timeout_s=30) == 0
    measured("worker asked to stop has stopped", time.monotonic() - asked)
    assert site.counts(sweep_id)["running"] == 0
    assert site.counts(sweep_id)["pending"] > 0
    site.start_worker()
    site.wait_completed(sweep_id)
    assert site.attempts(sweep_id) == {1}
    check(site.database, sweep_id, undisturbed, IMAGES)


def test_a_worker_stopped_longer_than_its_lease_and_continued_writes_nothing_stale(
    site: Site, undisturbed: Answers
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    site.start_dispatcher()
    zombie = site.start_worker({"pace_s": PACE_S})
    site.wait_running(sweep_id)
    zombie.send(signal.SIGSTOP)
    site.start_worker()
    site.wait_completed(sweep_id)
    assert max(site.attempts(sweep_id)) == 2
    before = answers(site.database, sweep_id)
    zombie.send(signal.SIGCONT)
    site.wait(lambda: "group_dropped" in zombie.text(), "the zombie's awakening")
    assert answers(site.database, sweep_id) == before
    check(site.database, sweep_id, undisturbed, IMAGES)
    assert zombie.stop() == 0


@pytest.mark.faults
def test_a_worker_cut_off_from_postgres_loses_its_jobs_to_another_and_comes_back(
    site: Site, postgres: Postgres, undisturbed: Answers
) -> None:
    other = site.start_spare({"pace_s": PACE_S})
    sweep_id = site.add_sweep(small_sweep())
    site.start_dispatcher()
    with Proxy(postgres.port) as proxy:
        url = site.settings.database_url.replace(str(postgres.port), str(proxy.port))
        lonely = site.start_worker({"pace_s": PACE_S}, CONVSWEEP_DATABASE_URL=url)
        site.wait_running(sweep_id)
        proxy.silence()
        cut = time.monotonic()
        other.send(signal.SIGCONT)
        site.wait(lambda: max(site.attempts(sweep_id)) > 1, "a second attempt", LEASE_S + 15)
        measured("jobs of a worker that is cut off run again", time.monotonic() - cut)
        site.wait_completed(sweep_id)
        check(site.database, sweep_id, undisturbed, IMAGES)
        other.stop()
        proxy.open()
        again = site.add_sweep(small_sweep())
        site.wait_completed(again)
        check(site.database, again, undisturbed, IMAGES)
        assert lonely.alive


@pytest.mark.faults
def test_no_clock_of_a_worker_or_dispatcher_enters_a_lease(
    site: Site, undisturbed: Answers, tmp_path: Path
) -> None:
    for name, shift_s in (("ahead", 3600), ("behind", -3600)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sitecustomize.py").write_text(
            f"import time\n_time = time.time\ntime.time = lambda: _time() + {shift_s}\n"
        )
    path = [{"PYTHONPATH": f"{tmp_path / name}:{ROOT}"} for name in ("ahead", "behind")]
    site.start_dispatcher(**path[0])
    site.wait_registered(*(site.start_worker({"pace_s": PACE_S}, **one) for one in path))
    sweep_id = site.add_sweep(small_sweep())
    site.wait_completed(sweep_id)
    assert site.attempts(sweep_id) == {1}
    rows = site.rows("SELECT outcome, claimed_at, ended_at, now() AS now FROM leases")
    assert {row.outcome for row in rows} == {"completed"}
    assert all((row.now - row.claimed_at).total_seconds() < 600 for row in rows)
    check(site.database, sweep_id, undisturbed, IMAGES)


@pytest.mark.faults
def test_a_worker_of_an_older_version_is_known_by_its_results(
    site: Site, undisturbed: Answers, tmp_path: Path
) -> None:
    old = tmp_path / "old" / "convsweep-0.0.1.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: convsweep\nVersion: 0.0.1\n")
    site.start_dispatcher()
    new = site.start_worker({"pace_s": PACE_S})
    older = site.start_worker({"pace_s": PACE_S}, PYTHONPATH=f"{old.parent}:{ROOT}")
    site.wait_registered(new, older)
    sweep_id = site.add_sweep(small_sweep())
    site.wait_completed(sweep_id)
    versions = site.rows("SELECT DISTINCT code_version FROM workers ORDER BY 1")
    assert len(versions) == 2
    assert versions[0].code_version == "0.0.1"
    strays = site.rows("""
        SELECT t.job_id FROM trials t JOIN attempts a USING (job_id)
        JOIN workers w ON w.id = a.worker_id JOIN environments e ON e.id = t.environment_id
        WHERE e.code_version <> w.code_version
    """)
    assert strays == []
    check(site.database, sweep_id, undisturbed, IMAGES)
