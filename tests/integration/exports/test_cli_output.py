"""Every output option of the command line, with targets that are not regular files."""

import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.settings import Settings, child_environment
from tests.full_device import make_full_device
from tests.integration.listings import add_results

OPTIONS = [
    pytest.param(["export", "SWEEP", "-o"], ".csv", id="export"),
    pytest.param(["plot", "SWEEP", "scatter", "-o"], ".svg", id="plot"),
    pytest.param(["training", "list", "SWEEP", "-o"], ".md", id="training-list"),
    pytest.param(["job", "JOB", "--weights"], "", id="job-weights"),
    pytest.param(["backup"], "", id="backup"),
]


def convsweep(
    settings: Settings, url: str, arguments: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    environment = child_environment(settings) | {"CONVSWEEP_API_URL": url}
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def filled_in(session: Session, arguments: Sequence[str]) -> list[str]:
    """Replaces SWEEP and JOB by the ids of a sweep with results and of its first job."""
    sweep_id = add_results(session)
    job_id = session.execute(text("SELECT min(id) FROM jobs")).scalar_one()
    session.rollback()
    ids = {"SWEEP": str(sweep_id), "JOB": str(job_id)}
    return [ids.get(argument, argument) for argument in arguments]


@pytest.mark.parametrize(("arguments", "ending"), OPTIONS)
def test_a_full_device_stays_a_device_and_is_one_line(
    arguments: list[str], ending: str, api_url: str, migrated: Settings, session: Session,
    tmp_path: Path,
) -> None:  # fmt: skip
    device = tmp_path / f"full{ending}"
    make_full_device(device)
    done = convsweep(migrated, api_url, [*filled_in(session, arguments), str(device)])
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr
    assert stat.S_ISCHR(device.stat().st_mode)
    assert list(tmp_path.iterdir()) == [device]


@pytest.mark.parametrize(("arguments", "ending"), OPTIONS)
def test_a_missing_folder_and_a_folder_as_target_are_one_line(
    arguments: list[str], ending: str, api_url: str, migrated: Settings, session: Session,
    tmp_path: Path,
) -> None:  # fmt: skip
    folder = tmp_path / f"folder{ending}"
    folder.mkdir()
    command = filled_in(session, arguments)
    for target, reason in ((tmp_path / "no" / f"x{ending}", "does not exist"), (folder, "folder")):
        done = convsweep(migrated, api_url, [*command, str(target)])
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert reason in done.stderr
    assert list(tmp_path.iterdir()) == [folder]
