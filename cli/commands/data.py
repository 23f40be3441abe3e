"""``convsweep data list|fetch``: which datasets are here, and getting public ones."""

import json
import subprocess
import sys
from typing import Annotated

import typer

from cli import output
from cli.commands.cluster import DataDirOption, local_settings
from cli.context import JsonOption
from shared.settings import child_environment

app = typer.Typer(no_args_is_help=True, help="List and fetch datasets.")


@app.command("list")
def list_datasets(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Lists datasets, those that are here and those that could be fetched."""
    settings = local_settings(data_dir)
    done = subprocess.run(
        [sys.executable, "-m", "worker", "datasets"],
        env=child_environment(settings), stdout=subprocess.PIPE, check=False,
    )  # fmt: skip
    if done.returncode:
        raise typer.Exit(done.returncode)
    infos = json.loads(done.stdout)
    if as_json:
        return output.print_json(infos)
    rows = [
        (info["name"], "yes" if info["available"] else "no", info["train_images"],
         info["validation_images"], info["image_shape"], info["hint"] or info["description"])
        for info in infos
    ]  # fmt: skip
    output.print_table(None, ["name", "here", "train", "validation", "shape", ""], rows)
    output.say(f"\nFolder: {settings.data_dir}")
    return None


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="stl10 or cifar10")], data_dir: DataDirOption = None
) -> None:
    """Downloads a public dataset into the data folder."""
    settings = local_settings(data_dir)
    done = subprocess.run(
        [sys.executable, "-m", "worker", "fetch", name],
        env=child_environment(settings), check=False,
    )  # fmt: skip
    raise typer.Exit(done.returncode)
