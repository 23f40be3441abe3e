"""A training under a lease: claim, record epochs, complete, release, fail."""

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy.orm import Session

from services.leasing.environments import environment_row, storable
from shared.db.queries.leasing import environments as environment_queries
from shared.db.queries.leasing import leases as lease_queries
from shared.db.queries.leasing import training_leases as training_queries
from shared.domain.architecture import Architecture
from shared.domain.errors import StaleLeaseError, TrainingNotFoundError
from shared.domain.measurements import Environment
from shared.domain.protocol import Protocol
from shared.domain.recipe import EpochResult, Recipe
from shared.domain.status import TrainingStatus


@dataclass(frozen=True, slots=True)
class TrainingRequirements:
    """What a worker must be able to do for a training."""

    training_id: int
    sweep_id: int
    status: TrainingStatus
    architecture: Architecture  # at the recipe's channels
    recipe: Recipe
    protocol: Protocol
    dataset_hash: str | None  # of the images of its earlier epochs


def get_training_requirements(session: Session, training_id: int) -> TrainingRequirements:
    """Returns what a worker must be able to do for a training.

    Raises:
        TrainingNotFoundError: there is no such training.
    """
    row = training_queries.find_training_requirements(session, training_id)
    if row is None:
        raise TrainingNotFoundError(f"There is no training {training_id}.", field="training_id")
    recipe = Recipe.model_validate(row.recipe)
    return TrainingRequirements(
        training_id=training_id,
        sweep_id=row.sweep_id,
        status=TrainingStatus(row.status),
        architecture=recipe.widen(row.architecture),
        recipe=recipe,
        protocol=Protocol.model_validate(row.protocol),
        dataset_hash=row.dataset_hash,
    )


def claim_training(
    session: Session, training_id: int, *, worker_id: uuid.UUID, token: uuid.UUID, lease_s: float
) -> bool:
    """Leases a pending training; False if it is not pending or another worker claims it."""
    return training_queries.claim_training(
        session, training_id, worker_id=worker_id, token=token, lease_s=lease_s
    )


def decline_training(session: Session, training_id: int) -> None:
    """Defers a training that this worker cannot serve.

    It is hinted again once a hint without a claim would be repeated, but after trainings that were
    never hinted: one that no worker can serve does not delay others.
    """
    training_queries.defer_training_hint(session, training_id)


def begin_training(
    session: Session,
    token: uuid.UUID,
    results: Sequence[EpochResult],
    environment: Environment,
    *,
    parameters: int,
    note: str | None,
) -> None:
    """Sets the curve so far to ``results``, the epochs of the worker's checkpoint.

    Raises:
        StaleLeaseError: the lease has ended; nothing is written.
    """
    row = environment_row(environment)
    begun = training_queries.begin_training(
        session,
        token,
        environment_id=environment_queries.upsert_environment(session, row),
        parameters=parameters,
        note=note and storable(note),
        epochs=[asdict(result) for result in results],
    )
    _check_held(begun)


def append_epoch(session: Session, token: uuid.UUID, result: EpochResult) -> None:
    """Adds an epoch to the curve.

    Raises:
        StaleLeaseError: the lease has ended; nothing is written.
    """
    _check_held(training_queries.append_epoch(session, token, asdict(result)))


def note_training(session: Session, token: uuid.UUID, note: str) -> None:
    """Records a problem that does not end the training."""
    training_queries.note_training(session, token, storable(note))


def complete_training(session: Session, token: uuid.UUID, weights: str | None) -> None:
    """Completes a training whose epochs are all recorded.

    Args:
        weights: name of the file with the best weights; None where it could not be written.

    Raises:
        StaleLeaseError: the lease has ended; nothing is written.
    """
    _check_held(lease_queries.end_leases(session, [token], "completed") > 0)
    _check_held(training_queries.complete_training(session, token, weights))


def release_training(session: Session, token: uuid.UUID) -> int:
    """Releases a training, consuming no attempt; it is hinted at once. Returns the number."""
    if not lease_queries.end_leases(session, [token], "released"):
        return 0
    return training_queries.release_training(session, token)


def fail_training(session: Session, token: uuid.UUID, *, error: str, max_attempts: int) -> int:
    """Returns a training to the queue, consuming an attempt; after the last one it fails.

    It continues from its last checkpoint. Returns the number of trainings.
    """
    if not lease_queries.end_leases(session, [token], "failed"):
        return 0
    return training_queries.release_lost_trainings(
        session, [token], max_attempts=max_attempts, error=storable(error)
    )


def _check_held(held: bool) -> None:
    if not held:
        raise StaleLeaseError(
            "The lease is over: it expired, or the training was paused or cancelled."
        )
