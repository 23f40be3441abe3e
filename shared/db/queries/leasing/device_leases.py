"""SQL about leases of devices: which worker may compute on which share of a GPU."""

import uuid

from sqlalchemy.orm import Session

from shared.db.queries.statements import sql


def take_slot(
    session: Session, device_uuid: str, slot: int, worker_id: uuid.UUID, lease_s: float
) -> bool:
    """Leases a share of a device to a worker; False while another worker's lease on it holds.

    Of two calls at once the second waits for the commit of the first.
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
    """Extends a worker's device lease to ``lease_s`` seconds from now; False if it has none.

    A late renewal succeeds as long as no other worker has taken the device.
    """
    statement = sql("""
        UPDATE device_leases SET expires_at = clock_timestamp() + make_interval(secs => :lease_s)
        WHERE worker_id = :worker_id RETURNING slot
    """)
    values = {"worker_id": worker_id, "lease_s": lease_s}
    return session.execute(statement, values).scalar_one_or_none() is not None


def delete_slot(session: Session, worker_id: uuid.UUID) -> None:
    """Ends a worker's device lease."""
    statement = sql("DELETE FROM device_leases WHERE worker_id = :worker_id")
    session.execute(statement, {"worker_id": worker_id})
