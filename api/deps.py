"""What routes are handed: a session that commits when the request succeeded."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Header, Path, Request
from fastapi.dependencies.models import Dependant
from sqlalchemy.orm import Session, sessionmaker

from shared.errors import InvalidInputError

MAX_ID = 2**63 - 1


def get_session(request: Request) -> Iterator[Session]:
    """Yields a session; commits after the route returned, rolls back when it raised."""
    factory: sessionmaker[Session] = request.app.state.session_factory
    with factory.begin() as session:
        yield session


def refuse_unknown_parameters(request: Request) -> None:
    """Refuses a query parameter that the route does not know: a misspelt filter filters nothing.

    Raises:
        InvalidInputError: there is one.
    """
    known = _query_parameters(request.scope["route"].dependant)
    for name in request.query_params:
        if name not in known:
            hint = f"; known are {', '.join(sorted(known))}" if known else ""
            raise InvalidInputError(f"Unknown parameter {name!r}{hint}.", field=name)


def _query_parameters(dependant: Dependant) -> set[str]:
    names = {parameter.alias for parameter in dependant.query_params}
    return names.union(*map(_query_parameters, dependant.dependencies))


# function scope: the commit comes before the answer leaves, so a 201 is never sent in vain
DbSession = Annotated[Session, Depends(get_session, scope="function")]
SweepId = Annotated[int, Path(ge=1, le=MAX_ID)]
JobId = Annotated[int, Path(ge=1, le=MAX_ID)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",  # what can be printed
        description="Any text of your own; asking again with the same one creates nothing twice.",
    ),
]
