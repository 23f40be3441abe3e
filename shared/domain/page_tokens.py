"""Pages of listings, and the opaque tokens that say where the next page begins."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.domain.errors import InvalidPageTokenError
from shared.domain.ids import MAX_ID

MAX_TOKEN_CHARACTERS = 4096
_CHECK_BYTES = 12

Id = Annotated[int, Field(ge=0, le=MAX_ID)]


class PlaceInListing(BaseModel):
    """Where a page begins. The content of a token is input and validated like any other."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class AfterId(PlaceInListing):
    """After the row with this id, in the direction of the listing."""

    id: Id


PlaceT = TypeVar("PlaceT", bound=PlaceInListing)
ItemT = TypeVar("ItemT")


def make_page_token(listing: Sequence[object], place: PlaceInListing) -> str:
    """Returns a token of a place in a listing; ``listing`` is made of JSON values.

    The checksum is not a secret: a forged token can only move the place in a listing.
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
            "page_token: belongs to another listing. Use it with the sweep, filters and order of "
            "the page that returned it, or omit it for the first page.",
            field="page_token",
        )
    try:
        return kind.model_validate_json(body.removeprefix(fingerprint))
    except ValidationError as error:
        raise _damaged() from error


@dataclass(frozen=True, slots=True)
class Page(Generic[ItemT]):
    """A page of a listing; ``next_page_token`` is None on the last."""

    items: list[ItemT]
    next_page_token: str | None


def read_page_by_id(
    listing: Sequence[object],
    page_token: str | None,
    page_size: int,
    select: Callable[[int | None, int], list[ItemT]],
    id_of: Callable[[ItemT], int] = attrgetter("id"),
) -> Page[ItemT]:
    """Returns the page of a listing ordered by id that a token begins, the first without one.

    Args:
        listing: identifies the listing; made of JSON values.
        select: returns items that follow an id, None for the first ones, and at most a number.

    Raises:
        InvalidPageTokenError: the token is damaged or belongs to another listing.
    """
    after_id = read_page_token(AfterId, listing, page_token).id if page_token is not None else None
    items = select(after_id, page_size + 1)
    more, items = len(items) > page_size, items[:page_size]
    return Page(items, make_page_token(listing, AfterId(id=id_of(items[-1]))) if more else None)


def _body(token: str) -> bytes:
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError as error:  # non-ASCII characters, or a wrong length
        raise _damaged() from error
    check, body = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
    if check != _check(body):
        raise _damaged()
    return body


def _damaged() -> InvalidPageTokenError:
    return InvalidPageTokenError(
        "page_token: is damaged. Pass it back unchanged, or omit it for the first page.",
        field="page_token",
    )


def _fingerprint(listing: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()[:16]


def _check(body: bytes) -> bytes:
    return hashlib.sha256(b"convsweep/page/1:" + body).digest()[:_CHECK_BYTES]
