"""A backup of a cluster at work, restored elsewhere, goes on to the same results."""

import subprocess
import sys
from pathlib import Path

import pytest

from shared.settings import Settings, child_environment
from tests.acceptance.conftest import small_sweep
from tests.acceptance.faults.invariants import Answers, answers, broken, differing
from tests.acceptance.faults.site import Postgres, Site


def convsweep(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        env=child_environment(settings), capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_backup_taken_at_work_is_restored_and_goes_on_to_the_same_results(
    site: Site, postgres: Postgres, tmp_path: Path, undisturbed: Answers
) -> None:
    sweep_id = site.add_sweep(small_sweep())
    site.start_dispatcher()
    site.start_worker({"pace_s": 0.2})
    site.wait_running(sweep_id)
    file = tmp_path / "convsweep.backup"
    made = convsweep(site.settings, "backup", str(file))
    assert made.returncode == 0, made.stderr
    for child in site.children:
        child.kill()

    name = f"restored_{tmp_path.name.replace('-', '_')}".lower()[:60]
    postgres.execute(f"CREATE DATABASE {name}")
    elsewhere = site.settings.model_copy(update={"database_url": postgres.url(name)})
    done = convsweep(elsewhere, "restore", str(file))
    assert done.returncode == 0, done.stderr
    other = Site(tmp_path / "other", elsewhere, postgres.url(name))
    other.folder.mkdir()
    try:
        assert broken(other.database, sweep_id, ended=False) == []
        other.start_dispatcher()
        other.start_worker()
        other.wait_completed(sweep_id)
        assert broken(other.database, sweep_id) == []
        found = answers(other.database, sweep_id)
        assert found.keys() == undisturbed.keys()
        assert differing(found, undisturbed, 100) <= 0.001
    finally:
        other.close()


def test_a_database_that_is_not_empty_is_not_restored_into(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "convsweep.backup"
    assert convsweep(site.settings, "backup", str(file)).returncode == 0
    again = convsweep(site.settings, "backup", str(file))
    assert again.returncode == 1
    assert "is there already" in again.stderr
    done = convsweep(site.settings, "restore", str(file))
    assert done.returncode == 1
    assert "not empty" in done.stderr


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_database_that_is_away_is_one_message(command: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    if command == "restore":
        file.write_bytes(b"nothing")
    nowhere = Settings(database_url="postgresql://nobody@127.0.0.1:1/nothing", api_keys="off")
    done = convsweep(nowhere, command, str(file))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "127.0.0.1" in done.stderr
