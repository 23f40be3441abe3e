"""SQL about trainings under a lease: hint, claim, record epochs, end."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from shared.db.queries.rows import LayerColumns, read_row
from shared.db.queries.statements import affected_rows, sql

_EPOCH_COLUMNS = (
    "epoch int, train_loss float8, train_accuracy float8, validation_loss float8, "
    "validation_accuracy float8, learning_rate float8, seconds float8, images_per_s float8, "
    "device text"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequirementsRow(LayerColumns):
    """What a worker must be able to do for a training; layers as searched, before widening."""

    id: int
    sweep_id: int
    status: str
    recipe: dict[str, Any]
    protocol: dict[str, Any]
    dataset_hash: str | None  # of the images of its earlier epochs; None before the first


def mark_trainings_hinted(session: Session, *, limit: int, resend_s: float) -> list[int]:
    """Returns up to ``limit`` trainings that are due for a hint, and marks them as hinted now.

    Trainings that were never hinted come first, then those whose last hint is the oldest, so that
    trainings that no worker can serve do not delay others.
    """
    statement = sql("""
        WITH chosen AS (
            SELECT id FROM trainings
            WHERE status = 'pending' AND (hinted_at IS NULL
                OR hinted_at < clock_timestamp() - make_interval(secs => :resend_s))
            ORDER BY hinted_at NULLS FIRST, id LIMIT :limit
            FOR NO KEY UPDATE SKIP LOCKED
        )
        UPDATE trainings SET hinted_at = clock_timestamp()
        FROM chosen WHERE trainings.id = chosen.id RETURNING trainings.id
    """)
    return sorted(session.execute(statement, {"limit": limit, "resend_s": resend_s}).scalars())


def defer_training_hint(session: Session, training_id: int) -> None:
    """Starts the wait for a pending training's next hint again from now."""
    statement = sql("""
        UPDATE trainings SET hinted_at = clock_timestamp() WHERE id = :id AND status = 'pending'
    """)
    session.execute(statement, {"id": training_id})


def find_training_requirements(
    session: Session, training_id: int
) -> TrainingRequirementsRow | None:
    """Returns what a worker must be able to do for a training; None where there is none."""
    statement = sql("""
        SELECT t.id, t.sweep_id, t.recipe, t.status, s.protocol, e.dataset_hash,
            j.channels, j.kernel_size, j.stride, j.dilation, j.padding, j.activation
        FROM trainings t JOIN sweeps s ON s.id = t.sweep_id JOIN jobs j ON j.id = t.job_id
        LEFT JOIN environments e ON e.id = t.environment_id
        WHERE t.id = :id
    """)
    return read_row(TrainingRequirementsRow, session.execute(statement, {"id": training_id}))


def claim_training(
    session: Session, training_id: int, *, worker_id: uuid.UUID, token: uuid.UUID, lease_s: float
) -> bool:
    """Leases a pending training; False if it is not pending or another transaction locks it."""
    statement = sql("""
        WITH claimable AS (
            SELECT id, sweep_id FROM trainings WHERE id = :id AND status = 'pending'
            FOR UPDATE SKIP LOCKED
        ), lease AS (
            INSERT INTO leases (token, sweep_id, worker_id, jobs, expires_at)
            SELECT :token, sweep_id, :worker_id, 1,
                   clock_timestamp() + make_interval(secs => :lease_s)
            FROM claimable RETURNING token
        )
        UPDATE trainings SET status = 'running', attempt = attempt + 1, lease_token = lease.token
        FROM claimable, lease WHERE trainings.id = claimable.id
    """)
    values = {"id": training_id, "worker_id": worker_id, "token": token, "lease_s": lease_s}
    return affected_rows(session.execute(statement, values)) > 0


