"""Tokens that say where the next page of a listing begins: opaque, and refused elsewhere."""

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.domain.errors import InvalidPageTokenError
from shared.domain.ids import MAX_ID

MAX_TOKEN_CHARACTERS = 4096
_CHECK_BYTES = 12

Id = Annotated[int, Field(ge=0, le=MAX_ID)]


class PlaceInListing(BaseModel):
    """Where a page begins. What a token holds is input like any other and is checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class AfterId(PlaceInListing):
    """Behind the row with this id, in whichever direction the listing goes."""

    id: Id


PlaceT = TypeVar("PlaceT", bound=PlaceInListing)


def make_page_token(listing: Sequence[object], place: PlaceInListing) -> str:
    """Returns a token of a place in a listing; ``listing`` is made of what JSON knows.

    The check sum is no secret: whoever makes up a token moves a place in a listing, no more.
    """
    body = (_fingerprint(listing) + place.model_dump_json()).encode()
    return base64.urlsafe_b64encode(_check(body) + body).decode().rstrip("=")


def read_page_token(kind: type[PlaceT], listing: Sequence[object], token: str) -> PlaceT:
    """Returns the place that a token of the same listing holds.

    Raises:
        InvalidPageTokenError: the token is damaged or belongs to another listing.
    """
    body = _body(token)
    fingerprint = _fingerprint(listing).encode()
    if not body.startswith(fingerprint):
        raise InvalidPageTokenError(
            "page_token: belongs to another listing. Ask with the same sweep, filters and order "
            "as for the page it came with, or leave it out to begin anew.",
            field="page_token",
        )
    try:
        return kind.model_validate_json(body.removeprefix(fingerprint))
    except ValidationError as error:
        raise _damaged() from error


def _body(token: str) -> bytes:
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError as error:  # of characters beyond ASCII, or of the wrong number of them
        raise _damaged() from error
    check, body = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
    if check != _check(body):
        raise _damaged()
    return body


def _damaged() -> InvalidPageTokenError:
    return InvalidPageTokenError(
        "page_token: is damaged. Hand it back as it came with the page before, or leave it out "
        "to begin anew.",
        field="page_token",
    )


def _fingerprint(listing: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()[:16]


def _check(body: bytes) -> bytes:
    return hashlib.sha256(b"convsweep/page/1:" + body).digest()[:_CHECK_BYTES]
