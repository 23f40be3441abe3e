"""What routes are handed: a session that commits when the request succeeded."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Header, Path, Request
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
    known = {parameter.alias for parameter in request.scope["route"].dependant.query_params}
    for name in request.query_params:
        if name not in known:
            hint = f"; known are {', '.join(sorted(known))}" if known else ""
            raise InvalidInputError(f"Unknown parameter {name!r}{hint}.", field=name)


# function scope: the commit comes before the answer leaves, so a 201 is never sent in vain
DbSession = Annotated[Session, Depends(get_session, scope="function")]
SweepId = Annotated[int, Path(ge=1, le=MAX_ID, description="The number of a sweep.")]
JobId = Annotated[int, Path(ge=1, le=MAX_ID, description="The number of a job.")]
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
