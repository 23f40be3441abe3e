"""Migrations: the models' schema from nothing, there and back, any number of migrators."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Float, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from migrations.upgrade import alembic_config, upgrade_to_head
from shared.db.models import Base
from shared.db.session import make_engine, make_session_factory
from shared.settings import Settings, child_environment, get_settings
from tests.conftest import migrate
from tests.fuzz.sweeps import fill


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


MEASURED = {
    "jobs": (
        "ratio", "accuracy", "accuracy_sd", "accuracy_min", "accuracy_max", "train_accuracy",
        "throughput", "throughput_min", "throughput_max", "fit_s",
    ),
    "timings": ("images_per_s", "spread"),
    "throughputs": ("throughput", "throughput_min", "throughput_max"),
    "reference_runs": ("speed_change",),
    "trials": ("accuracy", "train_accuracy", "fit_s", "images_per_s", "images_per_s_spread"),
    "training_epochs": (
        "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "learning_rate",
        "seconds", "images_per_s",
    ),
}  # fmt: skip


def test_every_measured_column_is_listed_here() -> None:
    floats = {
        table.name: {column.name for column in table.columns if isinstance(column.type, Float)}
        for table in Base.metadata.tables.values()
    }
    assert {name: columns for name, columns in floats.items() if columns} == {
        name: set(columns) for name, columns in MEASURED.items()
    }


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize(
    ("table", "column"), [(name, column) for name in MEASURED for column in MEASURED[name]]
)
def test_postgres_itself_refuses_a_measurement_that_is_not_finite(
    table: str, column: str, value: str, filled: Session
) -> None:
    with pytest.raises(IntegrityError, match="check constraint"):
        filled.execute(text(f"UPDATE {table} SET {column} = '{value}'"))
    filled.rollback()


@pytest.fixture(scope="module")
def filled(new_database: Callable[[str], Settings]) -> Iterator[Session]:
    """A database with results and trainings."""
    settings = new_database("measured")
    migrate(settings)
    engine = make_engine(settings)
    with make_session_factory(engine)() as session:
        fill(session)
        yield session
    engine.dispose()


def test_rows_that_broke_a_rule_before_it_came_are_kept_and_reported(
    empty: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    command.upgrade(alembic_config(), "head")
    engine = make_engine(empty)
    with make_session_factory(engine)() as session:
        fill(session)
    with make_session_factory(engine).begin() as session:
        session.execute(text("ALTER TABLE jobs DROP CONSTRAINT jobs_measured"))
        session.execute(text("UPDATE jobs SET accuracy = 'NaN' WHERE id IN (1, 2)"))
        session.execute(
            text("ALTER TABLE jobs ADD CONSTRAINT jobs_measured CHECK (accuracy <= 1) NOT VALID")
        )
    upgrade_to_head()
    assert "rows_break_a_rule" in caplog.text
    assert "table='jobs'" in caplog.text
    assert "rows=2" in caplog.text
    with make_session_factory(engine).begin() as session:
        session.execute(text("UPDATE jobs SET accuracy = NULL WHERE id IN (1, 2)"))
    upgrade_to_head()
    with engine.connect() as connection:
        unchecked = "SELECT count(*) FROM pg_constraint WHERE NOT convalidated"
        assert connection.execute(text(unchecked)).scalar_one() == 0
    engine.dispose()
