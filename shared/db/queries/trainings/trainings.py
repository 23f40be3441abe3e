"""SQL about trainings: adding, controlling, reading them and their curves."""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from shared.db.queries.rows import LayerColumns, read_row, read_rows
from shared.db.queries.statements import affected_rows, sql
from shared.domain.architecture import Architecture
from shared.domain.recipe import Recipe

_SUMMARY = """
    SELECT t.id, t.sweep_id, t.job_id, t.status, t.recipe, t.parameters, t.epochs, t.epochs_done,
        t.attempt, t.error, t.note, t.weights, t.created_at, t.finished_at,
        j.channels, j.kernel_size, j.stride, j.dilation, j.padding, j.activation,
        j.accuracy AS probe_accuracy, j.parameters AS searched_parameters, j.flops, j.ratio,
        e.device, e.dataset_hash,
        best.epoch AS best_epoch, best.validation_accuracy AS best_accuracy,
        best.validation_loss AS best_loss, last.validation_accuracy AS last_accuracy,
        last.validation_loss AS last_loss, total.seconds, total.images_per_s
    FROM trainings t JOIN jobs j ON j.id = t.job_id
    LEFT JOIN environments e ON e.id = t.environment_id
    LEFT JOIN LATERAL (
        SELECT epoch, validation_accuracy, validation_loss FROM training_epochs
        WHERE training_id = t.id ORDER BY validation_accuracy DESC, epoch LIMIT 1
    ) best ON true
    LEFT JOIN LATERAL (
        SELECT validation_accuracy, validation_loss FROM training_epochs
        WHERE training_id = t.id ORDER BY epoch DESC LIMIT 1
    ) last ON true
    CROSS JOIN LATERAL (
        SELECT sum(seconds) AS seconds,
            CASE WHEN count(*) = count(images_per_s) AND count(DISTINCT device) <= 1
                  AND count(device) IN (0, count(*))  -- older epochs do not say theirs
                 THEN count(*) / nullif(sum(1 / images_per_s), 0) END AS images_per_s
        FROM training_epochs WHERE training_id = t.id
    ) total
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRow(LayerColumns):
    """A training with its results so far.

    Layers, FLOPs and ratio are those of the network as it was searched. Accuracies are fractions;
    results are None before the first epoch.
    """

    id: int
    sweep_id: int
    job_id: int
    status: str
    recipe: dict[str, Any]
    parameters: int | None  # with the linear head, at the recipe's channels; None before it began
    epochs: int
    epochs_done: int
    attempt: int
    error: str | None
    note: str | None  # what went wrong without ending it
    weights: str | None  # file name of the best weights
    created_at: dt.datetime
    finished_at: dt.datetime | None
    probe_accuracy: float
    searched_parameters: int  # without a head
    flops: int  # per image
    ratio: float  # output elements per input element
    device: str | None  # its model
    dataset_hash: str | None
    best_epoch: int | None  # the first with the highest validation accuracy
    best_accuracy: float | None
    best_loss: float | None
    last_accuracy: float | None
    last_loss: float | None
    seconds: float | None  # of all epochs
    images_per_s: float | None  # None on a shared device, or if epochs ran on several

    @property
    def network(self) -> Architecture:
        """The network at the recipe's channels."""
        return Recipe.model_validate(self.recipe).widen(self.architecture)


@dataclass(frozen=True, slots=True)
class EpochRow:
    """What one epoch of a training measured. Accuracies are fractions."""

    training_id: int
    epoch: int  # from 1
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float
    images_per_s: float | None  # None on a shared device
    device: str | None  # its model; None for epochs of older versions


def insert_trainings(session: Session, rows: Sequence[dict[str, Any]]) -> int:
    """Adds trainings; returns the number of new ones.

    A job has one training per recipe: existing trainings do not change.

    Args:
        rows: ``sweep_id job_id recipe recipe_hash epochs``.
    """
    statement = sql("""
        INSERT INTO trainings (sweep_id, job_id, recipe, recipe_hash, epochs)
        SELECT r.sweep_id, r.job_id, r.recipe, r.recipe_hash, r.epochs
        FROM ROWS FROM (jsonb_to_recordset(CAST(:rows AS jsonb)) AS
            (sweep_id bigint, job_id bigint, recipe jsonb, recipe_hash text, epochs int))
            WITH ORDINALITY AS r(sweep_id, job_id, recipe, recipe_hash, epochs, place)
        ORDER BY place
        ON CONFLICT ON CONSTRAINT trainings_once DO NOTHING
    """)
    return affected_rows(session.execute(statement, {"rows": json.dumps(list(rows))}))


