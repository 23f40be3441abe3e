"""Answers about workers and health."""

import datetime as dt
import uuid
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class WorkerProblemOut(BaseModel):
    """Why a worker cannot serve a sweep, and what to do about it."""

    model_config = ConfigDict(from_attributes=True)

    sweep_id: int
    training_id: int | None = Field(
        description="The first training that it concerns; null for the sweep's networks."
    )
    problem: str
    since: dt.datetime


class SweepProblemOut(WorkerProblemOut):
    """A problem with the worker that has it."""

    worker_id: uuid.UUID
    hostname: str


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
        description="Why it can do no work at all, and what to do about it."
    )
    problem_at: dt.datetime | None = Field(description="When `problem` was recorded.")
    problems: list[WorkerProblemOut] = Field(description="Sweeps that it cannot serve, and why.")
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
