"""Answers about workers and health."""

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
        description="Names it can read, each with the content hashes that it has loaded."
    )
    problem: str | None = Field(
        description="Why it cannot serve a running sweep, and what to do about it."
    )
    problem_at: dt.datetime | None = Field(description="When the problem was recorded.")
    started_at: dt.datetime
    last_seen_at: dt.datetime
    sweep_id: int | None
    group_index: int | None
    jobs: int | None
    jobs_per_s: float | None = Field(
        description="Over groups completed recently in running sweeps; null without any."
    )


class Health(BaseModel):
    status: Literal["ok"] = "ok"
