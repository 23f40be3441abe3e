"""Pausing, resuming, cancelling and retrying trainings."""

from sqlalchemy.orm import Session

from services.sweeps.reading import load_sweep
from services.trainings.reading import get_training
from shared.db.queries.trainings import trainings as training_queries
from shared.domain.actions import Action
from shared.domain.errors import IllegalTransitionError
from shared.domain.status import TRAINING_ACTIONS


def control_trainings(session: Session, sweep_id: int, action: Action) -> int:
    """Pauses, resumes, cancels or retries a sweep's trainings where possible; returns the number.

    Raises:
        SweepNotFoundError: there is no such sweep.
    """
    load_sweep(session, sweep_id)
    sources, target = TRAINING_ACTIONS[action]
    return training_queries.move_trainings(session, sweep_id, None, sources=sources, target=target)


def control_training(session: Session, training_id: int, action: Action) -> None:
    """Pauses, resumes, cancels or retries one training; an unchanged state is no error.

    Raises:
        TrainingNotFoundError: there is no such training.
        IllegalTransitionError: the training's state does not permit the action.
    """
    row, _ = get_training(session, training_id)
    sources, target = TRAINING_ACTIONS[action]
    moved = training_queries.move_trainings(
        session, row.sweep_id, training_id, sources=sources, target=target
    )
    if not moved and row.status != target:
        allowed = [name for name, (states, _) in TRAINING_ACTIONS.items() if row.status in states]
        raise IllegalTransitionError(
            f"Training {training_id} is {row.status}: it cannot {action}; "
            f"possible actions: {', '.join(allowed) or 'none'}."
        )
