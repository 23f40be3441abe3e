"""What goes in and out over HTTP. Accuracies are fractions, throughput is images per second."""

import datetime as dt
import uuid
from operator import attrgetter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import Row

from services.analysis.statistics.intervals import trial_interval
from services.leaderboard.leaders import JobDetail, LeaderPage
from services.leasing.group_leases import architecture_of
from services.sweeps.sweeps import Preview, SweepState
from shared.db.models import Environment, Job, Trial
from shared.domain.measurements import Reason
from shared.domain.protocol import MAX_TRIALS, PROTOCOL_PRESETS, Protocol
from shared.domain.space import MAX_ARCHITECTURES, SPACE_PRESETS, SearchSpace
from shared.domain.status import JobStatus, SweepStatus


def _known_preset(name: str) -> str:
    if name not in SPACE_PRESETS:
        raise ValueError(f"there is no {name!r}; known are {', '.join(SPACE_PRESETS)}")
    return name


Preset = Annotated[
    str, AfterValidator(_known_preset), Field(json_schema_extra={"enum": list(SPACE_PRESETS)})
]
SweepName = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")  # one line of text
]

NEXT_PAGE = Field(description="Ask with page_token=this for the next page; null on the last.")


class SweepIn(BaseModel):
    """A sweep to preview or create: a preset, or a space and a protocol, or a preset with changes.

    ``protocol`` beside a preset may name single fields; the rest stays as in the preset.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"preset": "quick"},
                {"preset": "random-cnn-2025", "protocol": {"dataset": "cifar10", "trials": 1}},
            ]
        },
    )

    name: SweepName | None = None
    preset: Preset | None = None
    space: SearchSpace | None = None
    protocol: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _complete(self) -> "SweepIn":
        if self.preset is None and (self.space is None or self.protocol is None):
            raise ValueError("preset: name one, or give both space and protocol")
        return self

    def resolved_space(self) -> SearchSpace:
        """Returns the space that is asked for."""
        return self.space or SPACE_PRESETS[self.preset or "quick"]()

    def resolved_protocol(self) -> Protocol:
        """Returns the protocol that is asked for.

        Raises:
            pydantic.ValidationError: a field of it does not fit.
        """
        changes = self.protocol or {}
        if self.preset is None:
            return Protocol.model_validate(changes)
        preset = PROTOCOL_PRESETS[self.preset]().model_dump(mode="json")
        return Protocol.model_validate(_merged(preset, changes))


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in changes.items():
        inner = merged.get(name)
        both = isinstance(inner, dict) and isinstance(value, dict)
        merged[name] = _merged(inner, value) if both else value  # type: ignore[arg-type]
    return merged


class PresetSweep(BaseModel):
    space: SearchSpace
    protocol: Protocol


class PresetOut(BaseModel):
    about: str = Field(description="What it is for, in a sentence.")
    sweep: PresetSweep = Field(description="A body for `POST /v1/sweeps`, to be changed at will.")

    @classmethod
    def named(cls, name: str) -> "PresetOut":
        space, protocol = SPACE_PRESETS[name](), PROTOCOL_PRESETS[name]()
        about = f"{len(space):,} architectures on {protocol.dataset}, {protocol.trials} trials each"
        return cls(about=about, sweep=PresetSweep(space=space, protocol=protocol))


class ExtensionIn(BaseModel):
    """More trials for a sweep: in all, not in addition."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"trials": 10, "top": 50}, {"trials": 4}]}
    )

    trials: Annotated[
        int, Field(strict=True, ge=1, le=MAX_TRIALS, description="Trials per job, in all.")
    ]
    top: Annotated[int, Field(strict=True, ge=1, le=MAX_ARCHITECTURES)] | None = Field(
        default=None, description="Only the most accurate so many; all when left out."
    )


class PreviewOut(BaseModel):
    total: int
    valid: int
    invalid: dict[Reason, int]
    groups: int
    flops: int = Field(description="One image through every valid network.")
    flops_per_trial: int = Field(description="All images of the protocol through each of them.")

    @classmethod
    def of(cls, preview: Preview) -> "PreviewOut":
        return cls.model_validate(preview, from_attributes=True)


