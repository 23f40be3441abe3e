"""Watching a sweep in the terminal: its events over cuts, a bar, and leaders above it."""

import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
from cli.client import ApiError, ApiUnreachableError, Client
from shared.domain import events
from shared.domain.events import End, Event, Leader, Unavailable, Worker
from shared.domain.status import JobStatus, SweepStatus

AGAIN_S = 1.0
UNAVAILABLE = 503

Show = Callable[[Event], None]


def watch_sweep(connect: Callable[[], Client], sweep_id: int, show: Show) -> End:
    """Shows a sweep's events until it has ended, and returns how.

    An API that goes away in the meantime is waited for, and found again where it is then.
    """
    for event in follow(connect, sweep_id):
        show(event)
        if isinstance(event, End):
            return event
    raise AssertionError("a stream ends with its sweep")


def follow(connect: Callable[[], Client], sweep_id: int) -> Iterator[Event]:
    """Yields a sweep's events up to its end, each leader once, over any number of cuts.

    Raises:
        ApiUnreachableError: the API cannot be reached at the first try.
        ApiError: it refuses.
    """
    heard, last_event_id = False, ""
    while True:
        try:
            with connect() as client:
                for told in client.watch(sweep_id, last_event_id=last_event_id):
                    heard, last_event_id = True, told.id
                    yield told.event
                    if isinstance(told.event, End):
                        return
        except (ApiUnreachableError, ApiError) as error:
            away = isinstance(error, ApiUnreachableError) or error.status == UNAVAILABLE
            if not heard or not away:
                raise
            yield Unavailable(detail="the API is away; waiting for it")
            time.sleep(AGAIN_S)


def print_event(event: Event) -> None:
    """Prints an event as one line of JSON, for scripts."""
    line = {"event": events.NAMES[type(event)], **event.model_dump(mode="json")}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


@contextmanager
def live_display(sweep_id: int) -> Iterator[Show]:
    """Yields what shows events: a bar with leaders above it, or lines without a terminal."""
    if not output.console.is_terminal:
        yield _Lines().show
        return
    with _progress_bar() as bar:
        yield _Bar(bar, bar.add_task(f"sweep {sweep_id}", rate="", note="")).show


class _Display:
    """Keeps what the latest events said."""

    def __init__(self) -> None:
        self.progress: events.Progress | None = None
        self._away = ""
        self._workers: dict[uuid.UUID, Worker] = {}

    def show(self, event: Event) -> None:
        """Takes note of an event and shows what it changes."""
        self._away = event.detail if isinstance(event, Unavailable) else ""
        if isinstance(event, Leader):
            self.say(_leader_line(event))
        elif isinstance(event, events.Progress):
            self.progress = event
        elif isinstance(event, Worker) and event.change == "gone":
            self._workers.pop(event.id, None)
        elif isinstance(event, Worker):
            self._workers[event.id] = event
        if self.progress is not None:
            self.update(self.progress, self._note(self.progress))

    def say(self, line: str) -> None:
        """Shows a line that stays."""
        raise NotImplementedError

    def update(self, progress: events.Progress, note: str) -> None:
        """Shows where the sweep stands and what needs attention."""
        raise NotImplementedError

    def _note(self, progress: events.Progress) -> str:
        """Says what needs attention when nothing moves."""
        if (
            self._away
            or progress.status != SweepStatus.RUNNING
            or progress.counts[JobStatus.RUNNING]
        ):
            return self._away
        if not self._workers:
            return "no worker is alive; see the workers' logs"
        return "; ".join(sorted({one.problem for one in self._workers.values() if one.problem}))


class _Bar(_Display):
    """A progress bar that stays below the lines."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        super().__init__()
        self._bar, self._task = bar, task

    def say(self, line: str) -> None:
        self._bar.console.print(line, markup=False, highlight=False)

    def update(self, progress: events.Progress, note: str) -> None:
        self._bar.update(
            self._task, total=progress.total, completed=progress.finished,
            rate=_rate_text(progress), note=note,
        )  # fmt: skip


class _Lines(_Display):
    """A line per tenth of the way, and whenever something else is to be said."""

    def __init__(self) -> None:
        super().__init__()
        self._said: object = None

    def say(self, line: str) -> None:
        output.say(line)

    def update(self, progress: events.Progress, note: str) -> None:
        state = (progress.finished * 10 // progress.total, progress.status, note)
        if state == self._said:
            return
        self._said = state
        parts = [f"{progress.finished:,} of {progress.total:,}", _rate_text(progress), note]
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


def _rate_text(progress: events.Progress) -> str:
    return output.rate_text(progress.status, progress.jobs_per_s, progress.eta_s)


def _leader_line(leader: Leader) -> str:
    speed = None if leader.throughput is None else f"{leader.throughput:,.0f} images/s"
    layers = output.layers(leader.layers)
    parts = [f"rank {leader.rank}", f"{output.percent(leader.accuracy)} %", speed]
    return f"leader: {', '.join(filter(None, parts))}, job {leader.job_id}: {layers}"
