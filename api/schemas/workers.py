"""What goes out about workers and health."""

import datetime as dt
import uuid
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class WorkerOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    hostname: str
    pid: int
    device_class: str
    device: str
    code_version: str
    datasets: dict[str, list[str]] = Field(
        description="What it can read, and the content hashes of what it has loaded of it."
    )
    problem: str | None = Field(
        description="What keeps it from working for a sweep that runs, and what to do about it."
    )
    problem_at: dt.datetime | None = Field(description="When that was found out.")
    started_at: dt.datetime
    last_seen_at: dt.datetime
    sweep_id: int | None
    group_index: int | None
    jobs: int | None
    jobs_per_s: float | None = Field(
        description="Over the groups that it finished lately in sweeps that run; null without any."
    )


class Health(BaseModel):
    status: Literal["ok"] = "ok"
