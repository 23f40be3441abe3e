"""Many watchers, slow ones, and a database that stands still: one look a second serves them all."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

from api.streaming import hub as hub_module
from api.streaming.hub import Hub, Stream
from services.live.changes import Cursor
from shared.db.session import make_engine, make_session_factory
from shared.domain.errors import SweepNotFoundError, UnavailableError
from shared.domain.events import End, Event, Leader, Progress, Unavailable
from shared.settings import Settings
from tests.integration.scenario import (
    GROUP_SIZE,
    add_sweep,
    claimed,
    complete,
    success,
    trial,
)


@pytest.fixture
def engine(migrated: Settings) -> Iterator[Engine]:
    """The connections of an API of its own."""
    opened = make_engine(migrated, pool_size=20)
    yield opened
    opened.dispose()


@asynccontextmanager
async def opened_hub(engine: Engine, max_streams: int = 1000) -> AsyncIterator[Hub]:
    hub = Hub(make_session_factory(engine), max_streams=max_streams)
    try:
        yield hub
    finally:
        hub.close()


class Listener:
    """Collects the events of a stream; ``heard`` waits until they satisfy a condition."""

    def __init__(self, stream: Stream, pause_s: float = 0.0) -> None:
        self.events: list[Event] = []
        self._more = asyncio.Condition()
        self._done = asyncio.ensure_future(self._listen(stream, pause_s))

    async def _listen(self, stream: Stream, pause_s: float) -> None:
        async for news, _ in stream:
            async with self._more:
                self.events.append(news)
                self._more.notify_all()
            if isinstance(news, Progress):
                await asyncio.sleep(pause_s)

    async def heard(self, condition: Callable[[list[Event]], bool]) -> None:
        async with asyncio.timeout(60), self._more:
            await self._more.wait_for(lambda: condition(self.events))

    async def all_events(self) -> list[Event]:
        """Returns every event once the stream has ended."""
        await self._done
        return self.events


async def in_thread(step: Callable[..., Any], *arguments: Any) -> None:
    await asyncio.get_running_loop().run_in_executor(None, step, *arguments)


def finish_group(session: Session, sweep_id: int, group: int) -> None:
    """Completes a group with networks that are better than all before."""
    held = claimed(session, sweep_id, group)
    best = 0.01 * group
    complete(
        session, held,
        [success([trial(n, best + 0.001 * i) for n in job.trials])
         for i, job in enumerate(held.jobs)],
    )  # fmt: skip


def jobs(events: list[Event]) -> list[int]:
    return [event.job_id for event in events if isinstance(event, Leader)]


def test_many_watchers_cost_one_look_a_second_and_hold_no_connection(
    session: Session, engine: Engine
) -> None:
    sweep_id = add_sweep(session, groups=4)
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *seen: statements.append(seen[2]))

    async def watch() -> list[list[Event]]:
        async with opened_hub(engine) as hub, AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(hub.watch(sweep_id, Cursor(sweep_id=sweep_id)))
                for _ in range(100)
            ]
            listeners = [Listener(stream) for stream in streams]
            for group in range(4):
                await in_thread(finish_group, session, sweep_id, group)
                leaders = (group + 1) * GROUP_SIZE
                await listeners[-1].heard(lambda events, n=leaders: len(jobs(events)) == n)  # type: ignore[misc]
            heard = [await listener.all_events() for listener in listeners]
            assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
            return heard

    started = time.monotonic()
    heard = asyncio.run(watch())
    looks = sum("ORDER BY accuracy DESC" in one for one in statements)
    assert looks <= 3 + time.monotonic() - started
    assert all(jobs(one) == jobs(heard[0]) for one in heard)
    assert len(jobs(heard[0])) == 4 * GROUP_SIZE
    assert all(isinstance(one[-1], End) for one in heard)


def test_a_slow_watcher_misses_progress_and_no_leader(
    session: Session, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "LOOK_S", 0.02)
    groups = 20
    sweep_id = add_sweep(session, groups=groups)

    async def watch_both() -> list[list[Event]]:
        async with opened_hub(engine) as hub, AsyncExitStack() as stack:
            listeners = [
                Listener(
                    await stack.enter_async_context(hub.watch(sweep_id, Cursor(sweep_id=sweep_id))),
                    pause_s,
                )
                for pause_s in (0.0, 1.5)
            ]
            for group in range(groups):
                await in_thread(finish_group, session, sweep_id, group)
                leaders = (group + 1) * GROUP_SIZE
                await listeners[0].heard(lambda events, n=leaders: len(jobs(events)) == n)  # type: ignore[misc]
            return [await listener.all_events() for listener in listeners]

    fast, slow = asyncio.run(watch_both())
    assert jobs(slow) == jobs(fast)
    assert len(jobs(slow)) == groups * GROUP_SIZE
    progress = [sum(isinstance(event, Progress) for event in events) for events in (fast, slow)]
    assert progress[1] < progress[0]
    assert isinstance(slow[-1], End)


def test_a_database_that_stands_still_is_reported_and_the_stream_goes_on(
    session: Session, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "PATIENCE_S", 0.3)
    sweep_id = add_sweep(session, groups=1)

    async def watch() -> list[Event]:
        cursor = Cursor(sweep_id=sweep_id)
        async with opened_hub(engine) as hub, hub.watch(sweep_id, cursor) as stream:
            listener = Listener(stream)
            await listener.heard(
                lambda events: isinstance(events[-1], Progress) if events else False
            )
            await in_thread(session.execute, text("LOCK TABLE jobs"))
            await listener.heard(lambda events: isinstance(events[-1], Unavailable))
            await asyncio.sleep(3 * hub_module.PATIENCE_S)  # time for it to be reported again
            await in_thread(session.commit)
            await in_thread(finish_group, session, sweep_id, 0)
            return await listener.all_events()

    heard = asyncio.run(watch())
    assert sum(isinstance(one, Unavailable) for one in heard) == 1
    assert len(jobs(heard)) == GROUP_SIZE
    assert isinstance(heard[-1], End)


def test_closing_ends_every_stream_and_refuses_new_ones(session: Session, engine: Engine) -> None:
    sweep_id = add_sweep(session)

    async def watch() -> None:
        async with opened_hub(engine) as hub:
            async with hub.watch(sweep_id, Cursor(sweep_id=sweep_id)) as stream:
                listener = Listener(stream)
                await listener.heard(bool)
                hub.close()
                events = await listener.all_events()
                assert not any(isinstance(event, End) for event in events)
            with pytest.raises(UnavailableError, match="stops"):
                async with hub.watch(sweep_id, Cursor(sweep_id=sweep_id)):
                    pass

    asyncio.run(watch())


def test_without_watchers_there_are_no_polls(session: Session, engine: Engine) -> None:
    sweep_id = add_sweep(session)
    statements: list[str] = []

    async def watch() -> None:
        async with opened_hub(engine) as hub:
            async with hub.watch(sweep_id, Cursor(sweep_id=sweep_id)):
                pass
            with pytest.raises(SweepNotFoundError):
                async with hub.watch(404, Cursor(sweep_id=404)):
                    pass
            event.listen(engine, "before_cursor_execute", lambda *seen: statements.append(seen[2]))
            await asyncio.sleep(1.5)

    asyncio.run(watch())
    assert statements == []
