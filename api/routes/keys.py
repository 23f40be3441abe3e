"""``/v1/keys``: making, listing and revoking API keys; all of it needs the scope ``admin``."""

from dataclasses import asdict
from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Response, status

from api.deps import DbSession, ReadingSession
from api.openapi.document import raises
from api.schemas.keys import KeyCreatedOut, KeyIn, KeyOut
from services.access import keys as key_services
from shared.domain.errors import KeyNotFoundError

router = APIRouter(prefix="/v1/keys", tags=["keys"])
log = structlog.get_logger(__name__)

Prefix = Annotated[str, Path(pattern="^[0-9a-f]{12}$", description="The middle part of a key.")]


@router.post("", status_code=status.HTTP_201_CREATED)
def create_key(wanted: KeyIn, session: DbSession, response: Response) -> KeyCreatedOut:
    """Makes a key. This answer alone contains it: only a hash is kept."""
    key, kept = key_services.create_key(
        session, wanted.name, wanted.scope, lifetime_days=wanted.lifetime_days
    )
    log.info("key_created", prefix=kept.prefix, scope=wanted.scope.value)
    response.headers["Cache-Control"] = "no-store"
    return KeyCreatedOut.model_validate(asdict(kept) | {"key": key})


@router.get("")
def list_keys(session: ReadingSession) -> list[KeyOut]:
    """Lists the newest thousand keys, without their secrets."""
    return [KeyOut.model_validate(key) for key in key_services.list_keys(session)]


@router.delete("/{prefix}", responses=raises(KeyNotFoundError))
def revoke_key(prefix: Prefix, session: DbSession) -> KeyOut:
    """Revokes a key for good; the next request with it is refused. Twice is once."""
    revoked = key_services.revoke_key(session, prefix)
    log.info("key_revoked")
    return KeyOut.model_validate(revoked)
