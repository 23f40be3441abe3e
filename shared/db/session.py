"""Connections to Postgres, with time limits on everything so that nothing hangs."""

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from shared.settings import Settings

IDLE_IN_TRANSACTION_S = 60.0


def make_engine(
    settings: Settings,
    *,
    pool_size: int = 5,
    idle_in_transaction_s: float = IDLE_IN_TRANSACTION_S,
) -> Engine:
    """Returns an engine whose connections time out instead of hanging. Nothing connects yet.

    Args:
        pool_size: most connections at once; whoever finds none free waits for 5 s.
        idle_in_transaction_s: after this Postgres ends a transaction that does nothing, whatever
            has become of its client, and frees its locks.
    """
    return create_engine(
        settings.database_url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=5,
        pool_pre_ping=True,
        connect_args={
            "application_name": "convsweep",
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 25_000,
            "options": _server_options(idle_in_transaction_s),
        },
    )


def _server_options(idle_in_transaction_s: float) -> str:
    """Returns what holds on the server's side, also while the client is out of reach."""
    values = {
        "timezone": "UTC",
        "statement_timeout": "60s",
        "lock_timeout": "15s",
        "idle_in_transaction_session_timeout": f"{idle_in_transaction_s * 1000:.0f}ms",
        "tcp_keepalives_idle": 10,
        "tcp_keepalives_interval": 5,
        "tcp_keepalives_count": 3,
    }
    return " ".join(f"-c {name}={value}" for name, value in values.items())


def make_session_factory(engine: Engine) -> sessionmaker[Session]:
    """Returns a factory of sessions that the caller commits."""
    return sessionmaker(engine, expire_on_commit=False)
