"""SQL about the datasets that workers measure on: a sweep's pinned content, and labels."""

import uuid

from sqlalchemy.orm import Session

from shared.db.queries.statements import sql


def pin_dataset(session: Session, sweep_id: int, dataset_hash: str, token: uuid.UUID) -> str | None:
    """Pins a sweep to ``dataset_hash`` unless it is pinned already; returns its pinned hash.

    Only an open lease can pin. This locks the sweep, so it must come before every statement that
    ends a lease or changes jobs.
    """
    statement = sql("""
        UPDATE sweeps SET dataset_hash = :dataset_hash
        WHERE id = :sweep_id AND dataset_hash IS NULL
          AND EXISTS (SELECT FROM leases WHERE token = :token AND ended_at IS NULL)
    """)
    values = {"sweep_id": sweep_id, "dataset_hash": dataset_hash, "token": token}
    session.execute(statement, values)
    pinned = sql("SELECT dataset_hash FROM sweeps WHERE id = :sweep_id")
    content: str | None = session.execute(pinned, {"sweep_id": sweep_id}).scalar_one()
    return content


def insert_labels(session: Session, dataset_hash: str, labels: list[int]) -> None:
    """Adds the labels of a dataset's validation images, unless they are there."""
    statement = sql("""
        INSERT INTO dataset_labels (dataset_hash, labels) VALUES (:dataset_hash, :labels)
        ON CONFLICT (dataset_hash) DO NOTHING
    """)
    session.execute(statement, {"dataset_hash": dataset_hash, "labels": labels})
