"""Real servers for acceptance tests: an embedded cluster, and a site whose servers may fail."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli.embedded.local import ClusterInfo, find_cluster
from convsweep import Client, Sweep
from shared.settings import Settings
from tests.acceptance.faults.invariants import Answers, answers, broken
from tests.acceptance.faults.site import LEASE_S as FAULT_LEASE_S
from tests.acceptance.faults.site import Broker, Postgres, Site
from tests.conftest import migrate

Json = dict[str, Any]

LEASE_S = 6


class Cluster:
    """A data folder and what the command line does with it."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.environment = os.environ | {
            "CONVSWEEP_DATA_DIR": str(data_dir),
            "CONVSWEEP_LEASE_S": str(LEASE_S),
            "CONVSWEEP_RESEND_S": "2",
            "CONVSWEEP_API_PORT": "0",
        }

    def convsweep(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs the command line and returns what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            env=self.environment, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def convsweep_json(self, *arguments: str) -> Any:
        """Runs a reading command with --json and returns what it printed."""
        return json.loads(self.convsweep(*arguments, "--json").stdout)

    def up(self, *arguments: str) -> None:
        """Starts the cluster in the background."""
        self.convsweep("up", "--detach", *arguments)

    def down(self) -> None:
        """Stops the cluster."""
        self.convsweep("down")

    @property
    def info(self) -> ClusterInfo:
        """The running cluster's processes and address."""
        info = find_cluster(self.data_dir)
        assert info is not None
        return info

    def workers(self) -> int:
        """Returns the number of worker processes, 0 where no cluster runs."""
        info = find_cluster(self.data_dir)
        return sum(name.startswith("worker") for name in info.processes) if info else 0

    def client(self) -> Client:
        """Returns a client of the cluster's API."""
        return Client(self.info.url)

    def pid(self, name: str) -> int:
        """Returns the pid of one process of the cluster."""
        return int(self.info.processes[name][0])

    def logs(self, last: int = 2000) -> str:
        """Returns the ends of all logs, ``last`` characters of each, for failure messages."""
        folder = self.data_dir / "cluster" / "logs"
        return "\n".join(f"== {p.name}\n{p.read_text()[-last:]}" for p in folder.glob("*.log"))


@pytest.fixture(scope="session")
def cluster_folder() -> Iterator[Cluster]:
    """The data folder on which tests start and stop clusters, one at a time."""
    folder = Path(tempfile.mkdtemp(prefix="cs-"))
    folder.chmod(0o755)
    cluster = Cluster(folder)
    try:
        yield cluster
    finally:
        cluster.down()
        shutil.rmtree(folder)


@pytest.fixture
def idle_cluster(cluster_folder: Cluster) -> Cluster:
    """A data folder without a running cluster; it may have the sweeps of other tests."""
    cluster_folder.down()
    return cluster_folder


@pytest.fixture
def cluster(cluster_folder: Cluster) -> Cluster:
    """A running cluster with one worker; it may have the completed sweeps of other tests."""
    if cluster_folder.workers() != 1:
        cluster_folder.down()
        cluster_folder.up()
    return cluster_folder


def small_sweep(*, trials: int = 2, seed: int = 0, **protocol: Any) -> Json:
    """Returns a sweep of 64 architectures in 8 groups; some do not fit their input."""
    layer = {"channels": [8], "kernel_size": [3, 5], "stride": [1, 2], "dilation": [1, 3]}
    return {
        "space": {"layers": [layer, layer]},
        "protocol": {
            "dataset": "digits",
            "train_images": 100,
            "validation_images": 100,
            "input_shape": [1, 16, 16],
            "trials": trials,
            "seed": seed,
            "timing": None,
            "gates": {"max_ratio": None},
            **protocol,
        },
    }


def check_counts(sweep: Sweep) -> None:
    """Holds that the states of a sweep's jobs add up to its size."""
    assert sum(sweep["counts"].values()) == sweep["total"], sweep


def accuracies(client: Client, sweep_id: int) -> dict[str, float]:
    """Returns the accuracy of every completed architecture, by its hash."""
    found = {row["architecture_hash"]: row["accuracy"] for row in client.leaderboard(sweep_id)}
    return {name: accuracy for name, accuracy in found.items() if accuracy is not None}


@pytest.fixture(scope="session")
def postgres(server_dir: Path) -> Iterator[Postgres]:
    """A PostgreSQL that fault tests may kill; each has it running again at its end."""
    server = Postgres(server_dir / "faulty-pg")
    server.execute("CREATE DATABASE template")
    migrate(Settings(database_url=server.url("template"), data_dir=server_dir / "data"))
    yield server
    server.stop("immediate")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A Valkey of the test's own."""
    server = Broker(tmp_path / "valkey")
    yield server
    server.stop()


@contextmanager
def _site(postgres: Postgres, broker: Broker, folder: Path) -> Iterator[Site]:
    name = f"site_{uuid.uuid4().hex[:12]}"
    postgres.execute(f"CREATE DATABASE {name} TEMPLATE template")
    settings = Settings(
        database_url=postgres.url(name),
        broker_url=broker.url(),
        data_dir=folder / "data",
        lease_s=FAULT_LEASE_S,
        resend_s=2,
        device="cpu",
        api_keys="off",
    )
    site = Site(folder, settings, postgres.url(name))
    try:
        yield site
    finally:
        site.close()


@pytest.fixture
def site(postgres: Postgres, broker: Broker, tmp_path: Path) -> Iterator[Site]:
    """An empty database and broker; what the test starts on them is ended."""
    with _site(postgres, broker, tmp_path) as opened:
        yield opened


@pytest.fixture(scope="session")
def undisturbed(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What the sweep of the fault tests answers when nothing goes wrong."""
    folder = tmp_path_factory.mktemp("undisturbed")
    broker = Broker(folder / "valkey")
    try:
        with _site(postgres, broker, folder) as site:
            sweep_id = site.add_sweep(small_sweep())
            site.start_dispatcher()
            site.start_worker()
            site.wait_completed(sweep_id)
            assert broken(site.database, sweep_id) == []
            return answers(site.database, sweep_id)
    finally:
        broker.stop()
