"""What the Compose files and their scripts say and do before anything runs."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.compose.stack import ROOT, run

pytestmark = pytest.mark.compose


Json = dict[str, Any]


def compose(*arguments: str) -> list[str]:
    return ["docker", "compose", "--env-file", "/dev/null", *arguments]


def config(*files: str) -> Json:
    """Returns what Compose makes of these files."""
    named = [part for file in files for part in ("-f", file)]
    done = run(
        *compose(*named, "config", "--format", "json"),
        CONVSWEEP_SECRETS="/s",
        CONVSWEEP_DATABASE_URL="postgresql://h/d",
        CONVSWEEP_BROKER_URL="redis://h",
        TORCH_INDEX_URL="",
    )
    found: Json = json.loads(done.stdout)
    return found


def test_up_without_an_env_file_says_what_to_do() -> None:
    said = run(*compose("up"), check=False).stderr
    assert "CONVSWEEP_SECRETS" in said
    assert "Run: make env" in said


def test_make_env_writes_random_secrets_and_never_overwrites(tmp_path: Path) -> None:
    run(str(ROOT / "deploy/make-env"), str(tmp_path))
    secrets = {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}
    assert len(set(secrets.values())) == len(secrets) >= 6
    assert all(len(secret) == 48 for secret in secrets.values())
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    (tmp_path / ".env").write_text("CONVSWEEP_SECRETS=/elsewhere\n")
    (tmp_path / "secrets/redis").unlink()
    run(str(ROOT / "deploy/make-env"), str(tmp_path))
    assert (tmp_path / ".env").read_text() == "CONVSWEEP_SECRETS=/elsewhere\n"
    again = {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}
    assert again.keys() == secrets.keys()
    assert {name for name in secrets if again[name] != secrets[name]} == {"redis"}


@pytest.mark.parametrize("file", ["docker-compose.yml", "docker-compose.worker.yml"])
def test_workers_reserve_every_gpu_unless_the_cpu_file_is_added(file: str) -> None:
    worker = config(file)["services"]["worker"]
    [devices] = worker["deploy"]["resources"]["reservations"]["devices"]
    assert devices == {"driver": "nvidia", "count": -1, "capabilities": ["gpu"]}
    assert worker["environment"]["CONVSWEEP_DEVICE"] == "cuda"
    worker = config(file, "docker-compose.cpu.yml")["services"]["worker"]
    assert not worker["deploy"]["resources"]["reservations"].get("devices")
    assert worker["environment"]["CONVSWEEP_DEVICE"] == "cpu"


def test_workers_have_more_time_to_end_than_they_take() -> None:
    """They hand back within 30 s: tests/acceptance/faults/test_workers.py."""
    assert config("docker-compose.yml")["services"]["worker"]["stop_grace_period"] == "45s"


def test_memory_limits_hold_with_every_set_of_files() -> None:
    services = config("docker-compose.yml", "docker-compose.cpu.yml", "docker-compose.tls.yml")
    limits = {
        name: int(service["deploy"]["resources"]["limits"]["memory"]) // 2**20
        for name, service in services["services"].items()
    }
    assert limits == {
        "postgres": 4096, "redis": 1024, "migrate": 1024, "api": 6144, "dispatcher": 512,
        "worker": 16384,
    }  # fmt: skip
