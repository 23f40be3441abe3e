"""The tables of timings, of throughputs that triggers total from them, and of references."""

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.base import Base
from shared.db.checks import measured, one_of
from shared.domain.measurements import (
    Invalidation,
    ThroughputKind,
    ThroughputSource,
    WantedReason,
)


class Timing(Base):
    """One timing of one network on one device. Rows are added; they may lose their validity."""

    __tablename__ = "timings"
    __table_args__ = (
        CheckConstraint(one_of("source", ThroughputSource), name="timings_source"),
        measured("timings"),
        CheckConstraint(one_of("invalidated", Invalidation), name="timings_invalidated"),
        UniqueConstraint("job_id", "trial", name="timings_of_trial"),
        Index(
            "timings_of_unit", "unit", "finished_at", postgresql_where=text("invalidated IS NULL")
        ),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    # made with this trial; null if another device did it afterwards
    trial: Mapped[int | None] = mapped_column(SmallInteger)
    environment_id: Mapped[int] = mapped_column(ForeignKey("environments.id"))
    images_per_s: Mapped[float]
    spread: Mapped[float | None]
    runs: Mapped[int | None] = mapped_column(Integer)
    source: Mapped[str]
    attempt: Mapped[int] = mapped_column(SmallInteger)
    finished_at: Mapped[dt.datetime] = mapped_column(server_default=func.clock_timestamp())
    unit: Mapped[str | None]  # a GPU by its UUID, or the machine whose processor it is
    conditions: Mapped[dict[str, Any] | None]
    invalidated: Mapped[str | None]  # why it does not count


class JobThroughput(Base):
    """The throughput of a job on one device model, kept by a trigger on timings.

    Rows under the name of a calibrated scale, see ``shared.domain.calibration``, are written when
    someone asks for it.
    """

    __tablename__ = "throughputs"
    __table_args__ = (
        measured("throughputs"),
        CheckConstraint(one_of("kind", ThroughputKind), name="throughputs_kind"),
        Index(
            "throughputs_ranked", "sweep_id", "device", text("throughput DESC NULLS LAST"), "job_id"
        ),
    )

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)  # model, or its calibrated scale
    sweep_id: Mapped[int]
    throughput: Mapped[float]  # images/s, median of the timings
    throughput_min: Mapped[float]
    throughput_max: Mapped[float]
    throughput_measured: Mapped[bool]  # false where any timing was screened
    kind: Mapped[str] = mapped_column(server_default=text("'measured'"))


class SweepDevice(Base):
    """Networks of a sweep that a device model has timed, kept by a trigger on throughputs."""

    __tablename__ = "sweep_devices"

    sweep_id: Mapped[int] = mapped_column(
        ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True
    )
    device: Mapped[str] = mapped_column(primary_key=True)
    timed: Mapped[int] = mapped_column(Integer)


class WantedTiming(Base):
    """A network that a device model has to time before its job completes, on request or again."""

    __tablename__ = "wanted_timings"
    __table_args__ = (
        CheckConstraint(one_of("reason", WantedReason), name="wanted_timings_reason"),
    )

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]


class Calibration(Base):
    """How the calibrated throughputs of a sweep on a device model were computed."""

    __tablename__ = "calibrations"

    sweep_id: Mapped[int] = mapped_column(
        ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True
    )
    device: Mapped[str] = mapped_column(primary_key=True)  # model
    reference_version: Mapped[int] = mapped_column(SmallInteger)
    seed: Mapped[int]  # of the halves that fit and check
    timed: Mapped[int] = mapped_column(Integer)  # networks with a timing on any model
    measured: Mapped[int] = mapped_column(Integer)  # networks with a corrected timing
    predicted: Mapped[int] = mapped_column(Integer)
    sources: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)  # fits of other models
    calibrated_at: Mapped[dt.datetime] = mapped_column(server_default=func.clock_timestamp())


class ReferenceRun(Base):
    """One timing of all reference networks on one unit."""

    __tablename__ = "reference_runs"
    __table_args__ = (
        measured("reference_runs"),
        Index("reference_runs_of_unit", "unit", "finished_at"),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    worker_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("workers.id"))
    unit: Mapped[str]
    device_class: Mapped[str]
    device: Mapped[str]  # model
    versions: Mapped[dict[str, Any]]
    reference_version: Mapped[int] = mapped_column(SmallInteger)
    images_per_s: Mapped[list[float]] = mapped_column(ARRAY(Float))  # of each reference
    conditions: Mapped[dict[str, Any]]
    # against the run before of the same process; null where that is the first
    speed_change: Mapped[float | None]
    invalidated: Mapped[int] = mapped_column(Integer, server_default="0")  # timings before it
    finished_at: Mapped[dt.datetime] = mapped_column(server_default=func.clock_timestamp())
