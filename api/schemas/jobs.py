"""What goes out about jobs, their trials and attempts.

Accuracies are fractions, throughput is images per second.
"""

import datetime as dt
import uuid
from operator import attrgetter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.columns import JOB_COLUMNS, STORED_TRIAL_COLUMNS, make_columns_model
from api.schemas.paging import NEXT_PAGE
from services.leaderboard.leaders import JobDetail
from shared.db.models import Environment, Job, Trial
from shared.db.queries.leaderboard.leaders import LeaderRow
from shared.domain.protocol import Protocol


class JobOut(make_columns_model("JobColumns", JOB_COLUMNS), BaseModel):  # type: ignore[misc]
    """A job: the columns that the table of jobs holds, and the network's layers."""

    layers: list[dict[str, int | str]]

    @classmethod
    def of(cls, job: Job) -> "JobOut":
        return cls.model_validate(job_fields(job))


_NAMES = [column.name for column in JOB_COLUMNS]
_values = attrgetter(*(column.stored_name for column in JOB_COLUMNS))


def job_fields(job: Job | LeaderRow) -> dict[str, Any]:
    """Returns what ``JobOut`` describes."""
    fields = dict(zip(_NAMES, _values(job), strict=True))
    fields["architecture_hash"] = job.architecture_hash.hex()
    fields["layers"] = [layer._asdict() for layer in job.architecture.layers]
    return fields


class JobPageOut(BaseModel):
    jobs: list[JobOut]
    next_page_token: str | None = NEXT_PAGE


class EnvironmentOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    code_version: str
    device_class: str
    device: str
    dataset: str
    dataset_hash: str
    versions: dict[str, str]


class TrialOut(make_columns_model("TrialColumns", STORED_TRIAL_COLUMNS), BaseModel):  # type: ignore[misc]
    """A trial: the columns that the table of trials holds, and where it was measured."""

    environment: EnvironmentOut

    @classmethod
    def of(cls, trial: Trial, environment: Environment) -> "TrialOut":
        fields = {c.name: getattr(trial, c.stored_name) for c in STORED_TRIAL_COLUMNS}
        fields |= {"correct_bits": trial.correct_bits.hex(), "environment": environment}
        return cls.model_validate(fields, from_attributes=True)


class AttemptOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    attempt: int
    outcome: (
        Literal["completed", "invalid", "rejected", "failed", "released", "expired", "cancelled"]
        | None
    ) = Field(description="How it ended; null while it runs.")
    error: str | None
    worker_id: uuid.UUID
    hostname: str | None
    pid: int | None
    lease_token: uuid.UUID
    started_at: dt.datetime
    ended_at: dt.datetime | None


class LayerShapeOut(BaseModel):
    shape: tuple[int, int, int] = Field(description="(C, H, W) after the layer.")
    parameters: int
    flops: int = Field(description="Per image; a multiply and an add count as two.")


class JobDetailOut(JobOut):
    shapes: list[LayerShapeOut] = Field(
        description="By layer, ending before the first that does not fit its input."
    )
    trials: list[TrialOut]
    attempts: list[AttemptOut] = Field(description="Every attempt of a worker, in order.")
    protocol: Protocol

    @classmethod
    def detailed(cls, detail: JobDetail, protocol: dict[str, Any]) -> "JobDetailOut":
        shape = Protocol.model_validate(protocol).input_shape
        parts = {
            "shapes": [cost._asdict() for cost in detail.job.architecture.layer_costs(shape)],
            "trials": [TrialOut.of(trial, environment) for trial, environment in detail.trials],
            "attempts": [AttemptOut.model_validate(row) for row in detail.attempts],
            "protocol": protocol,
        }
        return cls.model_validate(job_fields(detail.job) | parts)
