"""Watching a sweep in the terminal: its events over reconnections, a bar, leaders above it."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from cli import output
from convsweep import (
    ApiError,
    ApiUnreachableError,
    Client,
    EndEvent,
    Event,
    LeaderEvent,
    ProgressEvent,
    UnavailableEvent,
    WorkerEvent,
)
from convsweep.events import NAMES
from shared.domain.names import escape_unsafe
from shared.domain.status import JobStatus, SweepStatus

AGAIN_S = 1.0
UNAVAILABLE = 503

Show = Callable[[Event], None]


def watch_sweep(connect: Callable[[], Client], sweep_id: int, show: Show) -> EndEvent:
    """Shows a sweep's events until it ends, and returns the last event.

    Reconnects when the API goes away in the meantime, also at another address.

    Args:
        connect: returns a new client of the API at its current address.
    """
    for event in follow(connect, sweep_id):
        show(event)
        if isinstance(event, EndEvent):
            return event
    raise AssertionError("a stream ends with its sweep")


def follow(connect: Callable[[], Client], sweep_id: int) -> Iterator[Event]:
    """Yields a sweep's events until it ends, and each leader once however often it reconnects.

    Raises:
        ApiUnreachableError: the API cannot be reached at the first attempt.
        ApiError: the API refuses.
    """
    heard, last_event_id = False, ""
    while True:
        try:
            with connect() as client:
                for streamed in client.watch(sweep_id, last_event_id=last_event_id):
                    heard, last_event_id = True, streamed.id
                    yield streamed.event
                    if isinstance(streamed.event, EndEvent):
                        return
        except (ApiUnreachableError, ApiError) as error:
            unavailable = isinstance(error, ApiUnreachableError) or error.status == UNAVAILABLE
            if not heard or not unavailable:
                raise
            yield UnavailableEvent(detail="the API cannot be reached; waiting for it")
            time.sleep(AGAIN_S)


def print_event(event: Event) -> None:
    """Prints an event as one line of JSON, for scripts."""
    line = {"event": NAMES[type(event)], **asdict(event)}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


@contextmanager
def live_display(sweep_id: int) -> Iterator[Show]:
    """Yields a function that shows events: a bar with leaders above it, or lines in a file."""
    if not output.console.is_terminal:
        yield _Lines().show
        return
    with _progress_bar() as bar:
        yield _Bar(bar, bar.add_task(f"sweep {sweep_id}", rate="", note="")).show


class _Display:
    """Keeps the latest progress and the living workers."""

    def __init__(self) -> None:
        self.progress: ProgressEvent | None = None
        self._away = ""
        self._workers: dict[str, WorkerEvent] = {}

    def show(self, event: Event) -> None:
        """Records an event and shows the change."""
        self._away = event.detail if isinstance(event, UnavailableEvent) else ""
        if isinstance(event, LeaderEvent):
            self.say(_leader_line(event))
        elif isinstance(event, ProgressEvent):
            self.progress = event
        elif isinstance(event, WorkerEvent) and event.change == "gone":
            self._workers.pop(event.id, None)
        elif isinstance(event, WorkerEvent):
            self._workers[event.id] = event
        if self.progress is not None:
            self.update(self.progress, self._note(self.progress))

    def say(self, line: str) -> None:
        """Shows a permanent line."""
        raise NotImplementedError

    def update(self, progress: ProgressEvent, note: str) -> None:
        """Shows the sweep's progress, and the note that needs attention."""
        raise NotImplementedError

    def _note(self, progress: ProgressEvent) -> str:
        """Returns what keeps workers from the sweep while nothing moves, or an empty text."""
        if (
            self._away
            or progress.status != SweepStatus.RUNNING
            or progress.counts[JobStatus.RUNNING]
        ):
            return self._away
        return "; ".join(
            sorted({worker.problem for worker in self._workers.values() if worker.problem})
        )


class _Bar(_Display):
    """A progress bar below the permanent lines."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        super().__init__()
        self._bar, self._task = bar, task

    def say(self, line: str) -> None:
        self._bar.console.print(output.plain(line), highlight=False)

    def update(self, progress: ProgressEvent, note: str) -> None:
        self._bar.update(
            self._task, total=progress.total, completed=progress.finished,
            rate=output.rate_text(progress), note=escape_unsafe(note),
        )  # fmt: skip


class _Lines(_Display):
    """Prints a line per tenth of the jobs, and whenever it stops, goes on or changes state."""

    def __init__(self) -> None:
        super().__init__()
        self._said: object = None

    def say(self, line: str) -> None:
        output.say(line)

    def update(self, progress: ProgressEvent, note: str) -> None:
        waits = progress.waiting_for is not None
        state = (progress.finished * 10 // progress.total, progress.status, note, waits)
        if state == self._said:
            return
        self._said = state
        finished = f"{progress.finished:,} of {progress.total:,}"
        parts = [finished, output.rate_text(progress), note]
        output.say(f"sweep {progress.sweep_id}: " + ", ".join(filter(None, parts)))


def _progress_bar() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="yellow", markup=False),
        console=output.console,
        refresh_per_second=4,
    )


def _leader_line(leader: LeaderEvent) -> str:
    speed = None if leader.throughput is None else f"{leader.throughput:,.0f} images/s"
    layers = output.layers(leader.layers)
    parts = [f"rank {leader.rank}", f"{output.percent(leader.accuracy)} %", speed]
    return f"leader: {', '.join(filter(None, parts))}, job {leader.job_id}: {layers}"
