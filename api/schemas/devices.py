"""What goes in and out about devices: references, bridges, calibrated throughputs."""

import datetime as dt
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from services.calibration.devices import DeviceComparison
from shared.domain.calibration import BRIDGE_SHARE
from shared.domain.ids import MAX_ID
from shared.domain.reference_set import VERSION

MAX_DEVICES = 64
DeviceName = Annotated[str, Field(min_length=1, max_length=200)]
Seed = Annotated[int, Field(ge=0, le=MAX_ID, strict=True)]


class _Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class BridgeIn(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"share": 0.5}]})

    devices: list[DeviceName] = Field(
        default=[],
        max_length=MAX_DEVICES,
        description="Device models; without any, those of all workers that run now.",
    )
    share: float = Field(
        default=BRIDGE_SHARE, gt=0, le=1, allow_inf_nan=False,
        description="Share of the networks, chosen at random.",
    )  # fmt: skip
    seed: Seed = Field(default=0, description="Another seed chooses other networks.")


class BridgeOut(_Out):
    devices: list[str] = Field(description="The device models that time the networks.")
    networks: int = Field(description="Networks that each of these models times or has timed.")
    wanted: int = Field(description="Timings that were missing and had not been asked for.")


class CalibrationIn(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"device": "a processor"}]}
    )

    device: DeviceName = Field(description="The device model whose throughputs are wanted.")
    reference_version: int = Field(
        default=VERSION, ge=1, strict=True, description="Version of the reference networks."
    )
    seed: Seed = Field(
        default=0, description="Of the random halves that are fitted, and that give the interval."
    )


class SourceFitOut(_Out):
    source: str = Field(description="The other device model.")
    rows: int = Field(description="Networks that both models timed.")
    rank_correlation: float | None = Field(
        description="Spearman's, over networks that were not fitted; null where that says nothing."
    )
    interval_factor: float | None = Field(
        description="A 90 % interval goes from the prediction divided by this to the prediction "
        "times this."
    )
    predicted: int = Field(description="Networks whose throughput follows from this model.")
    problem: str | None = Field(description="What a fit lacks; null where there is one.")


class CalibrationOut(_Out):
    device: str
    scale: str = Field(description="The name to use as `device` in views.")
    reference_version: int
    seed: int
    measured: int = Field(description="Networks that the model timed; corrected for its units.")
    predicted: int = Field(description="Networks whose throughput is predicted.")
    timed_since: int = Field(
        description="Networks that a model has timed since; calibrate again to include them."
    )
    sources: list[SourceFitOut]
    calibrated_at: dt.datetime


class UnitRunOut(_Out):
    finished_at: dt.datetime
    speed: float = Field(description="Relative to the fleet: geometric mean over the references.")
    speed_change: float | None = Field(
        description="Since the run before of the same worker; null for its first."
    )
    drifted: bool = Field(description="Whether the speed changed by more than `max_drift`.")
    clock_mhz: float | None
    temperature_c: float | None


class UnitOut(_Out):
    unit: str = Field(description="UUID of a GPU, or the machine of a processor.")
    factor: float = Field(description="Its speed relative to the fleet; timings are divided by it.")
    runs: int = Field(description="Times that it timed the references.")
    drifts: int
    invalidated: int = Field(description="Timings that no longer count because of drift.")
    history: list[UnitRunOut] = Field(description="At most 200 of its runs, the last one too.")


class DeviceModelOut(_Out):
    device: str
    timed: int = Field(description="Networks of the sweep that it timed.")
    units: list[UnitOut]
    fits: list[SourceFitOut] = Field(description="What each other model says about this one.")
    calibration: CalibrationOut | None = Field(description="What was computed last, if anything.")


class DevicesOut(_Out):
    reference_version: int
    max_drift: float = Field(description="Largest change of speed between two runs that counts.")
    models: list[DeviceModelOut] = Field(description="The one that timed most first.")

    @classmethod
    def of(cls, comparison: DeviceComparison) -> "DevicesOut":
        return cls.model_validate(comparison)
