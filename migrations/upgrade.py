"""Brings a database to the newest schema."""

from pathlib import Path

from alembic import command
from alembic.config import Config


def alembic_config() -> Config:
    """Returns Alembic's configuration; it needs no ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


def upgrade_to_head() -> None:
    """Applies every migration that the settings' database does not have yet."""
    command.upgrade(alembic_config(), "head")
