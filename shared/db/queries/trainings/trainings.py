"""SQL about trainings: adding, steering, reading them and their curves."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from shared.db.queries.statements import affected_rows, sql

_SUMMARY = """
    SELECT t.*, j.channels, j.kernel_size, j.stride, j.dilation, j.padding,
        j.activation, j.architecture_hash, j.accuracy AS probe_accuracy,
        j.parameters AS searched_parameters, j.flops, j.ratio,
        e.device, e.device_class, e.dataset_hash, e.code_version, e.versions,
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


def insert_trainings(session: Session, rows: Sequence[dict[str, Any]]) -> int:
    """Adds trainings: ``sweep_id job_id recipe recipe_hash epochs``; returns how many are new.

    A job has one training per recipe: those that are there already stay as they are.
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


def select_trainings_of(session: Session, keys: Sequence[tuple[int, str]]) -> list[Row[Any]]:
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
    return list(session.execute(statement, values))


def select_trainings(
    session: Session, sweep_id: int, *, status: str | None, after_id: int, limit: int
) -> list[Row[Any]]:
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
    return list(session.execute(statement, values))


def find_training(session: Session, training_id: int) -> Row[Any] | None:
    """Returns one training with its results so far."""
    statement = sql(_SUMMARY + "WHERE t.id = :id")
    return session.execute(statement, {"id": training_id}).one_or_none()


def count_trainings(session: Session, sweep_id: int) -> dict[str, int]:
    """Returns how many trainings a sweep has in each state; states without any are left out."""
    statement = sql("""
        SELECT status, count(*) AS n FROM trainings WHERE sweep_id = :sweep_id GROUP BY status
    """)
    return {row.status: row.n for row in session.execute(statement, {"sweep_id": sweep_id})}


def select_epochs(session: Session, training_ids: Sequence[int]) -> list[Row[Any]]:
    """Returns the epochs of trainings, by training and epoch."""
    statement = sql("""
        SELECT * FROM training_epochs WHERE training_id = ANY(:ids) ORDER BY training_id, epoch
    """)
    return list(session.execute(statement, {"ids": list(training_ids)}))


def move_trainings(
    session: Session,
    sweep_id: int,
    training_id: int | None,
    *,
    sources: Sequence[str],
    target: str,
) -> int:
    """Moves trainings of a sweep (all, or one) from some states to another; returns how many.

    A running one loses its lease, which its worker notices with the next epoch. One that waits
    again has all its attempts before it and is hinted at once.
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
