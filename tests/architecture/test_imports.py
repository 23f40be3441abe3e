"""Who may import whom, and what never loads torch."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "torchvision", "sklearn", "scipy"}


def loaded_by(module: str) -> set[str]:
    """Returns the packages that a fresh process holds after importing ``module``."""
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_import_contracts_are_kept() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_api_does_not_load_torch() -> None:
    loaded = loaded_by("api.app")
    assert "fastapi" in loaded
    assert HEAVY.isdisjoint(loaded)
    assert {"celery", "kombu", "redis"}.isdisjoint(loaded)


def test_api_loads_no_http_client() -> None:
    assert {"httpx", "requests", "urllib3", "aiohttp"}.isdisjoint(loaded_by("api.app"))


@pytest.mark.parametrize("module", ["cli.main", "dispatcher.process", "migrations.upgrade"])
def test_nothing_outside_the_worker_loads_torch(module: str) -> None:
    assert HEAVY.isdisjoint(loaded_by(module))
