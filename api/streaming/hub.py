"""One poll per second of a watched sweep, shared by all of its watchers in this process."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from anyio import CapacityLimiter, to_thread
from sqlalchemy.orm import Session

from services.live.changes import Cursor, Observation, Watcher, observe
from shared.db.availability import DATABASE_UNAVAILABLE
from shared.domain.errors import UnavailableError
from shared.domain.events import Event, Unavailable

log = structlog.get_logger(__name__)

LOOK_S = 1.0
LOOKS_AT_ONCE = 2  # each holds a database connection, however many sweeps are watched
PATIENCE_S = 3.0  # a poll that takes longer is reported to the watchers
STALLED_S = 60.0  # a client that reads nothing for longer gets no old events
UNAVAILABLE = "The database is unavailable or busy; the stream goes on when it answers."


class Hub:
    """Knows who watches which sweep. All of it lives in one event loop."""

    def __init__(self, session_factory: Callable[[], Session], *, max_streams: int) -> None:
        self._session_factory = session_factory
        self._max_streams = max_streams
        self._streams = 0
        self._closed = False
        self._sweeps: dict[int, _WatchedSweep] = {}
        self._looks = CapacityLimiter(LOOKS_AT_ONCE)

    @asynccontextmanager
    async def watch(self, sweep_id: int, cursor: Cursor) -> "AsyncIterator[Stream]":
        """Yields a stream of what is new in a sweep after ``cursor``.

        Raises:
            SweepNotFoundError: there is no such sweep.
            UnavailableError: this process serves its maximum of streams, or it stops.
            sqlalchemy.exc.OperationalError: the database is unavailable.
        """
        if self._closed or self._streams >= self._max_streams:
            raise UnavailableError(
                "This API stops." if self._closed
                else f"This API serves {self._max_streams} streams already; ask for the sweep "
                "itself, or try again."
            )  # fmt: skip
        sweep = self._sweeps.setdefault(sweep_id, _WatchedSweep(sweep_id, self._look))
        stream = Stream(sweep, Watcher(cursor))
        self._streams += 1
        sweep.streams.add(stream)
        try:
            await sweep.look_for(stream)
            yield stream
        finally:
            self._streams -= 1
            sweep.streams.discard(stream)
            if not sweep.streams:
                self._sweeps.pop(sweep_id, None)
                sweep.stop()

    def close(self) -> None:
        """Ends every stream; their clients go on elsewhere with their last event's id."""
        self._closed = True
        for sweep in self._sweeps.values():
            sweep.stop()

    async def _look(self, sweep_id: int, cursors: list[Cursor]) -> Observation:
        def look() -> Observation:
            with self._session_factory() as session:
                return observe(session, sweep_id, cursors)

        return await to_thread.run_sync(look, limiter=self._looks, abandon_on_cancel=True)


class _WatchedSweep:
    """The latest look at a sweep, taken anew every second until it is stopped."""

    def __init__(
        self, sweep_id: int, look: Callable[[int, list[Cursor]], Awaitable[Observation]]
    ) -> None:
        self.streams: set[Stream] = set()
        self.seen: Observation | None = None
        self.unavailable = False
        self.stopped = False
        self.changed = asyncio.Event()
        self._sweep_id = sweep_id
        self._look = look
        self._turn = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None

    async def look_for(self, stream: "Stream") -> None:
        """Returns when a look serves ``stream``; streams that begin together share it."""
        async with self._turn:
            if self.unavailable or self.seen is None or not self.seen.serves(stream.watcher.cursor):
                await self._look_once()
        if self._looking is None and not self.stopped:
            self._looking = asyncio.create_task(self._look_on())

    def stop(self) -> None:
        """Stops the looks and every stream."""
        self.stopped = True
        self._tell()
        if self._looking is not None:
            self._looking.cancel()

    async def _look_on(self) -> None:
        try:
            while not self.stopped:
                await asyncio.sleep(LOOK_S)
                async with self._turn:
                    await self._try_to_look()
        finally:
            self.stop()  # whatever ended it: no watcher waits for polls that do not come

    async def _try_to_look(self) -> None:
        look = asyncio.ensure_future(self._look_once())
        try:
            await asyncio.wait({look}, timeout=PATIENCE_S)
            if not look.done():
                self._note_away("no answer")
            await look
        except DATABASE_UNAVAILABLE as error:
            self._note_away(str(error).splitlines()[0])
        finally:
            look.cancel()

    async def _look_once(self) -> None:
        now = time.monotonic()
        cursors = [
            stream.watcher.cursor for stream in self.streams if now - stream.took_at < STALLED_S
        ]
        self.seen = await self._look(self._sweep_id, cursors)
        self.unavailable = False
        self._tell()

    def _note_away(self, error: str) -> None:
        if not self.unavailable:
            log.warning("look_failed", sweep_id=self._sweep_id, error=error)
        self.unavailable = True
        self._tell()

    def _tell(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class Stream:
    """The events for one watcher, as fast as it reads them.

    Nothing is queued for a slow watcher: when it reads again, it gets all that is new since
    it last did, and the progress of that moment.
    """

    def __init__(self, sweep: _WatchedSweep, watcher: Watcher) -> None:
        self.watcher = watcher
        self.took_at = time.monotonic()
        self._sweep = sweep

    async def __aiter__(self) -> AsyncIterator[tuple[Event, Cursor | None]]:
        seen: Observation | None = None
        knows_away = False
        while not self._sweep.stopped:
            self.took_at = time.monotonic()
            changed, latest = self._sweep.changed, self._sweep.seen
            if self._sweep.unavailable:
                if not knows_away:
                    yield Unavailable(detail=UNAVAILABLE), None
                knows_away = True
            elif latest is not None and latest is not seen and latest.serves(self.watcher.cursor):
                seen, knows_away = latest, False
                for event, cursor in self.watcher.news(seen):
                    yield event, cursor
                if seen.is_over:
                    return
            await changed.wait()
