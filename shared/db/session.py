"""Connections to Postgres, with time limits on everything so that nothing hangs."""

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from shared.settings import Settings

_SERVER_OPTIONS = " ".join(
    f"-c {name}={value}"
    for name, value in {
        "timezone": "UTC",
        "statement_timeout": "60s",
        "lock_timeout": "15s",
        "idle_in_transaction_session_timeout": "60s",
    }.items()
)


def make_engine(settings: Settings, *, pool_size: int = 5) -> Engine:
    """Returns an engine whose connections time out instead of hanging. Nothing connects yet."""
    return create_engine(
        settings.database_url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=5,
        pool_pre_ping=True,
        connect_args={
            "application_name": "convsweep",
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "options": _SERVER_OPTIONS,
        },
    )


def make_session_factory(engine: Engine) -> sessionmaker[Session]:
    """Returns a factory of sessions that the caller commits."""
    return sessionmaker(engine, expire_on_commit=False)
