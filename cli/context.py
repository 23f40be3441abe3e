"""The API that commands talk to, and the options that they share."""

from typing import Annotated

import typer

from cli.embedded.local import find_cluster
from cli.output import fail
from convsweep import Client
from shared.domain.errors import InvalidInputError
from shared.settings import Settings, get_settings

UrlOption = Annotated[
    str | None,
    typer.Option("--url", help="The API; default: CONVSWEEP_API_URL, else the local cluster."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
WhereOption = Annotated[
    list[str],
    typer.Option("--where", "-w", help="A filter such as accuracy=0.3.. or kernel_size[0]=5|7."),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="Device model of throughputs and fitness; default: the one with most results.",
    ),
]
WeightOption = Annotated[
    float | None,
    typer.Option("--fitness-weight", help="Weight of throughput in fitness; default 0.3."),
]
SweepArgument = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep's id, or `latest`.")]


def make_client(url: str | None) -> Client:
    """Returns a client of the API at ``url``, else the configured one, else the local cluster's."""
    settings = get_settings()
    chosen = url or settings.api_url
    if not chosen:  # an empty variable is one that is not set
        cluster = find_cluster(settings.data_dir)
        chosen = cluster.url if cluster else f"http://{settings.api_host}:{settings.api_port}"
    return Client(chosen, read_key(settings))


def read_key(settings: Settings) -> str | None:
    """Returns the configured API key, or None.

    Raises:
        InvalidInputError: the file of the key cannot be read or holds no key.
    """
    if settings.api_key is not None:
        return _checked(settings.api_key.get_secret_value(), "CONVSWEEP_API_KEY")
    if settings.api_key_file is None:
        return None
    try:
        text = settings.api_key_file.read_text(encoding="ascii")
    except (OSError, UnicodeError) as error:
        raise InvalidInputError(f"CONVSWEEP_API_KEY_FILE: {error}") from error
    return _checked(text, "CONVSWEEP_API_KEY_FILE")


def _checked(text: str, where: str) -> str:
    key = text.strip()
    if not key.isascii() or not key.isprintable() or not key:
        raise InvalidInputError(f"{where} holds no key; keys look like csw_<prefix>_<secret>.")
    return key


def resolve_sweep(client: Client, sweep: str) -> int:
    """Returns the id in ``sweep``, or that of the newest sweep for ``latest``."""
    if sweep != "latest":
        if not sweep.isascii() or not sweep.isdigit() or len(sweep) > 18:
            raise fail(f"{sweep!r} is not a sweep; give its id or `latest`.")
        return int(sweep)
    sweeps = client.list_sweeps(page_size=1)
    if not sweeps:
        raise fail("There is no sweep yet. Start one: convsweep sweep start --preset quick")
    return int(sweeps[0]["id"])
