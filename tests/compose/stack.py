"""One Compose project of the repository's own files, with secrets and a port of its own."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import IO, Any, Protocol

from sqlalchemy import Engine, create_engine

from convsweep import Client

ROOT = Path(__file__).parents[2]
CPU = ("docker-compose.yml", "docker-compose.cpu.yml")
LEASE_S = 8
# settings in the environment of the tests that must not affect them
OWN = ("CONVSWEEP_", "COMPOSE_")


def run(*command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in the repository and returns what it printed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
    done = subprocess.run(
        command, cwd=ROOT, env=inherited | environment, text=True, capture_output=True, check=False
    )
    assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


class Logged(Protocol):
    """One or more Compose projects whose logs explain a failure."""

    def logs(self) -> str: ...


class Stack:
    """A Compose project; nothing runs before ``up``."""

    def __init__(self, folder: Path, port: int, files: tuple[str, ...] = CPU) -> None:
        run(str(ROOT / "deploy/make-env"), str(folder))
        self.secrets = folder / "secrets"
        self.files = files
        self.environment = {
            "COMPOSE_PROJECT_NAME": f"convsweep-test-{os.getpid()}",
            "CONVSWEEP_SECRETS": str(self.secrets),
            "CONVSWEEP_API_PORT": str(port),
            "CONVSWEEP_LEASE_S": str(LEASE_S),
            "CONVSWEEP_TAG": "test",
        }
        self.url = f"http://127.0.0.1:{port}"

    def compose(self, *arguments: str, check: bool = True) -> str:
        """Runs ``docker compose`` on the project and returns what it printed."""
        files = [part for file in self.files for part in ("-f", file)]
        command = ("docker", "compose", "--env-file", "/dev/null", *files, *arguments)
        return run(*command, check=check, **self.environment).stdout

    def exec(
        self,
        service: str,
        *command: str,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
    ) -> None:
        """Runs a command in a service's container, from or into files."""
        files = [part for file in self.files for part in ("-f", file)]
        compose = ("docker", "compose", "--env-file", "/dev/null", *files, "exec", "-T", service)
        environment = os.environ | self.environment
        subprocess.run(
            [*compose, *command],
            cwd=ROOT, env=environment, stdin=stdin, stdout=stdout, check=True,
        )  # fmt: skip

    def up(self, *arguments: str) -> float:
        """Starts what does not run; returns after how many seconds all of it is healthy."""
        started = time.monotonic()
        self.compose("up", "--detach", "--wait", "--wait-timeout", "600", "--no-build", *arguments)
        return time.monotonic() - started

    def containers(self, service: str) -> list[dict[str, Any]]:
        """Returns what Docker knows about the running containers of a service."""
        ids = self.compose("ps", "--quiet", service).split()
        return json.loads(run("docker", "inspect", *ids).stdout) if ids else []

    def address(self, service: str) -> str:
        """Returns the address of a service's container on the project's own network."""
        [container] = self.containers(service)
        [network] = container["NetworkSettings"]["Networks"].values()
        return str(network["IPAddress"])

    def secret(self, name: str) -> str:
        """Returns a secret as the containers read it."""
        return (self.secrets / name).read_text().strip()

    def database(self) -> Engine:
        """Returns connections to the project's Postgres, from the machine that runs Docker."""
        login = f"convsweep_migrator:{self.secret('migrator')}@{self.address('postgres')}"
        return create_engine(f"postgresql+psycopg2://{login}/convsweep", pool_pre_ping=True)

    def make_key(self) -> str:
        """Makes an API key as the README says."""
        command = ("convsweep", "key", "create", "me", "--scope", "write")
        return self.compose("exec", "-T", "api", *command).strip()

    def client(self, key: str) -> Client:
        return Client(self.url, key)

    def logs(self) -> str:
        """Returns the ends of all logs, for failure messages."""
        return self.compose("logs", "--tail", "40", "--no-color", check=False)

    def down(self, *arguments: str) -> None:
        """Stops and removes the containers; ``--volumes`` removes the data too."""
        self.compose("--profile", "*", "down", "--timeout", "40", *arguments)
