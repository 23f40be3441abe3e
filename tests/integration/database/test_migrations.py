"""Migrations: the models' schema from nothing, there and back, any number of migrators."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from migrations.upgrade import alembic_config, upgrade_to_head
from shared.db.models import Base
from shared.db.session import make_engine
from shared.settings import Settings, child_environment, get_settings


@pytest.fixture
def empty(
    new_database: Callable[[str], Settings],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Settings]:
    """Settings of an empty database, which are also this process's own."""
    settings = new_database("migrations_" + request.node.name[-24:])
    monkeypatch.setenv("CONVSWEEP_DATABASE_URL", settings.database_url)
    get_settings.cache_clear()
    yield settings
    get_settings.cache_clear()


def differences(settings: Settings) -> list[object]:
    """Returns what autogeneration would still change to make the database like the models."""
    engine = make_engine(settings)
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        found = list(compare_metadata(context, Base.metadata))
    engine.dispose()
    return found


def definitions(settings: Settings) -> set[str]:
    """Returns every constraint and index as Postgres itself writes it, checks included."""
    engine = make_engine(settings)
    with engine.connect() as connection:
        found = connection.execute(
            text("""
            SELECT conrelid::regclass || ' ' || conname || ': ' || pg_get_constraintdef(oid)
            FROM pg_constraint
            WHERE connamespace = 'public'::regnamespace AND conname NOT LIKE 'alembic%'
            UNION ALL
            SELECT indexdef FROM pg_indexes
            WHERE schemaname = 'public' AND tablename <> 'alembic_version'
        """)
        )
        lines = set(found.scalars())
    engine.dispose()
    return lines


def objects_left(settings: Settings) -> list[str]:
    engine = make_engine(settings)
    with engine.connect() as connection:
        names = connection.execute(
            text("""
            SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
            UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
            ORDER BY 1
        """)
        )
        found = list(names.scalars())
    engine.dispose()
    return found


def test_upgrade_of_an_empty_database_makes_what_the_models_say(
    empty: Settings, new_database: Callable[[str], Settings]
) -> None:
    upgrade_to_head()
    assert differences(empty) == []
    modelled = new_database("modelled")
    engine = make_engine(modelled)
    Base.metadata.create_all(engine)
    engine.dispose()
    assert definitions(empty) == definitions(modelled)


def test_downgrade_leaves_nothing_and_upgrade_works_again(empty: Settings) -> None:
    upgrade_to_head()
    command.downgrade(alembic_config(), "base")
    assert objects_left(empty) == ["alembic_version", "alembic_version_pkc"]
    upgrade_to_head()
    assert differences(empty) == []


def test_upgrade_of_an_up_to_date_database_changes_nothing(empty: Settings) -> None:
    upgrade_to_head()
    before = objects_left(empty)
    upgrade_to_head()
    assert objects_left(empty) == before


def test_two_migrators_at_once_are_safe(empty: Settings) -> None:
    migrators = [
        subprocess.Popen(
            [sys.executable, "-m", "migrations"],
            env=child_environment(empty),
            cwd=Path(__file__).parents[3],
        )
        for _ in range(2)
    ]
    assert [migrator.wait() for migrator in migrators] == [0, 0]
    assert differences(empty) == []
