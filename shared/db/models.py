"""The tables. Constraints here are the last guard; migrations/ creates them and the triggers."""

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from shared.db import timing_models as timing_models  # noqa: PLC0414 - registers its tables
from shared.db import worker_models as worker_models  # noqa: PLC0414 - registers its tables
from shared.db.base import Base as Base  # noqa: PLC0414 - with all tables in it
from shared.db.checks import measured, one_of
from shared.domain.access import KeyScope
from shared.domain.architecture import Architecture
from shared.domain.status import JobStatus, SweepStatus, TrainingStatus


class Sweep(Base):
    """One request to evaluate a whole space under one protocol."""

    __tablename__ = "sweeps"
    __table_args__ = (
        CheckConstraint(one_of("status", SweepStatus), name="sweeps_status"),
        UniqueConstraint("idempotency_key", "idempotency_scope", name="sweeps_idempotency_key"),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    name: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=text("'running'"))
    space: Mapped[dict[str, Any]]
    protocol: Mapped[dict[str, Any]]
    total: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    completed_at: Mapped[dt.datetime | None]
    dataset_hash: Mapped[str | None]  # content of the images that its trials use, once known
    idempotency_key: Mapped[str | None]
    # prefix of the API key that used it; empty where keys are off and for sweeps of older versions
    idempotency_scope: Mapped[str] = mapped_column(server_default=text("''"))
    request_hash: Mapped[str | None]  # what was asked for under that key


class SweepProgress(Base):
    """Jobs by state, kept by a trigger on jobs, so that no query recounts them."""

    __tablename__ = "sweep_progress"

    sweep_id: Mapped[int] = mapped_column(
        ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True
    )
    pending: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    running: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    completed: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    invalid: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    rejected: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    failed: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    cancelled: Mapped[int] = mapped_column(Integer, server_default=text("0"))


class Group(Base):
    """Architectures that share a prefix of layers: the unit of hints and claims."""

    __tablename__ = "groups"
    __table_args__ = (
        CheckConstraint("pending >= 0", name="groups_pending"),
        Index("groups_to_hint", "position", "sweep_id", postgresql_where=text("pending > 0")),
    )

    sweep_id: Mapped[int] = mapped_column(
        ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True
    )
    index: Mapped[int] = mapped_column(Integer, primary_key=True)
    position: Mapped[int] = mapped_column(Integer)
    pending: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    hinted_at: Mapped[dt.datetime | None]


class Lease(Base):
    """One claim of jobs of a group, or of a training, by a worker, kept after its end."""

    __tablename__ = "leases"
    __table_args__ = (
        CheckConstraint("(ended_at IS NULL) = (outcome IS NULL)", name="leases_outcome"),
        CheckConstraint(
            "outcome IN ('completed', 'released', 'failed', 'expired', 'cancelled')",
            name="leases_outcomes",
        ),
        Index("leases_of_worker", "worker_id", postgresql_where=text("ended_at IS NULL")),
        Index("leases_open", "expires_at", postgresql_where=text("ended_at IS NULL")),
        Index(
            "leases_ended", "sweep_id", "ended_at", postgresql_where=text("ended_at IS NOT NULL")
        ),
        Index("leases_expired", "ended_at", postgresql_where=text("outcome = 'expired'")),
    )

    token: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    sweep_id: Mapped[int] = mapped_column(ForeignKey("sweeps.id", ondelete="CASCADE"))
    group_index: Mapped[int | None] = mapped_column(Integer)  # null for a training
    worker_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("workers.id"))
    jobs: Mapped[int] = mapped_column(Integer)
    claimed_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[dt.datetime]
    ended_at: Mapped[dt.datetime | None]
    outcome: Mapped[str | None]


class Environment(Base):
    """Where trials were measured: code, device, library versions, dataset by content."""

    __tablename__ = "environments"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    code_version: Mapped[str]
    device_class: Mapped[str]
    device: Mapped[str]
    dataset: Mapped[str]
    dataset_hash: Mapped[str]
    versions: Mapped[dict[str, Any]]
    fingerprint: Mapped[str] = mapped_column(unique=True)


class DatasetLabels(Base):
    """The labels of the validation images that go with a dataset's hash; a hash has one list."""

    __tablename__ = "dataset_labels"

    dataset_hash: Mapped[str] = mapped_column(primary_key=True)
    labels: Mapped[list[int]] = mapped_column(ARRAY(Integer))