class SweepOut(BaseModel):
    id: int
    name: str
    status: SweepStatus
    total: int
    counts: dict[JobStatus, int] = Field(description="Jobs by state; they add up to total.")
    finished: int
    jobs_per_s: float | None = Field(description="Over the latest leases; null when unknown.")
    eta_s: float | None
    created_at: dt.datetime
    completed_at: dt.datetime | None
    dataset_hash: str | None = Field(
        description="Content of the images that every trial uses; null before the first result."
    )
    space: SearchSpace
    protocol: Protocol

    @classmethod
    def of(cls, state: SweepState) -> "SweepOut":
        counts, sweep = state.counts, state.sweep
        return cls(
            id=sweep.id,
            name=sweep.name,
            status=SweepStatus(sweep.status),
            total=sweep.total,
            counts=counts,
            finished=sweep.total - counts[JobStatus.PENDING] - counts[JobStatus.RUNNING],
            jobs_per_s=state.jobs_per_s,
            eta_s=state.eta_s,
            created_at=sweep.created_at,
            completed_at=sweep.completed_at,
            dataset_hash=sweep.dataset_hash,
            space=SearchSpace.model_validate(sweep.space),
            protocol=Protocol.model_validate(sweep.protocol),
        )


class SweepPage(BaseModel):
    sweeps: list[SweepOut]
    next_page_token: str | None = NEXT_PAGE


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
        return cls.model_validate(_job_fields(job))


_OWN_FIELDS = ("architecture_hash", "layers", "fit_seconds")  # named or kept otherwise by a job
_SAME_FIELDS = tuple(name for name in JobOut.model_fields if name not in _OWN_FIELDS)
_same_values = attrgetter(*_SAME_FIELDS)


def _job_fields(job: Job | Row[Any]) -> dict[str, Any]:
    fields = dict(zip(_SAME_FIELDS, _same_values(job), strict=True))
    fields["architecture_hash"] = job.architecture_hash.hex()
    fields["layers"] = [layer._asdict() for layer in architecture_of(job).layers]
    fields["fit_seconds"] = job.fit_s
    return fields


class JobPage(BaseModel):
    jobs: list[JobOut]
    next_page_token: str | None = NEXT_PAGE


class LeaderOut(JobOut):
    rank: int = Field(description="Place in the listing, from 1 on its first page.")
    accuracy_se: float | None = Field(description="Standard error; null for one trial.")
    accuracy_low: float | None = Field(description="Where the 95 % interval begins.")
    accuracy_high: float | None = Field(description="Where the 95 % interval ends.")
    fitness: float | None = Field(description="See docs/protocol.md; null without throughput.")
    device: str | None


def leader_fields(rank: int, row: Row[Any]) -> dict[str, Any]:
    """Returns what ``LeaderOut`` describes."""
    error, low, high = trial_interval(row.accuracy, row.accuracy_sd, row.trials_done)
    return {
        "rank": rank,
        "accuracy_se": error,
        "accuracy_low": low,
        "accuracy_high": high,
        "fitness": row.fitness,
        "device": row.device,
        **_job_fields(row),
    }


class LeaderboardOut(BaseModel):
    sweep_id: int
    device: list[str] = Field(description="The device models whose results are shown.")
    devices: dict[str, int] = Field(description="Completed jobs by device model, most first.")
    rows: list[LeaderOut]
    next_page_token: str | None = NEXT_PAGE


def leaderboard_fields(sweep_id: int, page: LeaderPage) -> dict[str, Any]:
    """Returns what ``LeaderboardOut`` describes: a model of each row would take as long as SQL."""
    ranked = enumerate(page.rows, start=page.first_rank)
    return {
        "sweep_id": sweep_id,
        "device": page.choice.device,
        "devices": page.choice.devices,
        "rows": [leader_fields(rank, row) for rank, row in ranked],
        "next_page_token": page.next_page_token,
    }


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
            "shapes": [cost._asdict() for cost in architecture_of(detail.job).layer_costs(shape)],
            "trials": [TrialOut.of(trial, environment) for trial, environment in detail.trials],
            "attempts": [AttemptOut.model_validate(dict(row)) for row in detail.attempts],
            "protocol": protocol,
        }
        return cls.model_validate(_job_fields(detail.job) | parts)


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
