"""Dependencies of routes: sessions that commit on success, filters, ids, pages.

Dependencies that never block are ``async``; FastAPI would run others in a thread.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated, get_args, get_origin

import structlog
from fastapi import Depends, Header, Path, Query, Request
from fastapi.dependencies.models import Dependant
from sqlalchemy.orm import Session, sessionmaker
from starlette.convertors import Convertor, register_url_convertor

from services.analysis.result_table import ResultSelection
from services.leaderboard.filters import Filters, parse_filters
from shared.domain.actions import Action
from shared.domain.errors import InvalidInputError
from shared.domain.ids import MAX_ID
from shared.domain.page_tokens import MAX_TOKEN_CHARACTERS
from shared.domain.results.ranking import FITNESS_WEIGHT, MAX_FITNESS_WEIGHT

MAX_PAGE_SIZE = 1000

FitnessWeight = Annotated[
    float,
    Query(
        ge=0,
        le=MAX_FITNESS_WEIGHT,
        allow_inf_nan=False,
        description="Weight of the throughput in `fitness`; 0.3 as published.",
    ),
]


@contextmanager
def transaction(sessions: sessionmaker[Session]) -> Iterator[Session]:
    """Yields a session; commits at the end, rolls back where something was raised."""
    with sessions.begin() as session:
        yield session


def get_session(request: Request) -> Iterator[Session]:
    """Yields a session; commits after the route returned, rolls back when it raised."""
    with transaction(request.app.state.session_factory) as session:
        yield session


async def get_reading_session(request: Request) -> AsyncIterator[Session]:
    """Yields a session for statements that only read; nothing is sent when it ends."""
    with request.app.state.reading_factory() as session:
        yield session


async def read_filters(request: Request) -> Filters:
    """Returns the filters of a request: all parameters that the route does not declare.

    Raises:
        UnknownFilterError: one is neither a filter nor a parameter.
        InvalidFilterError: the value of a filter does not fit its column.
    """
    declared = _declared(request)
    pairs = [pair for pair in request.query_params.multi_items() if pair[0] not in declared]
    return parse_filters(pairs, also_known=sorted(declared))


async def bind_ids(request: Request) -> None:
    """Adds the ids of the request's path to its log lines."""
    structlog.contextvars.bind_contextvars(**request.path_params)


async def refuse_unknown_parameters(request: Request) -> None:
    """Rejects query parameters that the route does not know, such as misspelt ones, and repeats.

    Raises:
        InvalidInputError: a parameter is unknown, or one that takes a single value is repeated.
    """
    _refuse_repeated(request)
    dependants = _dependants(request.scope["route"].dependant)
    if any(dependant.call is read_filters for dependant in dependants):
        return  # read_filters rejects them itself
    known = _declared(request)
    for name in request.query_params:
        if name not in known:
            hint = f"; known are {', '.join(sorted(known))}" if known else ""
            raise InvalidInputError(f"Unknown parameter {name!r}{hint}.", field=name)


async def read_key_prefix(request: Request) -> str:
    """Returns the prefix of the request's API key; empty where keys are off."""
    return request.scope["convsweep.key"] or ""


async def read_selection(
    filters: Annotated[Filters, Depends(read_filters)],
    fitness_weight: FitnessWeight = FITNESS_WEIGHT,
) -> ResultSelection:
    """Returns the results that an analysis uses: the request's filters and fitness weight."""
    return ResultSelection(filters, fitness_weight)


def _refuse_repeated(request: Request) -> None:
    counts = Counter(name for name, _ in request.query_params.multi_items())
    for dependant in _dependants(request.scope["route"].dependant):
        for parameter in dependant.query_params:
            count = counts[parameter.alias]
            if count > 1 and not _takes_several(parameter.field_info.annotation):
                raise InvalidInputError(
                    f"{parameter.alias} takes one value, not {count}.", field=parameter.alias
                )


def _takes_several(annotation: object) -> bool:
    return any(get_origin(kind) is list for kind in (annotation, *get_args(annotation)))


def _declared(request: Request) -> set[str]:
    dependants = _dependants(request.scope["route"].dependant)
    return {parameter.alias for dependant in dependants for parameter in dependant.query_params}


def _dependants(dependant: Dependant) -> Iterator[Dependant]:
    """Yields a dependant and everything that it depends on."""
    yield dependant
    for inner in dependant.dependencies:
        yield from _dependants(inner)


# function scope: the commit comes before the answer leaves, so a 201 always means a committed sweep
DbSession = Annotated[Session, Depends(get_session, scope="function")]
ReadingSession = Annotated[Session, Depends(get_reading_session, scope="function")]
SweepId = Annotated[int, Path(ge=1, le=MAX_ID, description="The number of a sweep.")]
RowFilters = Annotated[Filters, Depends(read_filters)]
SelectedResults = Annotated[ResultSelection, Depends(read_selection)]
PageSize = Annotated[
    int, Query(ge=1, le=MAX_PAGE_SIZE, description="The largest number of rows of a page.")
]
PageToken = Annotated[
    str | None,
    Query(
        max_length=MAX_TOKEN_CHARACTERS,
        description="The `next_page_token` of the previous page; omit it for the first page.",
    ),
]
ActionName = Annotated[
    Action, Path(description="`retry` repeats what has failed; `cancel` is permanent.")
]


class _ActionConvertor(Convertor[str]):
    """Makes ``{action:action}`` in a path match actions only, so that it hides no other path."""

    regex = "|".join(Action)

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("action", _ActionConvertor())
JobId = Annotated[int, Path(ge=1, le=MAX_ID, description="The number of a job.")]
KeyPrefix = Annotated[str, Depends(read_key_prefix)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",  # what can be printed
        description="Any text of your own; repeating the request with it creates nothing twice. "
        "Keys of other API keys are not affected.",
    ),
]
