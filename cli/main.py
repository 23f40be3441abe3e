"""The ``convsweep`` command: puts the commands together and turns errors into messages."""

import sys

import typer

from cli import (
    analysis_commands,
    backup_commands,
    cluster_commands,
    data_commands,
    demo,
    key_commands,
    output,
    result_commands,
    sweep_commands,
    training_commands,
)
from shared.errors import ConvsweepError
from shared.version import code_version

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Evaluates every architecture of a search space, exactly once.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(code_version())
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Evaluates every architecture of a search space, exactly once."""


app.add_typer(sweep_commands.app, name="sweep")
app.add_typer(data_commands.app, name="data")
app.add_typer(analysis_commands.app, name="analyze")
app.add_typer(key_commands.app, name="key")
app.add_typer(training_commands.app, name="training")
for command in (
    cluster_commands.up,
    cluster_commands.down,
    demo.demo,
    result_commands.top,
    result_commands.job,
    result_commands.export,
    analysis_commands.plot,
    training_commands.train,
    cluster_commands.doctor,
    cluster_commands.api,
    cluster_commands.dispatcher,
    cluster_commands.worker,
    cluster_commands.migrate,
    backup_commands.backup,
    backup_commands.restore,
):
    app.command()(command)


def main() -> None:
    """Runs the command line; a domain error ends it with a message and status 1."""
    try:
        app()
    except ConvsweepError as error:
        output.fail(error.message)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
