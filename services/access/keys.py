"""API keys: creating, listing, revoking, and authentication."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from sqlalchemy.orm import Session

from shared.db.queries.access import keys as key_queries
from shared.db.queries.access.keys import KeyRow
from shared.domain.access import KeyScope
from shared.domain.errors import (
    InvalidInputError,
    KeyExpiredError,
    KeyInvalidError,
    KeyNotFoundError,
    KeyRevokedError,
)
from shared.domain.names import check_name

MAX_LIFETIME_DAYS = 3650
MAX_KEYS_SHOWN = 1000
_SECRET_BYTES = 32
_FORM = re.compile(r"csw_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NO_HASH = bytes(32)


@dataclass(frozen=True, slots=True)
class Holder:
    """The key of a request: the part that may be logged, and its scope."""

    prefix: str
    scope: KeyScope


def create_key(
    session: Session, name: str, scope: KeyScope, *, lifetime_days: float | None = None
) -> tuple[str, KeyRow]:
    """Adds a key; returns it with its secret, which is shown only here, and its stored row.

    The secret has 256 random bits; its SHA-256 is stored. Without ``lifetime_days`` the key is
    valid until it is revoked.

    Raises:
        InvalidInputError: the name or the lifetime cannot be used.
    """
    try:
        check_name(name)
    except ValueError as error:
        raise InvalidInputError(f"name: {error}.", field="name") from error
    if lifetime_days is not None and not 0 < lifetime_days <= MAX_LIFETIME_DAYS:
        raise InvalidInputError(
            f"lifetime_days: more than 0 and at most {MAX_LIFETIME_DAYS}.", field="lifetime_days"
        )
    prefix, secret = secrets.token_hex(6), secrets.token_urlsafe(_SECRET_BYTES)
    kept = key_queries.insert_key(
        session,
        {
            "prefix": prefix,
            "secret_hash": _hash(secret),
            "name": name,
            "scope": scope.value,
            "lifetime_s": None if lifetime_days is None else lifetime_days * 86_400,
        },
    )
    return f"csw_{prefix}_{secret}", kept


def revoke_key(session: Session, prefix: str) -> KeyRow:
    """Revokes a key permanently: the next request with it is refused. Repeats change nothing.

    Raises:
        KeyNotFoundError: there is no such key.
    """
    key = key_queries.update_key_revoked(session, prefix)
    if key is None:
        raise KeyNotFoundError(
            f"There is no key {prefix!r}; `convsweep key list` shows all.", field="prefix"
        )
    return key


def list_keys(session: Session) -> list[KeyRow]:
    """Returns the newest 1,000 keys, including revoked and expired ones, without secrets."""
    return key_queries.select_keys(session, MAX_KEYS_SHOWN)


def authenticate(session: Session, text: str) -> Holder:
    """Returns the holder of the key ``text`` and records its use, at most once a minute.

    Raises:
        KeyInvalidError: it is not a key of this service.
        KeyRevokedError: it was revoked.
        KeyExpiredError: its lifetime is over.
    """
    form = _FORM.fullmatch(text)
    if form is None:
        raise KeyInvalidError("This is not a key: keys look like csw_<prefix>_<secret>.")
    prefix, secret = form.groups()
    stored = key_queries.find_secret(session, prefix)
    expected = _NO_HASH if stored is None else stored.secret_hash
    if not hmac.compare_digest(_hash(secret), bytes(expected)) or stored is None:
        raise KeyInvalidError("There is no such key.")
    if stored.revoked:
        raise KeyRevokedError(f"Key {prefix} was revoked.")
    if stored.expired:
        raise KeyExpiredError(f"Key {prefix} has expired.")
    if stored.note_use:
        key_queries.update_key_used(session, prefix)
    return Holder(prefix, KeyScope(stored.scope))


def _hash(secret: str) -> bytes:
    """Returns the stored hash of a secret; 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).digest()
