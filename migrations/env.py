"""Runs migrations on the database of the settings, one process at a time."""

from alembic import context
from sqlalchemy import text

from shared.db.models import Base
from shared.db.session import make_engine
from shared.settings import get_settings

MIGRATION_LOCK = 6_202_611_230  # any number; the same for every migrator


def run() -> None:
    """Migrates under an advisory lock, so that two migrators at once are safe."""
    engine = make_engine(get_settings())
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata)
        with context.begin_transaction():
            connection.execute(text("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            context.run_migrations()
        connection.commit()
    engine.dispose()


run()
