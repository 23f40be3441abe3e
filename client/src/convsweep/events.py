"""The events of a sweep's stream, as ``Client.watch`` yields them."""

import json
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

from convsweep.answers import Layer


@dataclass(frozen=True)
class ProgressEvent:
    """The sweep's state and counts; only the latest one matters.

    ``counts`` has the number of jobs in each state, which add up to ``total``. ``jobs_per_s`` is
    the recent rate, ``eta_s`` the likely time left in seconds, within a range from ``eta_low_s``
    to ``eta_high_s``; all are None while nothing moves, and ``waiting_for`` says what is missing.
    """

    sweep_id: int
    name: str
    status: str
    total: int
    finished: int
    counts: dict[str, int]
    jobs_per_s: float | None
    eta_s: float | None
    eta_low_s: float | None
    eta_high_s: float | None
    waiting_for: str | None


@dataclass(frozen=True)
class EndEvent(ProgressEvent):
    """The sweep has completed or was cancelled; the last event of a stream."""


@dataclass(frozen=True)
class LeaderEvent:
    """A network that was among the ten most accurate when it finished.

    ``accuracy`` (a fraction) is the mean over ``trials_done`` trials, ``throughput`` (images per
    second on its ``device``) the median of those that were timed.
    """

    sweep_id: int
    rank: int
    job_id: int
    architecture_hash: str
    layers: list[Layer]
    accuracy: float
    throughput: float | None
    device: str
    trials_done: int
    finished_at: str


@dataclass(frozen=True)
class WorkerEvent:
    """The current state of a worker, and what changed.

    ``change`` is ``present`` (the worker was there when the stream began), ``joined``, ``gone``,
    ``problem`` (the reason that it cannot work has changed) or ``group`` (it works on another group
    of networks, or on none).
    """

    change: Literal["present", "joined", "gone", "problem", "group"]
    id: str
    hostname: str
    pid: int
    device: str
    problem: str | None
    sweep_id: int | None
    group_index: int | None


@dataclass(frozen=True)
class UnavailableEvent:
    """The API cannot read its database now; the stream continues when it can again."""

    detail: str


Event = ProgressEvent | LeaderEvent | WorkerEvent | EndEvent | UnavailableEvent
EVENTS: dict[str, type[ProgressEvent | LeaderEvent | WorkerEvent | UnavailableEvent]] = {
    "progress": ProgressEvent,
    "leader": LeaderEvent,
    "worker": WorkerEvent,
    "end": EndEvent,
    "unavailable": UnavailableEvent,
}
NAMES = {kind: name for name, kind in EVENTS.items()}


class StreamedEvent(NamedTuple):
    """An event, and the id with which a later ``Client.watch`` continues after it."""

    event: Event
    id: str


def parse_event(name: str, data: str) -> Event | None:
    """Returns the event in a message, or None for a kind that a newer API has added."""
    if name not in EVENTS:
        return None
    kind = EVENTS[name]
    values = json.loads(data)
    return kind(**{field.name: values[field.name] for field in fields(kind)})
