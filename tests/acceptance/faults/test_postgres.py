"""A Postgres that restarts, is killed, drops connections, has none left, or has a full disk."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from shared.settings import Settings
from tests.acceptance.conftest import small_sweep
from tests.acceptance.faults.invariants import Answers, check
from tests.acceptance.faults.site import LEASE_S, Broker, Postgres, Site, measured, wait_for
from tests.conftest import migrate

PACE_S = 0.07
IMAGES = 100
TERMINATE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'convsweep'
"""


def rate(site: Site, sweep_id: int, s: float) -> float:
    """Returns the jobs that end per second."""
    before, started = site.finished(sweep_id), time.monotonic()
    time.sleep(s)
    return (site.finished(sweep_id) - before) / (time.monotonic() - started)


def test_a_postgres_restart_is_survived_by_every_process(
    site: Site, postgres: Postgres, undisturbed: Answers
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    # a hint that got lost would not come again in the time of this test
    dispatcher = site.start_dispatcher(CONVSWEEP_RESEND_S="3600")
    children = [dispatcher, site.start_worker({"pace_s": PACE_S})]
    site.wait_running(sweep_id)
    postgres.stop("fast")
    time.sleep(2)
    postgres.start()
    restarted = time.monotonic()
    site.wait_more(sweep_id, 60)
    measured("work after a Postgres restart", time.monotonic() - restarted)
    site.wait_completed(sweep_id)
    assert all(child.alive for child in children)
    check(site.database, sweep_id, undisturbed, IMAGES)


@pytest.mark.faults
def test_after_a_postgres_restart_the_rate_is_back_within_a_minute(
    site: Site, postgres: Postgres, undisturbed: Answers
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    site.start_dispatcher()
    site.start_worker({"pace_s": 0.5}, CONVSWEEP_CLAIM_JOBS="1")
    site.wait_running(sweep_id)
    undisturbed_rate = rate(site, sweep_id, 10)
    postgres.stop("fast")
    postgres.start()
    restarted = time.monotonic()
    wait_for(lambda: rate(site, sweep_id, 8) >= 0.95 * undisturbed_rate, "the rate", s=60)
    measured("95 % of the rate after a Postgres restart", time.monotonic() - restarted)
    site.wait_completed(sweep_id)
    check(site.database, sweep_id, undisturbed, IMAGES)


@pytest.mark.faults
def test_killing_postgres_again_and_again_around_commits_loses_and_repeats_nothing(
    site: Site, postgres: Postgres, undisturbed: Answers
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    children = [site.start_dispatcher()]
    children += [site.start_worker({"pace_s": 0.02}, CONVSWEEP_CLAIM_JOBS="2") for _ in range(2)]
    for _ in range(4):
        site.wait_running(sweep_id)
        site.wait_more(sweep_id)
        postgres.kill()
        postgres.start()
    site.wait_completed(sweep_id)
    assert all(child.alive for child in children)
    check(site.database, sweep_id, undisturbed, IMAGES)


@pytest.mark.faults
def test_connections_that_postgres_terminates_are_opened_again(
    site: Site, undisturbed: Answers
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    children = [site.start_dispatcher(), site.start_worker({"pace_s": PACE_S})]
    site.wait_running(sweep_id)
    ended = 0

    def completed() -> bool:
        nonlocal ended
        ended += len(site.rows(TERMINATE))
        time.sleep(1)
        return site.status(sweep_id) == "completed"

    site.wait(completed, "completion")
    assert ended > 3
    assert all(child.alive for child in children)
    check(site.database, sweep_id, undisturbed, IMAGES)


@pytest.mark.faults
def test_when_postgres_has_no_connection_left_all_processes_wait_for_one(
    site: Site, postgres: Postgres, undisturbed: Answers
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    dispatcher = site.start_dispatcher()
    worker = site.start_worker({"pace_s": PACE_S})
    site.wait_running(sweep_id)
    hoarded = _take_all_connections(postgres)
    site.rows(TERMINATE)
    hoarded += _take_all_connections(postgres)
    site.wait(lambda: "dispatch_failed" in dispatcher.text(), "a refused connection")
    time.sleep(3)
    for connection in hoarded:
        connection.close()
    site.wait_completed(sweep_id)
    assert dispatcher.alive
    assert worker.alive
    check(site.database, sweep_id, undisturbed, IMAGES)


def _take_all_connections(postgres: Postgres) -> list[Connection]:
    engine = create_engine(postgres.url(), poolclass=NullPool)
    taken: list[Connection] = []
    with suppress(OperationalError):
        while True:
            taken.append(engine.connect())
    return taken


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mounts a file system in memory that is soon full."""
    folder.mkdir()
    assert os.geteuid() == 0, "mounting a small file system needs root; run this test as root"
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.faults
def test_a_full_disk_under_postgres_loses_nothing_once_there_is_room_again(
    server_dir: Path, tmp_path: Path, broker: Broker, undisturbed: Answers
) -> None:
    with small_disk(server_dir / "small", "192m") as disk:
        postgres = Postgres(disk / "pg", "wal_recycle=off", "min_wal_size=32MB")
        settings = Settings(
            database_url=postgres.url(), broker_url=broker.url(), data_dir=tmp_path / "data",
            lease_s=LEASE_S, resend_s=2, device="cpu",
        )  # fmt: skip
        migrate(settings)
        site = Site(tmp_path, settings, postgres.url())
        try:
            _fill_and_free(site, postgres, disk, undisturbed)
        finally:
            site.close()
            postgres.kill()


def _fill_and_free(site: Site, postgres: Postgres, disk: Path, undisturbed: Answers) -> None:
    sweep_id = site.add_sweep(small_sweep())
    dispatcher = site.start_dispatcher()
    worker = site.start_worker({"pace_s": PACE_S})
    site.wait_running(sweep_id)
    filler = disk / "filler"
    fill(filler)
    ballast = threading.Thread(target=_write_until_refused, args=[postgres])
    ballast.start()
    site.wait(
        lambda: "dispatch_failed" in dispatcher.text() or "heartbeat_failed" in worker.text(),
        "a refused write",
    )
    ballast.join()
    filler.unlink()
    if not postgres.answers():
        postgres.start()
    freed = time.monotonic()
    site.wait_completed(sweep_id)
    measured("completion after the disk had room again", time.monotonic() - freed)
    assert dispatcher.alive
    assert worker.alive
    check(site.database, sweep_id, undisturbed, IMAGES)


def fill(path: Path) -> None:
    """Writes until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(2**16))


def _write_until_refused(postgres: Postgres) -> None:
    """Uses up what the servers had set aside, so that the disk is full for every process."""
    with suppress(OperationalError, DBAPIError):
        postgres.execute(
            "CREATE TABLE ballast AS SELECT md5(n::text) FROM generate_series(1, 2000000) n"
        )