def select_trainings_of(session: Session, keys: Sequence[tuple[int, str]]) -> list[TrainingRow]:
    """Returns the trainings of these (job_id, recipe_hash), by id."""
    statement = sql(
        _SUMMARY
        + """
        JOIN unnest(CAST(:jobs AS bigint[]), CAST(:hashes AS text[])) AS k(job_id, recipe_hash)
            ON k.job_id = t.job_id AND k.recipe_hash = t.recipe_hash
        ORDER BY t.id
    """
    )
    values = {"jobs": [job for job, _ in keys], "hashes": [digest for _, digest in keys]}
    return read_rows(TrainingRow, session.execute(statement, values))


def select_trainings(
    session: Session, sweep_id: int, *, status: str | None, after_id: int, limit: int
) -> list[TrainingRow]:
    """Returns a sweep's trainings with their results so far, by id from just after ``after_id``."""
    statement = sql(
        _SUMMARY
        + """
        WHERE t.sweep_id = :sweep_id AND t.id > :after_id
          AND (CAST(:status AS text) IS NULL OR t.status = :status)
        ORDER BY t.id LIMIT :limit
    """
    )
    values = {"sweep_id": sweep_id, "status": status, "after_id": after_id, "limit": limit}
    return read_rows(TrainingRow, session.execute(statement, values))


def find_training(session: Session, training_id: int) -> TrainingRow | None:
    """Returns one training with its results so far; None where there is none."""
    statement = sql(_SUMMARY + "WHERE t.id = :id")
    return read_row(TrainingRow, session.execute(statement, {"id": training_id}))


def count_trainings(session: Session, sweep_id: int) -> dict[str, int]:
    """Returns a sweep's trainings by state; states without trainings are left out."""
    statement = sql("""
        SELECT status, count(*) AS n FROM trainings WHERE sweep_id = :sweep_id GROUP BY status
    """)
    return {row.status: row.n for row in session.execute(statement, {"sweep_id": sweep_id})}


def select_epochs(session: Session, training_ids: Sequence[int]) -> list[EpochRow]:
    """Returns the epochs of trainings, by training and epoch."""
    statement = sql("""
        SELECT training_id, epoch, train_loss, train_accuracy, validation_loss,
            validation_accuracy, learning_rate, seconds, images_per_s, device
        FROM training_epochs WHERE training_id = ANY(:ids) ORDER BY training_id, epoch
    """)
    return read_rows(EpochRow, session.execute(statement, {"ids": list(training_ids)}))


def move_trainings(
    session: Session,
    sweep_id: int,
    training_id: int | None,
    *,
    sources: Sequence[str],
    target: str,
) -> int:
    """Moves trainings of a sweep (all, or one) from ``sources`` to ``target``; returns the number.

    A running training loses its lease, which its worker notices after the next epoch. Attempts are
    counted from zero, and a training that becomes pending is hinted at once.
    """
    chosen = """
        sweep_id = :sweep_id AND status = ANY(:sources)
        AND (CAST(:training_id AS bigint) IS NULL OR id = :training_id)
    """
    end = sql(f"""
        UPDATE leases SET ended_at = clock_timestamp(), outcome = :outcome
        WHERE ended_at IS NULL AND token IN (SELECT lease_token FROM trainings WHERE {chosen})
    """)  # noqa: S608
    move = sql(f"""
        UPDATE trainings SET status = :target, lease_token = NULL, hinted_at = NULL,
            attempt = 0, error = NULL,
            finished_at = CASE WHEN :target = 'cancelled' THEN clock_timestamp() END
        WHERE {chosen}
    """)  # noqa: S608
    values = {
        "sweep_id": sweep_id,
        "training_id": training_id,
        "sources": list(sources),
    }
    outcome = "cancelled" if target == "cancelled" else "released"
    session.execute(end, values | {"outcome": outcome})
    return affected_rows(session.execute(move, values | {"target": target}))
