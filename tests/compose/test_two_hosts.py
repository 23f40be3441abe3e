"""Two hosts, each a network namespace of its own: workers reach Postgres and Redis only over TLS.

The hosts meet on one network that is taken away and given back, as a cable would be.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from convsweep import Client
from tests.acceptance.faults.invariants import broken
from tests.acceptance.faults.site import wait_for
from tests.compose.stack import CPU, LEASE_S, ROOT, Stack, run
from tests.compose.test_cluster import ended, wait_completed, wait_more, wanted
from tests.conftest import free_port

pytestmark = [pytest.mark.compose, pytest.mark.timeout(3600)]

SUBNET, SERVER = "10.213.77.0/24", "10.213.77.1"
JOIN = """
networks:
  default: {{ name: {network}, external: true }}
"""


@dataclass(frozen=True)
class Hosts:
    """A host with everything but workers, another with one, and the network between them."""

    server: Stack
    worker: Stack
    network: str

    def cut(self) -> None:
        """Takes the worker's network away."""
        run("docker", "network", "disconnect", "--force", self.network, self.worker_id)

    def join(self) -> None:
        """Gives it back."""
        run("docker", "network", "connect", self.network, self.worker_id)

    def logs(self) -> str:
        """Returns the ends of all logs of both hosts."""
        return self.server.logs() + self.worker.logs()

    @property
    def worker_id(self) -> str:
        [container] = self.worker.containers("worker")
        return str(container["Id"])


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    """Both hosts with their images built and certificates made; nothing runs yet."""
    network = f"convsweep-test-lan-{os.getpid()}"
    run("docker", "network", "create", "--subnet", SUBNET, "--gateway", SERVER, network)
    server = Stack(tmp_path, free_port(), (*CPU, "docker-compose.tls.yml"))
    run(str(ROOT / "deploy/make-certificates"), SERVER, str(server.secrets))
    server.environment["CONVSWEEP_TLS_ADDRESS"] = SERVER
    join = tmp_path / "join.yml"
    join.write_text(JOIN.format(network=network))
    worker = Stack(tmp_path, 0, ("docker-compose.worker.yml", "docker-compose.cpu.yml", str(join)))
    trust = "/run/secrets/ca.crt"
    worker.environment |= {
        "COMPOSE_PROJECT_NAME": f"convsweep-test-worker-{os.getpid()}",
        "CONVSWEEP_DATABASE_URL": f"postgresql://convsweep_worker@{SERVER}/convsweep"
        f"?sslmode=verify-full&sslrootcert={trust}",
        "CONVSWEEP_BROKER_URL": f"rediss://convsweep_worker@{SERVER}:6380/0"
        f"?ssl_cert_reqs=required&ssl_ca_certs={trust}",
    }
    try:
        server.compose("build")
        yield Hosts(server, worker, network)
    finally:
        worker.down("--volumes")
        server.down("--volumes")
        run("docker", "network", "rm", network)


def test_a_worker_on_another_host_joins_works_is_cut_off_and_comes_back(hosts: Hosts) -> None:
    server, worker = hosts.server, hosts.worker
    server.up("--scale", "worker=0")
    with server.client(server.make_key()) as client:
        sweep_id = client.create_sweep(wanted())["id"]
        print(f"\na worker joins: {worker.up():.1f} s")
        wait_more(hosts, client, sweep_id)
        check_encryption(hosts)
        hosts.cut()
        print("it is cut off")
        wait_for(lambda: expired(server, sweep_id), "the lease's end", hosts.logs, s=10 * LEASE_S)
        check_standstill(client, sweep_id)
        hosts.join()
        print("it is back")
        wait_more(hosts, client, sweep_id)
        wait_completed(hosts, client, sweep_id)
    [container] = worker.containers("worker")
    print(f"restarts of its process: {container['RestartCount']}")
    database = server.database()
    assert broken(database, sweep_id) == []
    database.dispose()


def expired(server: Stack, sweep_id: int) -> bool:
    database = server.database()
    statement = "SELECT FROM leases WHERE sweep_id = :id AND outcome = 'expired'"
    with database.connect() as connection:
        found = connection.execute(text(statement), {"id": sweep_id}).all()
    database.dispose()
    return bool(found)


def check_standstill(client: Client, sweep_id: int) -> None:
    """Asserts that no worker works and that jobs are left."""
    sweep = client.get_sweep(sweep_id)
    assert sweep["counts"]["pending"] > 0
    assert sweep["counts"]["running"] == 0
    assert ended(client, sweep_id) < sweep["total"]


def check_encryption(hosts: Hosts) -> None:
    """Holds that the worker's connections are encrypted and that no others are let in."""
    statement = (
        "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
        "WHERE usename = 'convsweep_worker'"
    )
    ask = ("psql", "--username=postgres", "--dbname=convsweep", "--tuples-only", "--no-align")
    found = hosts.server.compose("exec", "-T", "postgres", *ask, "--command", statement)
    assert found.split() == ["t"]
    login = f"convsweep_worker:{hosts.server.secret('worker')}@{SERVER}"
    plain = create_engine(f"postgresql+psycopg2://{login}/convsweep?sslmode=disable")
    with pytest.raises(OperationalError, match="no encryption"):
        plain.connect()
    plain.dispose()
    published = hosts.server.containers("redis")[0]["HostConfig"]["PortBindings"]
    assert set(published) == {"6380/tcp"}
