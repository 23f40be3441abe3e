"""Brings a database to the newest schema."""

from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from shared.db.session import make_engine
from shared.settings import get_settings

log = structlog.get_logger(__name__)

_UNCHECKED = """
    SELECT conrelid::regclass::text AS table, conname AS name, pg_get_expr(conbin, conrelid) AS rule
    FROM pg_constraint
    WHERE NOT convalidated AND contype = 'c' AND connamespace = 'public'::regnamespace
    ORDER BY 1, 2
"""


def alembic_config() -> Config:
    """Returns Alembic's configuration; it needs no ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


def upgrade_to_head() -> None:
    """Applies every migration that the settings' database does not have yet, and checks rows."""
    command.upgrade(alembic_config(), "head")
    check_rows()


def check_rows() -> None:
    """Checks the rows that were there before a constraint was added; readers and writers go on.

    A table with rows that break its rule keeps them, and is reported: Postgres refuses to change
    such a row until it is repaired, and the next migration checks again.
    """
    engine = make_engine(get_settings(), pool_size=1, autocommit=True)
    with engine.connect() as connection:
        connection.execute(text("SET statement_timeout = 0"))
        for row in connection.execute(text(_UNCHECKED)).all():
            _check(connection, *row)
    engine.dispose()


def _check(connection: Connection, table: str, name: str, rule: str) -> None:
    try:
        connection.execute(text(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}"))
    except IntegrityError:
        count = f"SELECT count(*) FROM {table} WHERE NOT {rule}"  # noqa: S608 - from the catalogue
        broken = connection.exec_driver_sql(count)
        log.error(
            "rows_break_a_rule",
            table=table,
            rule=rule,
            rows=broken.scalar_one(),
            advice="Set their values to NULL or delete them, then run convsweep migrate again.",
        )
