"""States of jobs, sweeps and trainings, and how requests may change those of the latter two.

The states of jobs and the work of leases change only in SQL that checks the state before.
"""

from enum import StrEnum
from typing import NamedTuple

from shared.domain.actions import Action
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

SWEEP_TRANSITIONS: dict[SweepStatus, frozenset[SweepStatus]] = {
    SweepStatus.RUNNING: frozenset(
        {SweepStatus.PAUSED, SweepStatus.COMPLETED, SweepStatus.CANCELLED}
    ),
    SweepStatus.PAUSED: frozenset(
        {SweepStatus.RUNNING, SweepStatus.COMPLETED, SweepStatus.CANCELLED}
    ),
    SweepStatus.COMPLETED: frozenset({SweepStatus.RUNNING}),  # given more to do
    SweepStatus.CANCELLED: frozenset({SweepStatus.RUNNING}),  # extended
}


class TrainingAction(NamedTuple):
    """What an action does to a training: the states it applies to, and the state it leads to."""

    sources: tuple[TrainingStatus, ...]
    target: TrainingStatus


TRAINING_ACTIONS: dict[Action, TrainingAction] = {
    Action.PAUSE: TrainingAction(
        (TrainingStatus.PENDING, TrainingStatus.RUNNING), TrainingStatus.PAUSED
    ),
    Action.RESUME: TrainingAction((TrainingStatus.PAUSED,), TrainingStatus.PENDING),
    Action.CANCEL: TrainingAction(
        (TrainingStatus.PENDING, TrainingStatus.RUNNING, TrainingStatus.PAUSED),
        TrainingStatus.CANCELLED,
    ),
    Action.RETRY: TrainingAction((TrainingStatus.FAILED,), TrainingStatus.PENDING),
}


def check_sweep_transition(current: SweepStatus, wanted: SweepStatus) -> None:
    """Returns when ``wanted`` may follow ``current``; staying in the same state is always fine.

    Raises:
        IllegalTransitionError: the sweep cannot go there from where it is.
    """
    if wanted is not current and wanted not in SWEEP_TRANSITIONS[current]:
        raise IllegalTransitionError(f"A {current} sweep cannot become {wanted}.")
