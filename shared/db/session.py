"""Connections to Postgres, with time limits on everything so that nothing hangs."""

import math
import time

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from shared.settings import Settings

IDLE_IN_TRANSACTION_S = 60.0


def make_engine(
    settings: Settings,
    *,
    pool_size: int = 5,
    idle_in_transaction_s: float = IDLE_IN_TRANSACTION_S,
    ping_after_s: float = 0.0,
    autocommit: bool = False,
) -> Engine:
    """Returns an engine whose connections time out instead of hanging. Nothing connects yet.

    Args:
        pool_size: largest number of connections; with all in use, a caller waits for 5 s.
        idle_in_transaction_s: after this Postgres ends a transaction that does nothing, whatever
            has become of its client, and frees its locks.
        ping_after_s: a connection that lay unused for longer is tried before it is handed out,
            and replaced where it is dead. More than 0 only for callers that try again themselves.
        autocommit: every statement is committed by itself, except those ``in_transactions``:
            beginning and ending one are two round trips that reads do not need.
    """
    engine = create_engine(
        settings.full_database_url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=5,
        pool_pre_ping=ping_after_s == 0,
        **({"isolation_level": "AUTOCOMMIT"} if autocommit else {}),
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
    if ping_after_s > 0:
        _ping_after(engine, ping_after_s)
    return engine


def _ping_after(engine: Engine, idle_s: float) -> None:
    def note(_connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info["used_at"] = time.monotonic()

    def check(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
        if time.monotonic() - record.info.get("used_at", math.inf) > idle_s:
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error as error:
                raise DisconnectionError from error  # the pool tries the next one, or a new one

    event.listen(engine, "checkin", note)
    event.listen(engine, "checkout", check)


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
        "random_page_cost": 1.1,  # tables lie in memory or on an SSD, not on a spinning disk
    }
    return " ".join(f"-c {name}={value}" for name, value in values.items())


def make_session_factory(engine: Engine) -> sessionmaker[Session]:
    """Returns a factory of sessions that the caller commits."""
    return sessionmaker(engine, expire_on_commit=False)


def in_transactions(engine: Engine) -> Engine:
    """Returns an engine that commits by itself as one that does not, with the same connections."""
    return engine.execution_options(isolation_level="READ COMMITTED")
