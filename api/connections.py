"""Connections of clients: how many there may be, and how long one may keep the server waiting."""

import asyncio
import errno
import resource
import time
from enum import Enum
from typing import Any, NamedTuple

import h11
import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.middleware.security import HEADERS
from shared.settings import Settings

log = structlog.get_logger(__name__)

HEAD_S, BODY_S, STALLED_S = 10.0, 30.0, 120.0
SAMPLE_S = 10.0
MAX_BATCH = 512
NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n"


class Room(NamedTuple):
    """Most connections at once, and most that are accepted at a time."""

    connections: int
    batch: int


def find_room(settings: Settings) -> Room:
    """Returns the room for connections: half of the process's files are for everything else."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return Room(settings.api_clients, MAX_BATCH)
    connections = min(settings.api_clients, max(1, files // 2))
    return Room(connections, max(8, min(MAX_BATCH, (files - connections) // 3)))


class ConnectionConfig(uvicorn.Config):
    """uvicorn's configuration with the most connections at once."""

    def __init__(self, app: Any, *, room: Room, **options: Any) -> None:
        super().__init__(app, http=BoundedProtocol, backlog=room.batch, **options)
        self.max_connections = room.connections


class _Owed(Enum):
    """What a client has to send next."""

    HEAD = "head"
    BODY = "body"


class BoundedProtocol(H11Protocol):
    """HTTP as uvicorn speaks it, for clients that send and read in time.

    A head takes at most ``HEAD_S`` seconds, a body ``BODY_S``, and a client reads something of its
    answer within ``STALLED_S``. Beyond the most connections the one that has been without a request
    for longest makes room; where all have one, the new connection is closed.
    """

    _since = 0.0
    _owed: _Owed | None = None
    _timer: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        assert isinstance(self.config, ConnectionConfig)
        self._since = time.monotonic()
        has_room = len(self.connections) < self.config.max_connections or self._make_room()
        super().connection_made(transport)
        if has_room:
            self._watch()
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._since = time.monotonic()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()

    def send_400_response(self, msg: str) -> None:
        self.transport.write(_plain(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n", msg))
        self.transport.close()

    @property
    def is_idle(self) -> bool:
        """Whether the connection has no request that is complete or being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _make_room(self) -> bool:
        idle = [
            connection
            for connection in self.connections
            if isinstance(connection, BoundedProtocol)
            and connection.is_idle
            and not connection.transport.is_closing()
        ]
        if not idle:
            return False
        min(idle, key=lambda connection: connection._since).transport.abort()
        return True

    def _watch(self) -> None:
        """Starts the time for what the client owes now, unless it runs already."""
        owed = self._next_owed()
        if owed is self._owed:
            return
        self._owed = owed
        if self._timer is not None:
            self._timer.cancel()
        if owed is not None:
            limit_s = HEAD_S if owed is _Owed.HEAD else BODY_S
            self._timer = self.loop.call_later(limit_s, self._give_up)

    def _next_owed(self) -> _Owed | None:
        if self.transport.is_closing():
            return None
        if self.conn.their_state is h11.SEND_BODY:
            return _Owed.BODY
        waits = self.is_idle and self.timeout_keep_alive_task is None  # that has its own time
        return _Owed.HEAD if waits and self.conn.their_state is h11.IDLE else None

    def _give_up(self) -> None:
        if self._owed is _Owed.HEAD:
            self.transport.write(_TOO_LATE + b"\r\n")
            self.transport.close()
        else:
            self.transport.abort()

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._stalled):
            if timer is not None:
                timer.cancel()


def _plain(head: bytes, text: str) -> bytes:
    policy = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    kind = f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(text)}\r\n\r\n"
    return head + (policy + kind + text).encode()


class SampledErrors:
    """Reports that the process has no files left once in ten seconds; other errors as asyncio does.

    asyncio reports it for every connection that waits, thousands of times a second.
    """

    def __init__(self) -> None:
        self._next_at = 0.0
        self._unreported = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in NO_FILES:
            loop.default_exception_handler(context)
            return
        self._unreported += 1
        if time.monotonic() >= self._next_at:
            log.error("accept_failed", error=str(error), times=self._unreported)
            self._next_at, self._unreported = time.monotonic() + SAMPLE_S, 0
