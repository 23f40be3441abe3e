"""Job and sweep states and the transitions that are legal between them."""

from enum import StrEnum

from shared.domain.errors import IllegalTransitionError


class JobStatus(StrEnum):
    """State of one architecture within a sweep."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    INVALID = "invalid"  # the shape check refused it
    REJECTED = "rejected"  # a measured gate did
    FAILED = "failed"
    CANCELLED = "cancelled"


class SweepStatus(StrEnum):
    """State of a sweep."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class TrainingStatus(StrEnum):
    """State of the training of one network."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED_JOB_STATUSES = frozenset({JobStatus.PENDING, JobStatus.RUNNING})

JOB_TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.PENDING: frozenset({JobStatus.RUNNING, JobStatus.CANCELLED}),
    JobStatus.RUNNING: frozenset(JobStatus) - {JobStatus.RUNNING},
    JobStatus.COMPLETED: frozenset({JobStatus.PENDING}),  # extended to more trials
    JobStatus.INVALID: frozenset(),
    JobStatus.REJECTED: frozenset({JobStatus.PENDING}),
    JobStatus.FAILED: frozenset({JobStatus.PENDING}),  # retried on request
    JobStatus.CANCELLED: frozenset(),
}

SWEEP_TRANSITIONS: dict[SweepStatus, frozenset[SweepStatus]] = {
    SweepStatus.RUNNING: frozenset(
        {SweepStatus.PAUSED, SweepStatus.COMPLETED, SweepStatus.CANCELLED}
    ),
    SweepStatus.PAUSED: frozenset(
        {SweepStatus.RUNNING, SweepStatus.COMPLETED, SweepStatus.CANCELLED}
    ),
    SweepStatus.COMPLETED: frozenset({SweepStatus.RUNNING}),  # given more to do
    SweepStatus.CANCELLED: frozenset(),
}


TRAINING_TRANSITIONS: dict[TrainingStatus, frozenset[TrainingStatus]] = {
    TrainingStatus.PENDING: frozenset(
        {TrainingStatus.RUNNING, TrainingStatus.PAUSED, TrainingStatus.CANCELLED}
    ),
    TrainingStatus.RUNNING: frozenset(TrainingStatus) - {TrainingStatus.RUNNING},
    TrainingStatus.PAUSED: frozenset({TrainingStatus.PENDING, TrainingStatus.CANCELLED}),
    TrainingStatus.COMPLETED: frozenset(),
    TrainingStatus.FAILED: frozenset({TrainingStatus.PENDING}),  # retried on request
    TrainingStatus.CANCELLED: frozenset(),
}


def check_sweep_transition(current: SweepStatus, wanted: SweepStatus) -> None:
    """Returns when ``wanted`` may follow ``current``; staying in the same state is always fine.

    Raises:
        IllegalTransitionError: the sweep cannot go there from where it is.
    """
    if wanted is not current and wanted not in SWEEP_TRANSITIONS[current]:
        raise IllegalTransitionError(f"A {current} sweep cannot become {wanted}.")
