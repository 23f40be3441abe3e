"""SQL about API keys. The database never holds a secret, only its hash."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.db.queries.rows import read_row, read_rows

_SHOWN = "prefix, name, scope, created_at, expires_at, revoked_at, last_used_at"


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key without its hash."""

    prefix: str  # the middle part of the key
    name: str
    scope: str
    created_at: dt.datetime
    expires_at: dt.datetime | None  # None: valid until revoked
    revoked_at: dt.datetime | None
    last_used_at: dt.datetime | None  # to the minute


@dataclass(frozen=True, slots=True)
class KeySecret:
    """What authentication needs of a key, by the database's clock."""

    secret_hash: bytes  # SHA-256
    scope: str
    expired: bool
    revoked: bool
    note_use: bool  # whether its last recorded use is over a minute ago, or it was never used


def insert_key(session: Session, key: dict[str, Any]) -> KeyRow:
    """Adds a key and returns it.

    Args:
        key: ``prefix secret_hash name scope lifetime_s``; no lifetime: valid until revoked.
    """
    statement = text(f"""
        INSERT INTO api_keys (prefix, secret_hash, name, scope, expires_at)
        VALUES (:prefix, :secret_hash, :name, :scope,
                clock_timestamp() + make_interval(secs => CAST(:lifetime_s AS float8)))
        RETURNING {_SHOWN}
    """)  # noqa: S608
    return read_rows(KeyRow, session.execute(statement, key))[0]


def find_secret(session: Session, prefix: str) -> KeySecret | None:
    """Returns what authentication needs of a key; None where there is no such key."""
    statement = text("""
        SELECT secret_hash, scope,
               coalesce(expires_at <= clock_timestamp(), false) AS expired,
               revoked_at IS NOT NULL AS revoked,
               coalesce(last_used_at < clock_timestamp() - interval '1 minute', true) AS note_use
        FROM api_keys WHERE prefix = :prefix
    """)
    return read_row(KeySecret, session.execute(statement, {"prefix": prefix}))


def update_key_used(session: Session, prefix: str) -> None:
    """Records that a key is in use, unless another transaction is recording it now."""
    statement = text("""
        UPDATE api_keys SET last_used_at = clock_timestamp() WHERE prefix = (
            SELECT prefix FROM api_keys WHERE prefix = :prefix FOR UPDATE SKIP LOCKED
        )
    """)
    session.execute(statement, {"prefix": prefix})


def update_key_revoked(session: Session, prefix: str) -> KeyRow | None:
    """Revokes a key permanently and returns it; keeps the time of the first revocation."""
    statement = text(f"""
        UPDATE api_keys SET revoked_at = coalesce(revoked_at, clock_timestamp())
        WHERE prefix = :prefix RETURNING {_SHOWN}
    """)  # noqa: S608
    return read_row(KeyRow, session.execute(statement, {"prefix": prefix}))


def select_keys(session: Session, limit: int) -> list[KeyRow]:
    """Returns keys without their hashes, newest first."""
    statement = text(f"""
        SELECT {_SHOWN} FROM api_keys ORDER BY created_at DESC, prefix LIMIT :limit
    """)  # noqa: S608
    return read_rows(KeyRow, session.execute(statement, {"limit": limit}))
