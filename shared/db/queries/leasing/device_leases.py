"""SQL about who has which GPU."""

import uuid

from sqlalchemy.orm import Session

from shared.db.queries.statements import sql


def take_slot(
    session: Session, device_uuid: str, slot: int, worker_id: uuid.UUID, lease_s: float
) -> bool:
    """Makes a share of a device the worker's own; False where another worker's lease on it holds.

    Of two that ask at once the second waits for the first one's commit.
    """
    statement = sql("""
        INSERT INTO device_leases AS held (device_uuid, slot, worker_id, expires_at)
        VALUES (:device_uuid, :slot, :worker_id,
                clock_timestamp() + make_interval(secs => :lease_s))
        ON CONFLICT (device_uuid, slot) DO UPDATE
            SET worker_id = excluded.worker_id, expires_at = excluded.expires_at
            WHERE held.expires_at < clock_timestamp()
        RETURNING slot
    """)
    values = {
        "device_uuid": device_uuid, "slot": slot, "worker_id": worker_id, "lease_s": lease_s,
    }  # fmt: skip
    return session.execute(statement, values).scalar_one_or_none() is not None


def renew_slot(session: Session, worker_id: uuid.UUID, lease_s: float) -> bool:
    """Keeps a worker's device for another ``lease_s`` seconds; False where it has none any more.

    One that is late keeps its device as long as nobody else has taken it.
    """
    statement = sql("""
        UPDATE device_leases SET expires_at = clock_timestamp() + make_interval(secs => :lease_s)
        WHERE worker_id = :worker_id RETURNING slot
    """)
    values = {"worker_id": worker_id, "lease_s": lease_s}
    return session.execute(statement, values).scalar_one_or_none() is not None


def delete_slot(session: Session, worker_id: uuid.UUID) -> None:
    """Frees a worker's device."""
    statement = sql("DELETE FROM device_leases WHERE worker_id = :worker_id")
    session.execute(statement, {"worker_id": worker_id})
