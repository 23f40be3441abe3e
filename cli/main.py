"""The ``convsweep`` command: puts the commands together and turns errors into messages."""

import sys

import typer

from cli import output
from cli.commands import analysis, backup, cluster, data, demo, keys, results, sweeps, trainings
from convsweep import ApiTimeoutError, ApiUnreachableError, ClientError
from shared.domain.errors import ConvsweepError
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


app.add_typer(sweeps.app, name="sweep")
app.add_typer(data.app, name="data")
app.add_typer(analysis.app, name="analyze")
app.add_typer(keys.app, name="key")
app.add_typer(trainings.app, name="training")
for command in (
    cluster.up,
    cluster.down,
    demo.demo,
    results.top,
    results.job,
    results.export,
    analysis.plot,
    trainings.train,
    cluster.doctor,
    cluster.api,
    cluster.dispatcher,
    cluster.worker,
    cluster.migrate,
    backup.backup,
    backup.restore,
):
    app.command()(command)


def main() -> None:
    """Runs the command line; a domain or client error becomes a message and exit status 1."""
    try:
        app()
    except ApiUnreachableError as error:
        output.fail(error.message + _other_address(error))
        sys.exit(1)
    except (ClientError, ConvsweepError) as error:
        output.fail(error.message)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _other_address(error: ApiUnreachableError) -> str:
    if isinstance(error, ApiTimeoutError):
        return ""
    return " Name another address with --url or CONVSWEEP_API_URL."


if __name__ == "__main__":
    main()
