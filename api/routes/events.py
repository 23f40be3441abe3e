"""A sweep's events as they happen: server-sent events."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.computing.places import Places
from api.deps import SweepId
from api.openapi.document import raises
from api.streaming.hub import Hub, Stream
from services.live.changes import Cursor
from shared.domain.errors import BusyError
from shared.domain.events import NAMES

router = APIRouter(prefix="/v1/sweeps", tags=["events"])

RETRY_MS = 2000

LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        min_length=1,
        max_length=2000,
        description="The id of the last event received, to continue from there on any API process.",
    ),
]


async def watch(
    request: Request, sweep_id: SweepId, last_event_id: LastEventId = None
) -> AsyncIterator[Stream]:
    """Yields the stream of a sweep's events after ``Last-Event-ID``.

    Raises:
        InvalidInputError: the id is not one that this API sent for this sweep.
        SweepNotFoundError: there is no such sweep.
        BusyError: this client has too many streams.
        UnavailableError: there are too many streams.
    """
    hub: Hub = request.app.state.hub
    streams: Places = request.app.state.streams
    cursor = Cursor(sweep_id=sweep_id)
    if last_event_id:
        cursor = Cursor.decode(last_event_id, sweep_id)
    with streams.take(request.scope["convsweep.client"]):
        async with hub.watch(sweep_id, cursor) as stream:
            yield stream


@router.get("/{sweep_id}/events", response_class=EventSourceResponse, responses=raises(BusyError))
async def stream_events(
    stream: Annotated[Stream, Depends(watch)],
) -> AsyncIterator[ServerSentEvent]:
    """Streams a sweep's progress, new leaders and changes of workers until it ends.

    A stream begins with the present workers, the current leaders and the progress. After a lost
    connection, send the last event's id in `Last-Event-ID` to continue: no leader is repeated and
    none is left out. After `end` the stream closes.
    """
    yield ServerSentEvent(retry=RETRY_MS)
    async for event, cursor in stream:
        yield ServerSentEvent(
            event=NAMES[type(event)], data=event, id=None if cursor is None else cursor.encode()
        )
