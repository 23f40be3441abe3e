"""What has changed in a sweep since a watcher last looked, and a cursor for that moment.

Leaders are selected by rank, not by time: a result that commits late is above the floor, too, so
none is missed. Every observation reads an index and a few rows.
"""

import base64
import datetime as dt
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from services.monitoring.workers import SEEN_WITHIN_S
from services.sweeps.device_choice import choose_device
from services.sweeps.reading import SweepState, get_sweep
from shared.db.queries.live import changes as live_queries
from shared.db.queries.live.changes import BestRow
from shared.db.queries.monitoring import workers as worker_queries
from shared.db.queries.monitoring.workers import WorkerRow
from shared.domain.errors import InvalidInputError
from shared.domain.events import LEADERS, End, Event, Leader, Progress, Worker, WorkerChange
from shared.domain.ids import MAX_ID
from shared.domain.protocol import Fraction
from shared.domain.status import SweepStatus

CAUGHT_UP = 1000  # limit of the best networks that one observation reads
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
LATE_S = 300  # no transaction commits later than this after its results
OVER = frozenset({SweepStatus.COMPLETED, SweepStatus.CANCELLED})

Id = Annotated[int, Field(ge=1, le=MAX_ID)]
Micros = Annotated[int, Field(ge=0, le=2**53)]  # since 1970, by the database's clock
LeaderPlace = tuple[Fraction, Id]  # accuracy and job: the more accurate is better, then the older


class Cursor(BaseModel):
    """Which events a watcher of a sweep has received: enough to continue in any process.

    ``floor`` is the place that a network must reach to be reported, None before the first
    observation; ``known`` are the reported leaders from there on, each with the time it finished.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sweep_id: Id
    as_of: Micros | None = None
    floor: LeaderPlace | None = None
    known: Annotated[list[tuple[Id, Micros]], Field(max_length=LEADERS)] = []

    def encode(self) -> str:
        """Returns the cursor as one line of text that is valid in a header."""
        return base64.urlsafe_b64encode(self.model_dump_json().encode()).decode()

    @classmethod
    def decode(cls, written: str, sweep_id: int) -> "Cursor":
        """Returns the cursor that ``encode`` wrote for this sweep.

        Raises:
            InvalidInputError: the text is not a cursor, or is one of another sweep.
        """
        try:
            cursor = cls.model_validate_json(base64.b64decode(written, b"-_", validate=True))
        except ValueError as error:
            raise InvalidInputError(
                "Last-Event-ID is not one that this API sent; leave it out to start again.",
                field="Last-Event-ID",
            ) from error
        if cursor.sweep_id != sweep_id:
            raise InvalidInputError(
                f"Last-Event-ID belongs to sweep {cursor.sweep_id}; leave it out to start again.",
                field="Last-Event-ID",
            )
        return cursor


@dataclass(frozen=True, slots=True)
class Observation:
    """The state of a sweep at one moment, for every watcher whose cursor it ``serves``."""

    as_of: int
    since: int  # workers gone after this are included
    floor: float | None  # an accuracy; ranked jobs at or above it are included, too
    progress: Progress
    best: Sequence[BestRow]
    workers: Sequence[WorkerRow]

    @property
    def is_over(self) -> bool:
        return self.progress.status in OVER

    def serves(self, cursor: Cursor) -> bool:
        """Returns whether the observation goes back far enough for a watcher at ``cursor``."""
        if cursor.floor is not None and (self.floor is None or cursor.floor[0] < self.floor):
            return False
        return cursor.as_of is None or self.since <= cursor.as_of


def observe(session: Session, sweep_id: int, cursors: Sequence[Cursor] = ()) -> Observation:
    """Observes a sweep, far enough back for the watchers at all ``cursors``.

    Raises:
        SweepNotFoundError: there is no such sweep.
    """
    now = live_queries.select_now(session)
    # before the leaders: if the sweep is over by now, the query for leaders sees all results
    state = get_sweep(session, sweep_id)
    seen = [cursor.as_of for cursor in cursors if cursor.as_of is not None]
    since = min([_micros(now), *seen]) - LATE_S * 1_000_000
    floor = min((cursor.floor[0] for cursor in cursors if cursor.floor), default=None)
    choice = choose_device(session, sweep_id)
    return Observation(
        as_of=_micros(now),
        since=since,
        floor=floor,
        progress=_progress(state),
        best=live_queries.select_best(
            session,
            sweep_id,
            leaders=LEADERS,
            floor=floor,
            limit=CAUGHT_UP,
            device=choice.device,
            min_throughput=choice.min_throughput,
        ),
        workers=_with_problems(
            worker_queries.select_workers(
                session,
                seen_within_s=SEEN_WITHIN_S,
                gone_since=EPOCH + dt.timedelta(microseconds=since),
            ),
            state,
        ),
    )


def _with_problems(workers: Sequence[WorkerRow], state: SweepState) -> list[WorkerRow]:
    """Returns workers, each with what keeps it from all work or else from this sweep."""
    own = {row.worker_id: row.problem for row in reversed(state.problems)}
    return [replace(row, problem=row.problem or own.get(row.id)) for row in workers]


def _progress(state: SweepState) -> Progress:
    sweep = state.sweep
    return Progress(
        sweep_id=sweep.id,
        name=sweep.name,
        status=SweepStatus(sweep.status),
        total=sweep.total,
        finished=state.finished,
        counts=state.counts,
        **asdict(state.forecast),
    )


class Watcher:
    """Turns observations of a sweep into the events that are new to one watcher."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self._progress: Progress | None = None
        self._workers: dict[uuid.UUID, WorkerRow] | None = None

    def news(self, seen: Observation) -> Iterator[tuple[Event, Cursor | None]]:
        """Yields new events, each with the cursor of a watcher that has received all up to it.

        Changes of workers come first and without a cursor: repeating them does no harm. Then come
        new leaders in the order in which they finished, then the progress.
        """
        for worker in self._changed_workers(seen):
            yield worker, None
        for leader in self._new_leaders(seen):
            yield leader, self.cursor
        self.cursor = self._caught_up(seen)
        if seen.progress != self._progress:
            self._progress = seen.progress
            yield seen.progress, self.cursor
        if seen.is_over:
            yield End.model_validate(seen.progress), self.cursor

    def _changed_workers(self, seen: Observation) -> Iterator[Worker]:
        before, self._workers = self._workers, {}
        for row in seen.workers:
            if row.gone_at is None:
                self._workers[row.id] = row
                change = _change(before, row)
            else:
                change = "gone" if self._knew(before, row) else None
            if change is not None:
                yield Worker.model_validate(asdict(row) | {"change": change})

    def _knew(self, before: dict[uuid.UUID, WorkerRow] | None, row: WorkerRow) -> bool:
        """Returns whether a worker that is gone was present at this watcher's last observation."""
        if before is not None:
            return row.id in before
        if self.cursor.as_of is None or row.gone_at is None:
            return False
        return _micros(row.gone_at) > self.cursor.as_of - LATE_S * 1_000_000

    def _new_leaders(self, seen: Observation) -> Iterator[Leader]:
        self._go_on(seen, self.cursor.floor or _floor(seen.best), self.cursor.known)
        for row in sorted(seen.best, key=_finish):
            if not self._is_news(row):
                continue
            rank = 1 + sum(_better(other, row) for other in seen.best)
            if rank <= LEADERS:
                self._go_on(seen, self.cursor.floor, [*self.cursor.known, _identity(row)])
                yield _leader(row, seen.progress.sweep_id, rank)

    def _is_news(self, row: BestRow) -> bool:
        """Returns whether a network is to be reported; one that only moved up is not."""
        assert self.cursor.floor is not None
        accuracy, job_id = self.cursor.floor
        if _order(row.accuracy, row.id) < _order(accuracy, job_id):
            return False
        if _identity(row) in self.cursor.known:
            return False
        as_of = self.cursor.as_of
        return as_of is None or _micros(row.finished_at) > as_of - LATE_S * 1_000_000

    def _go_on(
        self, seen: Observation, floor: LeaderPlace | None, reported: Sequence[tuple[int, int]]
    ) -> None:
        """Moves the cursor: keeps the ten best reported leaders; ten of them raise the floor."""
        known = [row for row in seen.best if _identity(row) in reported][:LEADERS]
        self.cursor = self.cursor.model_copy(
            update={
                "floor": _floor(known) if len(known) == LEADERS else floor,
                "known": [_identity(row) for row in known],
            }
        )

    def _caught_up(self, seen: Observation) -> Cursor:
        standing = {_identity(row) for row in seen.best[:LEADERS]}
        return Cursor(
            sweep_id=self.cursor.sweep_id,
            as_of=seen.as_of,
            floor=_floor(seen.best),
            known=[leader for leader in self.cursor.known if leader in standing],
        )


