"""``convsweep key``: API keys, created and revoked in the database itself.

The first key cannot be created with a key; a user who has ``CONVSWEEP_DATABASE_URL`` may do
everything anyway. All other commands use HTTP.
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cli import output
from cli.context import JsonOption
from cli.database import command_session
from shared.domain.access import KeyScope
from shared.settings import get_settings

if TYPE_CHECKING:
    from shared.db.queries.access.keys import KeyRow

app = typer.Typer(
    no_args_is_help=True,
    help="Make, list and revoke API keys, directly in the database of CONVSWEEP_DATABASE_URL.",
)

SHOWN = ("prefix", "name", "scope", "created_at", "expires_at", "revoked_at", "last_used_at")


@app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Who or what the key is for.")],
    scope: Annotated[
        KeyScope, typer.Option(help="read; write: sweeps too; admin: keys too.")
    ] = KeyScope.READ,
    days: Annotated[
        float | None, typer.Option(help="Lifetime in days; default: valid until revoked.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Makes a key and prints it this one time; only a hash of it is kept."""
    from services.access import keys

    with command_session(get_settings()) as session:
        key, kept = keys.create_key(session, name, scope, lifetime_days=days)
        row = _row(kept)
    if as_json:
        return output.print_json(row | {"key": key})
    output.note(f"Key {row['prefix']} for {name!r}, scope {scope}. It is shown this once:")
    return print(key)


@app.command("list")
def list_keys(as_json: JsonOption = False) -> None:
    """Lists keys, without their secrets."""
    from services.access import keys

    with command_session(get_settings()) as session:
        rows = [_row(key) for key in keys.list_keys(session)]
    if as_json:
        return output.print_json(rows)
    return output.print_table(None, SHOWN, [[_shown(row, name) for name in SHOWN] for row in rows])


@app.command("revoke")
def revoke_key(
    prefix: Annotated[str, typer.Argument(help="The middle part of the key.")],
    as_json: JsonOption = False,
) -> None:
    """Revokes a key for good; the next request with it is refused."""
    from services.access import keys

    with command_session(get_settings()) as session:
        row = _row(keys.revoke_key(session, prefix))
    if as_json:
        return output.print_json(row)
    return output.say(f"Key {prefix} ({row['name']}) is revoked.")


def _shown(row: dict[str, str | None], name: str) -> str | None:
    return output.local_time(row[name]) if name.endswith("_at") else row[name]


def _row(key: "KeyRow") -> dict[str, str | None]:
    return {
        name: value.isoformat(timespec="seconds") if hasattr(value, "isoformat") else value
        for name, value in asdict(key).items()
    }
