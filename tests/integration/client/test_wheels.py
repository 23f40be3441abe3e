"""The two distributions: what their wheels contain, and the client without the application."""

import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy.orm import Session

from tests.integration.listings import Reference, add_results

ROOT = Path(__file__).parents[3]
PACKAGES = ("api", "cli", "dispatcher", "migrations", "services", "shared", "worker")
SOURCES = (*PACKAGES, "bench", "client", "tests", "pyproject.toml", "README.md", "LICENSE")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
NOTEBOOK = """
import importlib.metadata, json, sys
from convsweep import ApiError, Client

with Client(sys.argv[1]) as client:
    rows = list(client.leaderboard(int(sys.argv[2]), where=["device=A100"], limit=5))
    try:
        client.get_sweep(10**6)
    except ApiError as error:
        code = error.code
names = sorted(package.name for package in importlib.metadata.distributions())
print(json.dumps({"rows": rows, "code": code, "installed": names}))
"""


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Builds both wheels from a copy, because a build writes into the folder of its sources."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", target)
    run(*PIP, "wheel", *options, source / "client", source)
    return {path.name.partition("-")[0]: path for path in target.iterdir()}


def top_level(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        folders = {name.partition("/")[0] for name in archive.namelist()}
    return {name for name in folders if not name.endswith(".dist-info")}


def test_the_applications_wheel_has_no_tests_benchmarks_or_client(wheels: dict[str, Path]) -> None:
    assert top_level(wheels["convsweep"]) == set(PACKAGES)


def test_the_clients_wheel_is_typed_and_licensed_and_has_one_package(
    wheels: dict[str, Path],
) -> None:
    assert top_level(wheels["convsweep_client"]) == {"convsweep"}
    with zipfile.ZipFile(wheels["convsweep_client"]) as archive:
        names = archive.namelist()
    assert "convsweep/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_client_reads_a_leaderboard_from_an_empty_environment(
    wheels: dict[str, Path], api_url: str, session: Session, tmp_path: Path
) -> None:
    sweep_id = add_results(session)
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    pip: list[str | Path] = [*PIP[:3], "--python", python, *PIP[3:], "install"]
    run(*pip, "-c", ROOT / "constraints.txt", wheels["convsweep_client"])
    answer: dict[str, Any] = json.loads(run(python, "-I", "-c", NOTEBOOK, api_url, str(sweep_id)))
    ranked = Reference.of(session, sweep_id).ranked({}, device="A100")
    assert [row["id"] for row in answer["rows"]] == ranked[:5]
    assert answer["code"] == "sweep_not_found"
    assert set(answer["installed"]) <= {
        "anyio", "certifi", "convsweep-client", "h11", "httpcore", "httpx", "httpx-sse", "idna",
        "typing_extensions",
    }  # fmt: skip


def test_application_client_and_citation_have_one_version() -> None:
    application, client = (
        tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        for folder in (ROOT, ROOT / "client")
    )
    assert client["version"] == application["version"]
    assert f"convsweep-client=={client['version']}" in application["dependencies"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == application["version"]
    assert citation["license"] == application["license"] == client["license"]