def _change(before: dict[uuid.UUID, WorkerRow] | None, row: WorkerRow) -> WorkerChange | None:
    if before is None:
        return "present"
    known = before.get(row.id)
    if known is None:
        return "joined"
    if known.problem != row.problem:
        return "problem"
    same_group = (known.sweep_id, known.group_index) == (row.sweep_id, row.group_index)
    return None if same_group else "group"


def _leader(row: BestRow, sweep_id: int, rank: int) -> Leader:
    return Leader(
        sweep_id=sweep_id,
        rank=rank,
        job_id=row.id,
        architecture_hash=row.architecture_hash.hex(),
        layers=[layer._asdict() for layer in row.architecture.layers],
        accuracy=row.accuracy,
        throughput=row.throughput,
        device=row.device,
        trials_done=row.trials_done,
        finished_at=row.finished_at,
    )


def _floor(best: Sequence[BestRow]) -> LeaderPlace:
    """Returns the place of the last leader; below all places while there are fewer than ten."""
    if len(best) < LEADERS:
        return 0.0, MAX_ID
    return best[LEADERS - 1].accuracy, best[LEADERS - 1].id


def _better(other: BestRow, row: BestRow) -> bool:
    """Returns whether ``other`` ranked above ``row`` when ``row`` finished."""
    leads = _order(other.accuracy, other.id) > _order(row.accuracy, row.id)
    return leads and _finish(other) < _finish(row)


def _order(accuracy: float, job_id: int) -> tuple[float, int]:
    return accuracy, -job_id


def _finish(row: BestRow) -> tuple[dt.datetime, int]:
    return row.finished_at, row.id


def _identity(row: BestRow) -> tuple[int, int]:
    """Returns what distinguishes a result from others, also from earlier ones of its job."""
    return row.id, _micros(row.finished_at)


def _micros(time: dt.datetime) -> int:
    return (time - EPOCH) // dt.timedelta(microseconds=1)
