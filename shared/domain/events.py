"""What a stream of a sweep's events says: progress, new leaders, changes of workers, its end."""

import datetime as dt
import uuid
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.domain.status import JobStatus, SweepStatus

LEADERS = 10  # a network that ranks below is no news
WorkerChange = Literal["present", "joined", "gone", "problem", "group"]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class Progress(_Event):
    """Where a sweep stands. Only the latest one matters."""

    sweep_id: int
    name: str
    status: SweepStatus
    total: int
    finished: int
    counts: dict[JobStatus, int] = Field(description="Jobs by state; they add up to total.")
    jobs_per_s: float | None = Field(description="The present rate; null when nothing moves.")
    eta_s: float | None = Field(description="The likely time left; null without a rate.")
    eta_low_s: float | None = Field(
        description="Lower end of the range that nine of ten sweeps keep."
    )
    eta_high_s: float | None = Field(description="Upper end of that range.")
    waiting_for: str | None = Field(description="What a sweep that does not move waits for.")


class Leader(_Event):
    """A network that was among the ten most accurate when it finished."""

    sweep_id: int
    rank: int = Field(ge=1, le=LEADERS, description="Its place among all that had finished then.")
    job_id: int
    architecture_hash: str
    layers: list[dict[str, int | str]]
    accuracy: float = Field(description="Fraction; the mean over its trials.")
    throughput: float | None = Field(
        description="Images per second on its device; the median of the trials that were timed."
    )
    device: str = Field(description="Device model that measured its last trials.")
    trials_done: int
    finished_at: dt.datetime


class Worker(_Event):
    """A worker as it is now, and what is new about it.

    ``present``: it was there when the stream began; ``joined``: it has just started; ``gone``: it
    has stopped or has not been seen for two minutes; ``problem``: what keeps it from all work or
    from this sweep has changed; ``group``: it holds another group than before, or none.
    """

    change: WorkerChange
    id: uuid.UUID
    hostname: str
    pid: int
    device: str
    problem: str | None
    sweep_id: int | None
    group_index: int | None


class End(Progress):
    """The sweep has completed or was cancelled; nothing follows."""


class Unavailable(_Event):
    """The database is unavailable; the stream goes on by itself when it answers again."""

    detail: str


Event = Progress | Leader | Worker | End | Unavailable
EVENTS: dict[str, type[Progress | Leader | Worker | Unavailable]] = {
    "progress": Progress,
    "leader": Leader,
    "worker": Worker,
    "end": End,
    "unavailable": Unavailable,
}
NAMES = {kind: name for name, kind in EVENTS.items()}
