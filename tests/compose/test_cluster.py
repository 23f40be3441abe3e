"""The life of a cluster in containers: start, work, accidents, an upgrade, a restart."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from convsweep import Client
from tests.acceptance.conftest import small_sweep
from tests.acceptance.faults.invariants import answers, broken, differing
from tests.acceptance.faults.site import wait_for
from tests.compose.stack import Logged, Stack, run
from tests.conftest import free_port

pytestmark = [pytest.mark.compose, pytest.mark.timeout(3600)]

BASE_MB = 120  # python:3.13-slim as Docker Hub has it
LARGEST_API_MB = 500
SERVICES = ("postgres", "redis", "api", "dispatcher", "worker")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The project with its images built; removed with all of its data in the end."""
    project = Stack(tmp_path_factory.mktemp("compose"), free_port())
    project.compose("build")
    try:
        yield project
    finally:
        project.down("--volumes")


@pytest.fixture(scope="module")
def running(stack: Stack) -> Stack:
    """The project, up."""
    print(f"\nstart-up until every container is healthy: {stack.up():.1f} s")
    return stack


def size_mb(image: str) -> float:
    return int(run("docker", "image", "inspect", "-f", "{{.Size}}", image).stdout) / 1e6


def test_the_api_image_is_small_and_has_no_torch(stack: Stack) -> None:
    base = size_mb("python:3.13-slim")
    for name in ("api", "worker-cpu"):
        whole = size_mb(f"convsweep/{name}:test")
        print(f"\nimage convsweep/{name}: {whole:.0f} MB, {whole - base:.0f} MB without its base")
    own = size_mb("convsweep/api:test") - base
    assert own + BASE_MB < LARGEST_API_MB
    probe = "import importlib.util as u; raise SystemExit(u.find_spec('torch') is not None)"
    run("docker", "run", "--rm", "--entrypoint", "python", "convsweep/api:test", "-c", probe)


