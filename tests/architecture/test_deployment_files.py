"""Files that deploy the project: the Dockerfile is clean, the dashboard asks for what is there."""

import json
import re
import stat
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
METRIC = re.compile(r"\bconvsweep_\w+")


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def documented() -> set[str]:
    """Returns the metrics of docs/metrics.md with the series that histograms have."""
    rows = re.findall(
        r"^\| `(convsweep_\w+)` \| (\w+)", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE
    )
    series = {name for name, _ in rows}
    return series | {f"{name}_bucket" for name, kind in rows if kind == "histogram"}


def test_every_metric_on_the_dashboard_is_documented() -> None:
    board = json.loads((ROOT / "deploy/monitoring/dashboards/convsweep.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    shown = set(METRIC.findall(" ".join(asked)))
    assert len(shown) > 10
    assert shown - documented() == set()


def test_every_container_is_confined() -> None:
    """Docker itself confirms it in tests/compose; this holds for services that need a GPU too."""
    for file in ("docker-compose.yml", "docker-compose.worker.yml"):
        services = yaml.safe_load((ROOT / file).read_text())["services"]
        for name, service in services.items():
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name
            ports = service.get("ports", [])
            assert all("127.0.0.1" in port for port in ports), name
        assert services["worker"]["stop_grace_period"] == "45s"


def test_every_container_has_a_memory_limit_that_a_setting_changes_and_the_docs_name() -> None:
    documented = (ROOT / "docs/deployment.md").read_text()
    for file in ("docker-compose.yml", "docker-compose.worker.yml"):
        for name, service in yaml.safe_load((ROOT / file).read_text())["services"].items():
            limit = service["deploy"]["resources"]["limits"]["memory"]
            setting = re.fullmatch(r"\$\{(\w+_MEMORY_LIMIT):-(\d+[gm])\}", limit)
            assert setting is not None, (file, name, limit)
            assert f"| `{setting[1]}` | {setting[2]} |" in documented, setting[1]


def test_no_image_is_pinned_to_latest_and_no_password_has_a_default() -> None:
    for file in ("docker-compose.yml", "docker-compose.worker.yml", "docker-compose.tls.yml"):
        text = (ROOT / file).read_text()
        outside = re.findall(r"image: \$\{\w+_IMAGE:-([^}]+)\}(?!:)", text)
        assert all(":" in image and not image.endswith(":latest") for image in outside), file
        assert not re.search(r"PASSWORD: *[^\s$]", text), file


def test_make_env_closes_a_folder_of_secrets_that_was_open(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    secrets.chmod(0o755)
    (secrets / "redis").write_text("kept")
    subprocess.run([ROOT / "deploy/make-env", tmp_path], check=True, capture_output=True)
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert (secrets / "redis").read_text() == "kept"