class SweepEnvironment(Base):
    """Ranked jobs of a sweep by environment, kept by a trigger on jobs like its progress."""

    __tablename__ = "sweep_environments"

    sweep_id: Mapped[int] = mapped_column(
        ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True
    )
    environment_id: Mapped[int] = mapped_column(ForeignKey("environments.id"), primary_key=True)
    completed: Mapped[int] = mapped_column(Integer)


# Jobs with a complete trial keep their rank while more are made, and whatever becomes of those.
RANKED = "trials_done > 0 AND status <> 'rejected'"


class Job(Base):
    """One architecture of a sweep, its state, and the totals of its trials."""

    __tablename__ = "jobs"
    __table_args__ = (
        ForeignKeyConstraint(
            ["sweep_id", "group_index"], ["groups.sweep_id", "groups.index"], ondelete="CASCADE"
        ),
        UniqueConstraint("sweep_id", "architecture_hash", name="jobs_architecture_once"),
        CheckConstraint(one_of("status", JobStatus), name="jobs_status"),
        CheckConstraint("(status = 'running') = (lease_token IS NOT NULL)", name="jobs_lease"),
        CheckConstraint("trials_done BETWEEN 0 AND trials_target", name="jobs_trials"),
        CheckConstraint(
            "status <> 'completed' OR trials_done = trials_target", name="jobs_completed"
        ),
        measured("jobs"),
        Index(
            "jobs_claimable", "sweep_id", "group_index", postgresql_where=text("status='pending'")
        ),
        Index("jobs_leased", "lease_token", postgresql_where=text("lease_token IS NOT NULL")),
        Index("jobs_by_status", "sweep_id", "status", "id"),
        Index(
            "jobs_ranked_by_accuracy",
            "sweep_id",
            text("accuracy DESC NULLS LAST"),
            "id",
            postgresql_include=["environment_id"],
            postgresql_where=text(RANKED),
        ),
        Index(
            "jobs_ranked_in_work",
            "sweep_id",
            "status",
            postgresql_where=text(f"{RANKED} AND status <> 'completed'"),
        ),
    )

    id: Mapped[int] = mapped_column(Identity(always=False), primary_key=True)
    sweep_id: Mapped[int]
    space_index: Mapped[int] = mapped_column(Integer)
    group_index: Mapped[int] = mapped_column(Integer)
    architecture_hash: Mapped[bytes]
    channels: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    kernel_size: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    stride: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    dilation: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    padding: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    activation: Mapped[list[str]] = mapped_column(ARRAY(Text))
    ratio: Mapped[float | None]
    parameters: Mapped[int | None]
    flops: Mapped[int | None]
    status: Mapped[str] = mapped_column(server_default=text("'pending'"))
    reason: Mapped[str | None]
    error: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    lease_token: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("leases.token"))
    trials_done: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    trials_target: Mapped[int] = mapped_column(SmallInteger)
    accuracy: Mapped[float | None]  # mean over trials, fraction
    accuracy_sd: Mapped[float | None]  # sample standard deviation; null for one trial
    accuracy_min: Mapped[float | None]
    accuracy_max: Mapped[float | None]
    train_accuracy: Mapped[float | None]
    throughput: Mapped[float | None]  # with the next three: of workers of the release before
    throughput_min: Mapped[float | None]
    throughput_max: Mapped[float | None]
    throughput_measured: Mapped[bool | None]
    fit_s: Mapped[float | None]
    environment_id: Mapped[int | None] = mapped_column(ForeignKey("environments.id"))
    finished_at: Mapped[dt.datetime | None]

    @property
    def architecture(self) -> Architecture:
        return Architecture.of_columns(
            self.channels, self.kernel_size, self.stride, self.dilation, self.padding,
            self.activation,
        )  # fmt: skip

    @property
    def is_ranked(self) -> bool:
        """Whether its results count, as ``RANKED`` says in SQL."""
        return self.trials_done > 0 and self.status != JobStatus.REJECTED


class Attempt(Base):
    """How one hand-out of one job ended. Rows are added and never changed."""

    __tablename__ = "attempts"
    __table_args__ = (
        CheckConstraint("attempt > 0", name="attempts_attempt"),
        CheckConstraint(
            "outcome IN ('completed', 'invalid', 'rejected', 'failed', 'released', 'expired', "
            "'cancelled')",
            name="attempts_outcome",
        ),
    )

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    lease_token: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(SmallInteger)
    worker_id: Mapped[uuid.UUID]
    started_at: Mapped[dt.datetime]
    ended_at: Mapped[dt.datetime] = mapped_column(server_default=func.clock_timestamp())
    outcome: Mapped[str]
    error: Mapped[str | None]


