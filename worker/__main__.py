"""``python -m worker``: the worker process, and what else needs torch on this machine."""

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from shared.process import run_main
from shared.settings import get_settings

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.command()
def run() -> None:
    """Works until asked to stop."""
    from worker.process import run_worker

    sys.exit(run_worker(get_settings()))


@app.command()
def datasets() -> None:
    """Prints what is known about every dataset, as JSON."""
    from worker.engine.data.datasets import list_datasets

    settings = get_settings()
    infos = list_datasets(settings.data_dir, settings.max_dataset_bytes)
    print(json.dumps([asdict(info) for info in infos]))


@app.command()
def fetch(name: str) -> None:
    """Downloads a public dataset into the data folder."""
    from worker.engine.data.datasets import fetch_dataset

    fetch_dataset(name, get_settings().data_dir)


@app.command()
def device() -> None:
    """Prints the device that a worker would use, as JSON."""
    from worker.device import open_device

    settings = get_settings()
    chosen = open_device(settings.device, settings.runtime_dir, settings.memory_budget)
    facts = {
        "class": chosen.device_class,
        "model": chosen.model,
        "versions": chosen.versions,
        "memory_budget_bytes": chosen.memory_budget_bytes,
    }
    print(json.dumps(facts))


@app.command()
def weights(trial: Annotated[int, typer.Option(min=0)]) -> None:
    """Writes the weights of one trial of the job on standard input (JSON) to standard output."""
    from worker.weights import pack_weights

    sys.stdout.buffer.write(pack_weights(json.load(sys.stdin), trial))


if __name__ == "__main__":
    run_main(app)
