"""Pausing, resuming, cancelling and retrying trainings."""

from sqlalchemy.orm import Session

from services.sweeps.reading import get_sweep
from services.trainings.reading import get_training
from shared.db.queries.trainings import trainings as training_queries
from shared.domain.actions import Action
from shared.domain.errors import IllegalTransitionError
from shared.domain.status import TRAINING_TRANSITIONS, TrainingStatus

STEERING = {
    "pause": ((TrainingStatus.PENDING, TrainingStatus.RUNNING), TrainingStatus.PAUSED),
    "resume": ((TrainingStatus.PAUSED,), TrainingStatus.PENDING),
    "cancel": (
        (TrainingStatus.PENDING, TrainingStatus.RUNNING, TrainingStatus.PAUSED),
        TrainingStatus.CANCELLED,
    ),
    "retry": ((TrainingStatus.FAILED,), TrainingStatus.PENDING),
}


def control_trainings(session: Session, sweep_id: int, action: Action) -> int:
    """Pauses, resumes, cancels or retries what can be of a sweep's trainings; returns how many.

    Raises:
        SweepNotFoundError: there is no such sweep.
    """
    get_sweep(session, sweep_id)
    sources, target = STEERING[action]
    return training_queries.move_trainings(session, sweep_id, None, sources=sources, target=target)


def control_training(session: Session, training_id: int, action: Action) -> None:
    """Pauses, resumes, cancels or retries one training; what it is already it stays.

    Raises:
        TrainingNotFoundError: there is no such training.
        IllegalTransitionError: it cannot go there from where it is.
    """
    found, _ = get_training(session, training_id)
    sources, target = STEERING[action]
    moved = training_queries.move_trainings(
        session, found.sweep_id, training_id, sources=sources, target=target
    )
    if not moved and found.status != target:
        allowed = ", ".join(TRAINING_TRANSITIONS[TrainingStatus(found.status)]) or "nothing"
        raise IllegalTransitionError(
            f"Training {training_id} is {found.status}: it cannot {action}; it can become "
            f"{allowed}."
        )