class Trial(Base):
    """One evaluation of one job with its own weights."""

    __tablename__ = "trials"
    __table_args__ = (
        CheckConstraint("trial >= 0", name="trials_trial"),
        CheckConstraint("accuracy BETWEEN 0 AND 1", name="trials_accuracy"),
        CheckConstraint("train_accuracy BETWEEN 0 AND 1", name="trials_train_accuracy"),
        CheckConstraint("images_per_s > 0", name="trials_images_per_s"),
        measured("trials"),
    )

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    trial: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    accuracy: Mapped[float]
    train_accuracy: Mapped[float]
    fit_s: Mapped[float]
    images_per_s: Mapped[float | None]  # with the next three: of workers of the release before
    images_per_s_spread: Mapped[float | None]
    timing_runs: Mapped[int | None] = mapped_column(Integer)
    throughput_source: Mapped[str | None]
    weights_seed: Mapped[int]
    correct_bits: Mapped[bytes]
    environment_id: Mapped[int] = mapped_column(ForeignKey("environments.id"))
    attempt: Mapped[int] = mapped_column(SmallInteger)
    finished_at: Mapped[dt.datetime] = mapped_column(server_default=func.clock_timestamp())


class ApiKey(Base):
    """A key to the API. Of its secret only the hash is here."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint(one_of("scope", KeyScope), name="api_keys_scope"),
        CheckConstraint("octet_length(secret_hash) = 32", name="api_keys_secret_hash"),
    )

    prefix: Mapped[str] = mapped_column(primary_key=True)
    secret_hash: Mapped[bytes]
    name: Mapped[str]
    scope: Mapped[str]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.clock_timestamp())
    expires_at: Mapped[dt.datetime | None]
    revoked_at: Mapped[dt.datetime | None]
    last_used_at: Mapped[dt.datetime | None]


class Training(Base):
    """Gradient descent on the network of one job under one recipe, and where its weights lie."""

    __tablename__ = "trainings"
    __table_args__ = (
        CheckConstraint(one_of("status", TrainingStatus), name="trainings_status"),
        CheckConstraint("(status = 'running') = (lease_token IS NOT NULL)", name="trainings_lease"),
        CheckConstraint("epochs_done BETWEEN 0 AND epochs", name="trainings_epochs"),
        CheckConstraint(
            "status <> 'completed' OR epochs_done = epochs", name="trainings_completed"
        ),
        UniqueConstraint("job_id", "recipe_hash", name="trainings_once"),
        Index("trainings_of_sweep", "sweep_id", "id"),
        Index("trainings_to_hint", "id", postgresql_where=text("status = 'pending'")),
        Index("trainings_leased", "lease_token", postgresql_where=text("lease_token IS NOT NULL")),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    sweep_id: Mapped[int] = mapped_column(ForeignKey("sweeps.id", ondelete="CASCADE"))
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    recipe: Mapped[dict[str, Any]]
    recipe_hash: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=text("'pending'"))
    parameters: Mapped[int | None]  # with the head; known once a worker has the classes
    epochs: Mapped[int] = mapped_column(Integer)
    epochs_done: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    attempt: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    lease_token: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("leases.token"))
    hinted_at: Mapped[dt.datetime | None]
    error: Mapped[str | None]
    note: Mapped[str | None]  # what went wrong on the way without ending it
    weights: Mapped[str | None]  # name of the file in the folder of trainings
    environment_id: Mapped[int | None] = mapped_column(ForeignKey("environments.id"))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.clock_timestamp())
    finished_at: Mapped[dt.datetime | None]


class TrainingEpoch(Base):
    """What one epoch of a training measured."""

    __tablename__ = "training_epochs"
    __table_args__ = (
        CheckConstraint("epoch > 0", name="training_epochs_epoch"),
        CheckConstraint("train_accuracy BETWEEN 0 AND 1", name="training_epochs_train_accuracy"),
        CheckConstraint("validation_accuracy BETWEEN 0 AND 1", name="training_epochs_accuracy"),
        measured("training_epochs"),
    )

    training_id: Mapped[int] = mapped_column(
        ForeignKey("trainings.id", ondelete="CASCADE"), primary_key=True
    )
    epoch: Mapped[int] = mapped_column(Integer, primary_key=True)
    train_loss: Mapped[float]
    train_accuracy: Mapped[float]
    validation_loss: Mapped[float]
    validation_accuracy: Mapped[float]
    learning_rate: Mapped[float]
    seconds: Mapped[float]
    images_per_s: Mapped[float | None]
    device: Mapped[str | None]
