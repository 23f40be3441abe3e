"""What goes out about jobs, their trials and attempts.

Accuracies are fractions, throughput is images per second.
"""

import datetime as dt
import uuid
from operator import attrgetter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Row

from api.schemas.paging import NEXT_PAGE
from services.leaderboard.leaders import JobDetail
from shared.db.models import Environment, Job, Trial
from shared.domain.architecture import Architecture
from shared.domain.measurements import Reason
from shared.domain.protocol import Protocol
from shared.domain.status import JobStatus


class JobOut(BaseModel):
    id: int
    sweep_id: int
    architecture_hash: str
    layers: list[dict[str, int | str]]
    ratio: float | None
    parameters: int | None = Field(description="Of the convolutions, without a classifier head.")
    flops: int | None = Field(description="Per image; a multiply and an add count as two.")
    status: JobStatus
    reason: Reason | None
    error: str | None
    attempt: int
    trials_done: int
    trials_target: int
    accuracy: float | None
    accuracy_sd: float | None
    accuracy_min: float | None
    accuracy_max: float | None
    train_accuracy: float | None
    throughput: float | None
    throughput_min: float | None
    throughput_max: float | None
    throughput_measured: bool | None
    fit_seconds: float | None
    finished_at: dt.datetime | None

    @classmethod
    def of(cls, job: Job) -> "JobOut":
        return cls.model_validate(job_fields(job))


_OWN_FIELDS = ("architecture_hash", "layers", "fit_seconds")  # named or kept otherwise by a job
_SAME_FIELDS = tuple(name for name in JobOut.model_fields if name not in _OWN_FIELDS)
_same_values = attrgetter(*_SAME_FIELDS)


def job_fields(job: Job | Row[Any]) -> dict[str, Any]:
    """Returns what ``JobOut`` describes."""
    fields = dict(zip(_SAME_FIELDS, _same_values(job), strict=True))
    fields["architecture_hash"] = job.architecture_hash.hex()
    fields["layers"] = [layer._asdict() for layer in _architecture(job).layers]
    fields["fit_seconds"] = job.fit_s
    return fields


def _architecture(job: Job | Row[Any]) -> Architecture:
    return Architecture.of_columns(
        job.channels, job.kernel_size, job.stride, job.dilation, job.padding, job.activation
    )


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


class TrialOut(BaseModel):
    trial: int
    accuracy: float
    train_accuracy: float
    fit_seconds: float
    images_per_s: float | None
    images_per_s_spread: float | None
    timing_runs: int | None
    throughput_source: str | None
    weights_seed: int
    correct_bits: str = Field(description="Hexadecimal; one bit per validation image, in order.")
    attempt: int
    finished_at: dt.datetime
    environment: EnvironmentOut

    @classmethod
    def of(cls, trial: Trial, environment: Environment) -> "TrialOut":
        same = {name: getattr(trial, name, None) for name in cls.model_fields}
        own = {"correct_bits": trial.correct_bits.hex(), "fit_seconds": trial.fit_s}
        return cls.model_validate(same | own | {"environment": environment}, from_attributes=True)


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
    attempts: list[AttemptOut] = Field(description="Every hand-out to a worker, in order.")
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
