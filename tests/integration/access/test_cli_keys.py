"""``convsweep key`` on a real database, and the command line with a key against a real API."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session
from typer.testing import CliRunner, Result

from cli import output
from cli.main import app
from services.access.keys import create_key
from shared.domain.access import KeyScope
from shared.domain.errors import InvalidInputError, UnavailableError
from shared.settings import Settings, get_settings
from tests.conftest import free_port, serving
from tests.integration.access.test_access import LOCKED


@pytest.fixture(autouse=True)
def _database(
    migrated: Settings, session: Session, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The command line's settings lead to the tests' empty database."""
    monkeypatch.setenv("CONVSWEEP_DATABASE_URL", migrated.database_url)
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture(scope="module")
def url(migrated: Settings) -> Iterator[str]:
    with serving(migrated.model_copy(update=LOCKED)) as served:
        yield served


def convsweep(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def test_the_first_key_is_made_before_there_is_any_and_works(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = convsweep("key", "create", "me", "--scope", "write")
    assert made.exit_code == 0
    key = made.stdout.strip()
    assert "csw_" in key
    assert key not in made.stderr
    monkeypatch.setenv("CONVSWEEP_API_KEY", key)
    get_settings.cache_clear()
    started = convsweep("sweep", "start", "--preset", "quick", "--url", url, "--json")
    assert started.exit_code == 0, started.output
    assert json.loads(started.stdout)["status"] == "running"


def test_a_key_in_a_file_works_too(
    url: str, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _ = create_key(session, "file", KeyScope.READ)
    session.commit()
    (tmp_path / "key").write_text(key + "\n")
    monkeypatch.setenv("CONVSWEEP_API_KEY_FILE", str(tmp_path / "key"))
    get_settings.cache_clear()
    assert convsweep("sweep", "list", "--url", url, "--json").stdout.strip() == "[]"


def test_keys_are_listed_without_their_secret_and_revoked_by_their_prefix() -> None:
    made = json.loads(convsweep("key", "create", "plots", "--days", "2", "--json").stdout)
    assert (made["scope"], made["revoked_at"]) == ("read", None)
    assert made["expires_at"] > made["created_at"]
    listed = convsweep("key", "list", "--json")
    assert json.loads(listed.stdout) == [{k: v for k, v in made.items() if k != "key"}]
    shown = convsweep("key", "list").stdout
    assert made["prefix"] in shown
    assert str(output.local_time(made["expires_at"])) in shown
    revoked = json.loads(convsweep("key", "revoke", made["prefix"], "--json").stdout)
    assert revoked["revoked_at"]


def test_a_command_without_a_key_says_where_one_belongs(url: str) -> None:
    done = CliRunner().invoke(app, ["sweep", "list", "--url", url])
    assert done.exit_code == 1
    assert "CONVSWEEP_API_KEY" in str(done.exception)


@pytest.mark.parametrize(
    "arguments",
    [["create", ""], ["create", "x", "--days", "0"], ["create", "x", "--days", "-1"]],
)
def test_a_key_that_cannot_be_is_refused(arguments: list[str]) -> None:
    with pytest.raises(InvalidInputError):
        convsweep("key", *arguments)
    assert convsweep("key", "list", "--json").stdout.strip() == "[]"


def test_a_scope_that_does_not_exist_is_refused() -> None:
    assert convsweep("key", "create", "x", "--scope", "root").exit_code == 2


def test_a_database_that_is_away_or_empty_is_named_with_what_to_do(
    new_database: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = f"postgresql://postgres@127.0.0.1:{free_port()}/x"
    monkeypatch.setenv("CONVSWEEP_DATABASE_URL", nowhere)
    get_settings.cache_clear()
    with pytest.raises(UnavailableError, match="CONVSWEEP_DATABASE_URL"):
        convsweep("key", "list")
    assert callable(new_database)
    empty = new_database("without_keys")
    monkeypatch.setenv("CONVSWEEP_DATABASE_URL", empty.database_url)
    get_settings.cache_clear()
    with pytest.raises(UnavailableError, match="convsweep migrate"):
        convsweep("key", "list")


def test_a_file_that_holds_no_key_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (tmp_path / "missing", tmp_path / "empty"):
        (tmp_path / "empty").write_text("\n")
        monkeypatch.setenv("CONVSWEEP_API_KEY_FILE", str(file))
        get_settings.cache_clear()
        with pytest.raises(InvalidInputError, match="CONVSWEEP_API_KEY_FILE"):
            convsweep("sweep", "list")