def begin_training(
    session: Session,
    token: uuid.UUID,
    *,
    environment_id: int,
    parameters: int,
    note: str | None,
    epochs: Sequence[dict[str, Any]],
) -> bool:
    """Sets the whole curve of the training that ``token`` holds; False if it holds none.

    Epochs after the checkpoint from which the worker continues are measured again.
    """
    held = _lock_held(session, token)
    if held is None:
        return False
    session.execute(sql("DELETE FROM training_epochs WHERE training_id = :id"), {"id": held})
    if epochs:
        _insert_epochs(session, held, epochs)
    statement = sql("""
        UPDATE trainings SET epochs_done = :done, environment_id = :environment_id,
            parameters = :parameters, note = coalesce(:note, note)
        WHERE id = :id
    """)
    values = {
        "id": held,
        "done": len(epochs),
        "environment_id": environment_id,
        "parameters": parameters,
        "note": note,
    }
    session.execute(statement, values)
    return True


def append_epoch(session: Session, token: uuid.UUID, epoch: dict[str, Any]) -> bool:
    """Adds the next epoch to the training that ``token`` holds; False if it holds none."""
    held = _lock_held(session, token)
    if held is None:
        return False
    _insert_epochs(session, held, [epoch])
    statement = sql("UPDATE trainings SET epochs_done = :epoch WHERE id = :id")
    session.execute(statement, {"id": held, "epoch": epoch["epoch"]})
    return True


def _lock_held(session: Session, token: uuid.UUID) -> int | None:
    statement = sql("""
        SELECT id FROM trainings WHERE lease_token = :token AND status = 'running' FOR UPDATE
    """)
    held: int | None = session.execute(statement, {"token": token}).scalar_one_or_none()
    return held


def _insert_epochs(session: Session, training_id: int, epochs: Sequence[dict[str, Any]]) -> None:
    statement = sql(f"""
        INSERT INTO training_epochs
        SELECT :id, e.* FROM jsonb_to_recordset(CAST(:epochs AS jsonb)) AS e({_EPOCH_COLUMNS})
        ON CONFLICT (training_id, epoch) DO NOTHING  -- a commit whose answer was lost
    """)  # noqa: S608
    session.execute(statement, {"id": training_id, "epochs": json.dumps(list(epochs))})


def note_training(session: Session, token: uuid.UUID, note: str) -> None:
    """Sets the note of the training that ``token`` holds."""
    statement = sql("UPDATE trainings SET note = :note WHERE lease_token = :token")
    session.execute(statement, {"token": token, "note": note})


def complete_training(session: Session, token: uuid.UUID, weights: str | None) -> bool:
    """Completes the training that ``token`` holds; False if it holds none."""
    statement = sql("""
        UPDATE trainings SET status = 'completed', lease_token = NULL, weights = :weights,
            error = NULL, finished_at = clock_timestamp()
        WHERE lease_token = :token AND status = 'running'
    """)
    return affected_rows(session.execute(statement, {"token": token, "weights": weights})) > 0


def release_training(session: Session, token: uuid.UUID) -> int:
    """Makes the training that ``token`` holds pending and due for a hint; consumes no attempt."""
    statement = sql("""
        UPDATE trainings SET status = 'pending', attempt = attempt - 1, lease_token = NULL,
            hinted_at = NULL
        WHERE lease_token = :token AND status = 'running'
    """)
    return affected_rows(session.execute(statement, {"token": token}))


def release_lost_trainings(
    session: Session, tokens: Sequence[uuid.UUID], *, max_attempts: int, error: str
) -> int:
    """Takes trainings from leases that ended without a result; returns their number.

    Each consumes an attempt: trainings become pending, or failed after ``max_attempts``.
    """
    statement = sql("""
        UPDATE trainings SET lease_token = NULL, hinted_at = NULL, error = :error,
            status = CASE WHEN attempt < :max_attempts THEN 'pending' ELSE 'failed' END,
            finished_at = CASE WHEN attempt < :max_attempts THEN NULL ELSE clock_timestamp() END
        WHERE lease_token = ANY(:tokens) AND status = 'running'
    """)
    values = {"tokens": list(tokens), "max_attempts": max_attempts, "error": error}
    return affected_rows(session.execute(statement, values))
