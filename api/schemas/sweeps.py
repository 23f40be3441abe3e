"""Bodies of requests and answers about sweeps."""

import datetime as dt
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from api.schemas.paging import NEXT_PAGE
from api.schemas.workers import SweepProblemOut
from services.sweeps.creation import Preview
from services.sweeps.reading import SweepState
from shared.domain.measurements import Reason
from shared.domain.names import Name
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


class SweepIn(BaseModel):
    """A sweep to preview or create: a preset, or a space and a protocol, or a preset with changes.

    With a preset, ``protocol`` may name single fields; the others stay as in the preset.
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

    name: Name | None = None
    preset: Preset | None = None
    space: SearchSpace | None = None
    protocol: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _complete(self) -> "SweepIn":
        if self.preset is None and (self.space is None or self.protocol is None):
            raise ValueError("preset: name one, or give both space and protocol")
        return self

    def resolved_space(self) -> SearchSpace:
        """Returns the space of the request."""
        return self.space or SPACE_PRESETS[self.preset or "quick"]()

    def resolved_protocol(self) -> Protocol:
        """Returns the protocol of the request.

        Raises:
            pydantic.ValidationError: a field is invalid.
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
    about: str = Field(description="Its purpose, in a sentence.")
    sweep: PresetSweep = Field(
        description="A body for `POST /v1/sweeps`; every field may be changed."
    )

    @classmethod
    def named(cls, name: str) -> "PresetOut":
        space, protocol = SPACE_PRESETS[name](), PROTOCOL_PRESETS[name]()
        about = f"{len(space):,} architectures on {protocol.dataset}, {protocol.trials} trials each"
        return cls(about=about, sweep=PresetSweep(space=space, protocol=protocol))


class ExtensionIn(BaseModel):
    """More trials for a sweep: the total, not the addition."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"trials": 10, "top": 50}, {"trials": 4}]}
    )

    trials: Annotated[
        int, Field(strict=True, ge=1, le=MAX_TRIALS, description="Total trials per job.")
    ]
    top: Annotated[int, Field(strict=True, ge=1, le=MAX_ARCHITECTURES)] | None = Field(
        default=None, description="Only this many of the most accurate jobs; all if left out."
    )


WARNINGS: list[str] = Field(
    description="What the sweep asks for and no running worker has, with names that are close."
)


class PreviewOut(BaseModel):
    total: int
    valid: int
    invalid: dict[Reason, int]
    equivalent: int = Field(
        description="Valid networks that compute the same as an earlier one, because a dilation "
        "has no effect on a kernel of size 1."
    )
    groups: int
    flops: int = Field(description="One image through every valid network.")
    flops_per_trial: int = Field(description="All images of the protocol through each of them.")
    warnings: list[str] = WARNINGS

    @classmethod
    def of(cls, preview: Preview, warnings: list[str]) -> "PreviewOut":
        return cls(**asdict(preview), warnings=warnings)


class SweepOut(BaseModel):
    id: int
    name: str
    status: SweepStatus
    total: int
    counts: dict[JobStatus, int] = Field(description="Jobs by state; they add up to total.")
    finished: int
    jobs_per_s: float | None = Field(description="Over the latest leases; null when unknown.")
    eta_s: float | None = Field(description="The likely time left; null without a rate.")
    eta_low_s: float | None = Field(
        description="Lower end of the range that nine of ten sweeps keep."
    )
    eta_high_s: float | None = Field(description="Upper end of that range.")
    waiting_for: str | None = Field(
        description="What a running sweep that does not move waits for; null while it moves, and "
        "in lists."
    )
    problems: list[SweepProblemOut] = Field(
        description="What keeps living workers from this sweep; empty in lists."
    )
    created_at: dt.datetime
    completed_at: dt.datetime | None
    dataset_hash: str | None = Field(
        description="Content of the images that every trial uses; null before the first result."
    )
    space: SearchSpace
    protocol: Protocol

    @classmethod
    def of(cls, state: SweepState) -> "SweepOut":
        sweep = state.sweep
        return cls(
            id=sweep.id,
            name=sweep.name,
            status=SweepStatus(sweep.status),
            total=sweep.total,
            counts=state.counts,
            finished=state.finished,
            **asdict(state.forecast),
            problems=[SweepProblemOut.model_validate(row) for row in state.problems],
            created_at=sweep.created_at,
            completed_at=sweep.completed_at,
            dataset_hash=sweep.dataset_hash,
            space=SearchSpace.model_validate(sweep.space),
            protocol=Protocol.model_validate(sweep.protocol),
        )


class CreatedSweepOut(SweepOut):
    warnings: list[str] = WARNINGS

    @classmethod
    def created(cls, state: SweepState, warnings: list[str]) -> "CreatedSweepOut":
        return cls(**SweepOut.of(state).model_dump(), warnings=warnings)


class SweepPageOut(BaseModel):
    sweeps: list[SweepOut]
    next_page_token: str | None = NEXT_PAGE
