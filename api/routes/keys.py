"""``/v1/keys``: creating, listing and revoking API keys; every route needs the scope ``admin``."""

from dataclasses import asdict
from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Response, status

from api.deps import DbSession, ReadingSession
from api.json_body import JsonRoute
from api.openapi.document import raises
from api.schemas.keys import KeyCreatedOut, KeyIn, KeyOut
from services.access import keys as key_services
from shared.domain.errors import KeyNotFoundError

router = APIRouter(prefix="/v1/keys", tags=["keys"], route_class=JsonRoute)
log = structlog.get_logger(__name__)

Prefix = Annotated[str, Path(pattern="^[0-9a-f]{12}$", description="The middle part of a key.")]


@router.post("", status_code=status.HTTP_201_CREATED)
def create_key(wanted: KeyIn, session: DbSession, response: Response) -> KeyCreatedOut:
    """Creates a key. Only this answer contains it: the service stores a hash."""
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
    """Revokes a key permanently; the next request with it is refused. Repeats change nothing."""
    revoked = key_services.revoke_key(session, prefix)
    log.info("key_revoked")
    return KeyOut.model_validate(revoked)
