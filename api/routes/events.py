"""What happens in a sweep, told as it happens: server-sent events."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.deps import SweepId
from api.streaming.hub import Hub, Stream
from services.live.changes import Cursor
from shared.domain.events import NAMES

router = APIRouter(prefix="/v1/sweeps", tags=["events"])

RETRY_MS = 2000

LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        min_length=1,
        max_length=2000,
        description="The id of the last event that came, to go on from there on any API.",
    ),
]


async def watch(
    request: Request, sweep_id: SweepId, last_event_id: LastEventId = None
) -> AsyncIterator[Stream]:
    """Yields the stream of a sweep's events for one who was told up to ``Last-Event-ID``.

    Raises:
        InvalidInputError: the id is none that this API gave for this sweep.
        SweepNotFoundError: there is no such sweep.
        UnavailableError: there are too many streams.
    """
    hub: Hub = request.app.state.hub
    told = Cursor.decode(last_event_id, sweep_id) if last_event_id else Cursor(sweep_id=sweep_id)
    async with hub.watch(sweep_id, told) as stream:
        yield stream


@router.get("/{sweep_id}/events", response_class=EventSourceResponse)
async def stream_events(
    stream: Annotated[Stream, Depends(watch)],
) -> AsyncIterator[ServerSentEvent]:
    """Streams a sweep's progress, new leaders and changes of workers until it ends.

    A stream begins with the workers that are there, the leaders that stand, and the progress. Ask
    with the last event's id in `Last-Event-ID` to go on after a cut: no leader is told twice and
    none is left out. After `end` the stream closes, and there is nothing to come back for.
    """
    yield ServerSentEvent(retry=RETRY_MS)
    async for event, cursor in stream:
        yield ServerSentEvent(
            event=NAMES[type(event)], data=event, id=None if cursor is None else cursor.encode()
        )
