"""SQL about API keys. The secrets themselves are nowhere in the database."""

from typing import Any

from sqlalchemy import Row, RowMapping, text
from sqlalchemy.orm import Session

_SHOWN = "prefix, name, scope, created_at, expires_at, revoked_at, last_used_at"


def insert_key(session: Session, key: dict[str, Any]) -> RowMapping:
    """Adds a key, ``prefix secret_hash name scope lifetime_s`` (None: for ever); returns it."""
    statement = text(f"""
        INSERT INTO api_keys (prefix, secret_hash, name, scope, expires_at)
        VALUES (:prefix, :secret_hash, :name, :scope,
                clock_timestamp() + make_interval(secs => CAST(:lifetime_s AS float8)))
        RETURNING {_SHOWN}
    """)  # noqa: S608
    return session.execute(statement, key).mappings().one()


def find_secret(session: Session, prefix: str) -> Row[Any] | None:
    """Returns ``secret_hash scope expired revoked note_use`` of a key by the database's clock.

    ``note_use`` says that the key's last use was noted a minute ago or never.
    """
    statement = text("""
        SELECT secret_hash, scope,
               coalesce(expires_at <= clock_timestamp(), false) AS expired,
               revoked_at IS NOT NULL AS revoked,
               coalesce(last_used_at < clock_timestamp() - interval '1 minute', true) AS note_use
        FROM api_keys WHERE prefix = :prefix
    """)
    return session.execute(statement, {"prefix": prefix}).one_or_none()


def update_key_used(session: Session, prefix: str) -> None:
    """Notes that a key is in use; whoever finds somebody else doing so leaves it to them."""
    statement = text("""
        UPDATE api_keys SET last_used_at = clock_timestamp() WHERE prefix = (
            SELECT prefix FROM api_keys WHERE prefix = :prefix FOR UPDATE SKIP LOCKED
        )
    """)
    session.execute(statement, {"prefix": prefix})


def update_key_revoked(session: Session, prefix: str) -> RowMapping | None:
    """Revokes a key for good and returns it; the time of the first revocation stays."""
    statement = text(f"""
        UPDATE api_keys SET revoked_at = coalesce(revoked_at, clock_timestamp())
        WHERE prefix = :prefix RETURNING {_SHOWN}
    """)  # noqa: S608
    return session.execute(statement, {"prefix": prefix}).mappings().one_or_none()


def select_keys(session: Session, limit: int) -> list[RowMapping]:
    """Returns keys without their hashes, newest first."""
    statement = text(f"""
        SELECT {_SHOWN} FROM api_keys ORDER BY created_at DESC, prefix LIMIT :limit
    """)  # noqa: S608
    return list(session.execute(statement, {"limit": limit}).mappings())
