"""A sweep where every process has a Redis user of its own that may do no more than its work."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from convsweep import Client
from shared.messaging.broker import QUEUE_NAME, REFUSED_NAME
from tests.acceptance.conftest import small_sweep
from tests.acceptance.faults.site import ROOT, Broker, Site

PROCESSES = ("api", "dispatcher", "worker")


@pytest.fixture
def users(broker: Broker, tmp_path: Path) -> Iterator[None]:
    """The users that the script for operators prints, in the running broker."""
    for name in ("redis", *(f"redis_{process}" for process in PROCESSES)):
        (tmp_path / name).write_text(f"secret-{name}")
    printed = subprocess.run(
        [ROOT / "deploy/redis/users", tmp_path], capture_output=True, text=True, check=True
    ).stdout
    client = broker.client()
    lines = [line.removeprefix("user ") for line in printed.splitlines()]
    own = [line for line in lines if not line.startswith("default ")]
    assert len(own) == len(PROCESSES)
    for line in own:
        name, *rules = line.replace("(", " (").split()
        client.execute_command("ACL", "SETUSER", name, "reset", *_selectors(rules))  # type: ignore[no-untyped-call]
    yield
    for process in PROCESSES:
        client.acl_deluser(f"convsweep_{process}")


def _selectors(rules: list[str]) -> list[str]:
    """Joins the words of each selector, which the command takes as one argument."""
    joined: list[str] = []
    for rule in rules:
        if joined and joined[-1].startswith("(") and not joined[-1].endswith(")"):
            joined[-1] += f" {rule}"
        else:
            joined.append(rule)
    return joined


def url(broker: Broker, process: str) -> str:
    return f"redis://convsweep_{process}:secret-redis_{process}@127.0.0.1:{broker.port}/0"


@pytest.mark.usefixtures("users")
def test_a_sweep_runs_with_one_broker_user_for_each_process(site: Site, broker: Broker) -> None:
    sweep_id = site.add_sweep(small_sweep())
    broker.client().lpush(QUEUE_NAME, "no hint")
    limits = {"CONVSWEEP_READS_PER_MINUTE": "1000"}
    site.start("api", CONVSWEEP_API_KEYS="off", CONVSWEEP_BROKER_URL=url(broker, "api"), **limits)
    site.start_dispatcher(CONVSWEEP_BROKER_URL=url(broker, "dispatcher"))
    site.start_worker(CONVSWEEP_BROKER_URL=url(broker, "worker"))
    site.wait_completed(sweep_id)
    with Client(f"http://127.0.0.1:{site.settings.api_port}") as client:
        assert client.get_sweep(sweep_id)["status"] == "completed"
        with client._connection.stream("/metrics") as response:
            metrics = response.read().decode()
    assert "convsweep_broker_up 1.0" in metrics
    assert "convsweep_queue_refused 1.0" in metrics
    assert broker.client().keys("LIMITS:*") != []
    said = "".join(child.text() for child in site.children)
    assert "rate_limits_apart" not in said
    assert "NOPERM" not in said
    assert "permission" not in said


DENIED = {
    "api": [f"LPUSH {QUEUE_NAME} x", f"BRPOP {QUEUE_NAME} 1", f"DEL {REFUSED_NAME}", "GET other"],
    "dispatcher": [f"BRPOP {QUEUE_NAME} 1", f"LPUSH {REFUSED_NAME} x", "GET LIMITS:x"],
    "worker": [f"LPUSH {QUEUE_NAME} x", "GET LIMITS:x", "SET other 1", f"DEL {QUEUE_NAME}"],
}
DENIED_TO_ALL = ["FLUSHALL", "CONFIG GET *", "KEYS *", "ACL LIST", "SHUTDOWN", "MONITOR"]


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("process", PROCESSES)
def test_no_process_may_do_more_in_the_broker_than_its_work(process: str, broker: Broker) -> None:
    client = redis.Redis.from_url(url(broker, process))
    for command in DENIED[process] + DENIED_TO_ALL:
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command.split())  # type: ignore[no-untyped-call]