@pytest.mark.parametrize("service", SERVICES)
def test_containers_can_do_no_more_than_they_need(running: Stack, service: str) -> None:
    [container] = running.containers(service)
    host = container["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert container["Config"]["User"] not in ("", "root", "0")
    assert container["State"]["Health"]["Status"] == "healthy"
    published = {host["HostIp"] for ports in host["PortBindings"].values() for host in ports}
    assert published == ({"127.0.0.1"} if service == "api" else set())


def test_no_secret_is_seen_from_outside_a_container(running: Stack) -> None:
    shown = running.logs() + json.dumps([running.containers(service) for service in SERVICES])
    secrets = [running.secret(file.name) for file in running.secrets.iterdir()]
    assert len(secrets) >= 6
    assert [secret for secret in secrets if secret in shown] == []


def test_redis_wants_its_password_and_keeps_what_it_has(running: Stack) -> None:
    ask = ("exec", "-T", "redis", "sh", "-c")
    assert "NOAUTH" in running.compose(*ask, "redis-cli ping")
    login = 'REDISCLI_AUTH="$(cat /run/secrets/redis)" redis-cli config get'
    assert "yes" in running.compose(*ask, f"{login} appendonly")
    assert "noeviction" in running.compose(*ask, f"{login} maxmemory-policy")


def test_the_life_of_a_cluster(running: Stack, tmp_path: Path) -> None:
    key = running.make_key()
    with running.client(key) as client:
        first = client.create_sweep(wanted())["id"]
        after_accidents(running, client, first)
        before = [dict(row) for row in client.leaderboard(first)]
        second = client.create_sweep(wanted())["id"]
        upgrade_at_work(running, client, second)
    check(running, first, second)
    back_up(running, tmp_path / "convsweep.backup")
    running.down()
    print(f"start-up with data: {running.up():.1f} s")
    with running.client(key) as client:
        assert [dict(row) for row in client.leaderboard(first)] == before
    restore_elsewhere(running, tmp_path / "convsweep.backup")
    running.up()
    with running.client(key) as client:
        assert [dict(row) for row in client.leaderboard(first)] == before
        assert {sweep["status"] for sweep in client.list_sweeps()} == {"completed"}


def wanted() -> dict[str, Any]:
    """A sweep of 512 architectures that takes about a minute, however many workers there are.

    They take turns at timing, each by itself on the processor that they share.
    """
    sweep = small_sweep(timing={"batch_size": 16, "max_s": 0.05})
    sweep["space"]["layers"] = [{"channels": list(range(2, 18, 2)), "kernel_size": [3]}] * 3
    return sweep


def ended(client: Client, sweep_id: int) -> int:
    counts = client.get_sweep(sweep_id)["counts"]
    return int(sum(counts.values()) - counts["pending"] - counts["running"])


def wait_more(stack: Logged, client: Client, sweep_id: int) -> None:
    """Returns when more jobs have ended than now."""
    before = ended(client, sweep_id)
    seconds = wait_for(lambda: ended(client, sweep_id) > before, "progress", stack.logs)
    print(f"  more results after {seconds:.1f} s")
    assert before < client.get_sweep(sweep_id)["total"]


def wait_completed(stack: Logged, client: Client, sweep_id: int) -> None:
    def completed() -> bool:
        return bool(client.get_sweep(sweep_id)["status"] == "completed")

    wait_for(completed, "completion", stack.logs, s=600)


def after_accidents(stack: Stack, client: Client, sweep_id: int) -> None:
    """Three workers; one is killed, Postgres and Redis are restarted, and the sweep completes."""
    wait_more(stack, client, sweep_id)
    print("three workers")
    stack.up("--scale", "worker=3")
    assert len(stack.containers("worker")) == 3
    wait_more(stack, client, sweep_id)
    print("a worker is killed")
    run("docker", "kill", stack.containers("worker")[1]["Id"])
    wait_more(stack, client, sweep_id)
    for service in ("postgres", "redis"):
        print(f"{service} is restarted")
        stack.compose("restart", service)
        wait_more(stack, client, sweep_id)
    wait_completed(stack, client, sweep_id)


def upgrade_at_work(stack: Stack, client: Client, sweep_id: int) -> None:
    """Replaces every container of ours by one of another image while a sweep runs."""
    wait_more(stack, client, sweep_id)
    stack.environment["CONVSWEEP_TAG"] = "test-next"
    stack.compose("build")
    print(f"upgrade: {stack.up('--scale', 'worker=2'):.1f} s")
    for service in ("api", "dispatcher", "worker"):
        images = {container["Config"]["Image"] for container in stack.containers(service)}
        assert all(image.endswith(":test-next") for image in images), images
    wait_completed(stack, client, sweep_id)


def check(stack: Stack, first: int, second: int) -> None:
    """Holds the invariants, and that the two sweeps of one seed have the same answers."""
    database = stack.database()
    assert broken(database, first) == []
    assert broken(database, second) == []
    one, other = answers(database, first), answers(database, second)
    assert one.keys() == other.keys()
    assert differing(one, other, 100) <= 0.001
    with database.connect() as connection:
        drained = (
            "SELECT count(*) FROM attempts a JOIN jobs j ON j.id = a.job_id "
            "WHERE j.sweep_id = :id AND a.outcome = 'expired'"
        )
        assert connection.execute(text(drained), {"id": second}).scalar_one() == 0
    database.dispose()


def back_up(stack: Stack, file: Path) -> None:
    """Backs up as docs/deployment.md says."""
    dump = ("pg_dump", "--username=postgres", "--format=custom", "convsweep")
    with file.open("wb") as sink:
        stack.exec("postgres", *dump, stdout=sink)
    assert file.stat().st_size > 10_000


def restore_elsewhere(stack: Stack, file: Path) -> None:
    """Forgets everything, and fills a new and empty database from the backup."""
    stack.down("--volumes")
    stack.compose("up", "--detach", "--wait", "postgres")
    fill = ("pg_restore", "--username=postgres", "--dbname=convsweep", "--single-transaction")
    with file.open("rb") as source:
        stack.exec("postgres", *fill, stdin=source)
