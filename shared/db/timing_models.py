"""The tables of timings, and of the throughputs that triggers total from them."""

import datetime as dt

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.base import Base
from shared.db.checks import measured, one_of
from shared.domain.measurements import ThroughputSource


class Timing(Base):
    """One timing of one network on one device. Rows are added and never changed."""

    __tablename__ = "timings"
    __table_args__ = (
        CheckConstraint(one_of("source", ThroughputSource), name="timings_source"),
        measured("timings"),
        UniqueConstraint("job_id", "trial", name="timings_of_trial"),
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


class JobThroughput(Base):
    """The throughput of a job on one device model, kept by a trigger on timings."""

    __tablename__ = "throughputs"
    __table_args__ = (
        measured("throughputs"),
        Index(
            "throughputs_ranked", "sweep_id", "device", text("throughput DESC NULLS LAST"), "job_id"
        ),
    )

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)  # model
    sweep_id: Mapped[int]
    throughput: Mapped[float]  # images/s, median of the timings
    throughput_min: Mapped[float]
    throughput_max: Mapped[float]
    throughput_measured: Mapped[bool]  # false where any timing was screened


class SweepDevice(Base):
    """Networks of a sweep that a device model has timed, kept by a trigger on throughputs."""

    __tablename__ = "sweep_devices"

    sweep_id: Mapped[int] = mapped_column(
        ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True
    )
    device: Mapped[str] = mapped_column(primary_key=True)
    timed: Mapped[int] = mapped_column(Integer)
