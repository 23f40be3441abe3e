"""What goes out about jobs, their trials and attempts.

Accuracies are fractions, throughput is images per second.
"""

import datetime as dt
import uuid
from operator import attrgetter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.columns import (
    JOB_COLUMNS,
    STORED_TRIAL_COLUMNS,
    THROUGHPUT_COLUMNS,
    TIMING_COLUMNS,
    make_columns_model,
)
from api.schemas.paging import NEXT_PAGE
from services.leaderboard.leaders import JobDetail
from shared.db.models import Job
from shared.db.queries.leaderboard.leaders import LeaderRow
from shared.db.queries.sweeps.jobs import TrialRow
from shared.db.timing_models import JobThroughput
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


class ThroughputOut(make_columns_model("ThroughputColumns", THROUGHPUT_COLUMNS), BaseModel):  # type: ignore[misc]
    """The throughput of a job on one device model."""

    @classmethod
    def of(cls, throughput: JobThroughput) -> "ThroughputOut":
        fields = {c.name: getattr(throughput, c.stored_name) for c in THROUGHPUT_COLUMNS}
        return cls.model_validate(fields)


_TRIAL_COLUMNS = (*STORED_TRIAL_COLUMNS, *TIMING_COLUMNS)


class TrialOut(make_columns_model("TrialColumns", _TRIAL_COLUMNS), BaseModel):  # type: ignore[misc]
    """A trial, where it was measured, and the timing that was made with it."""

    environment: EnvironmentOut

    @classmethod
    def of(cls, row: TrialRow) -> "TrialOut":
        fields = {c.name: getattr(row.trial, c.stored_name) for c in STORED_TRIAL_COLUMNS}
        fields |= {c.name: getattr(row.timing, c.stored_name, None) for c in TIMING_COLUMNS}
        fields |= {"correct_bits": row.trial.correct_bits.hex(), "environment": row.environment}
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
    throughputs: list[ThroughputOut] = Field(description="One per device model that timed it.")
    trials: list[TrialOut]
    attempts: list[AttemptOut] = Field(description="Every attempt of a worker, in order.")
    protocol: Protocol

    @classmethod
    def detailed(cls, detail: JobDetail, protocol: dict[str, Any]) -> "JobDetailOut":
        shape = Protocol.model_validate(protocol).input_shape
        parts = {
            "shapes": [cost._asdict() for cost in detail.job.architecture.layer_costs(shape)],
            "throughputs": list(map(ThroughputOut.of, detail.throughputs)),
            "trials": list(map(TrialOut.of, detail.trials)),
            "attempts": [AttemptOut.model_validate(row) for row in detail.attempts],
            "protocol": protocol,
        }
        return cls.model_validate(job_fields(detail.job) | parts)
