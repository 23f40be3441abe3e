"""The tables of workers: the processes, what keeps them from work, and their devices."""

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Identity,
    Integer,
    SmallInteger,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.base import Base


class Worker(Base):
    """A worker process: its host, its device, its datasets, and what keeps it from all work."""

    __tablename__ = "workers"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    hostname: Mapped[str]
    pid: Mapped[int] = mapped_column(Integer)
    device_class: Mapped[str]
    device: Mapped[str]
    code_version: Mapped[str]
    problem: Mapped[str | None]  # why it can do no work at all
    problem_sweep_id: Mapped[int | None]  # written only by workers of the release before
    problem_at: Mapped[dt.datetime | None]
    datasets: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))  # name: hashes
    started_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    last_seen_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    stopped_at: Mapped[dt.datetime | None]


class WorkerProblem(Base):
    """Why a worker cannot serve a sweep, or one of its trainings."""

    __tablename__ = "worker_problems"
    __table_args__ = (
        UniqueConstraint(
            "worker_id",
            "sweep_id",
            "training_id",
            name="worker_problems_once",
            postgresql_nulls_not_distinct=True,
        ),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    worker_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("workers.id", ondelete="CASCADE"))
    sweep_id: Mapped[int] = mapped_column(ForeignKey("sweeps.id", ondelete="CASCADE"))
    training_id: Mapped[int | None] = mapped_column(ForeignKey("trainings.id", ondelete="CASCADE"))
    problem: Mapped[str]
    since: Mapped[dt.datetime] = mapped_column(server_default=func.clock_timestamp())
    hinted_at: Mapped[dt.datetime] = mapped_column(  # last hint in spite of the problem
        server_default=func.clock_timestamp()
    )


class DeviceLease(Base):
    """A GPU, or a share of one, that belongs to a worker while the worker renews this."""

    __tablename__ = "device_leases"
    __table_args__ = (
        CheckConstraint("slot >= 0", name="device_leases_slot"),
        UniqueConstraint("worker_id", name="device_leases_worker"),
    )

    device_uuid: Mapped[str] = mapped_column(primary_key=True)
    slot: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    worker_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("workers.id"))
    expires_at: Mapped[dt.datetime]
