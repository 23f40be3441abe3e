"""One worker per GPU: a worker takes one that is free, renews it, and gives it back."""

import uuid
from collections.abc import Sequence
from itertools import product

from sqlalchemy.orm import Session

from shared.db.queries.leasing import device_leases as device_queries
from shared.domain.errors import StaleLeaseError


def take_device(
    session: Session,
    worker_id: uuid.UUID,
    device_uuids: Sequence[str],
    *,
    workers_per_device: int,
    lease_s: float,
) -> str | None:
    """Returns the UUID of a device that is the worker's from now on; None where all are taken.

    A device is shared only when every one has a worker, and by ``workers_per_device`` at most.
    """
    for slot, device_uuid in product(range(workers_per_device), device_uuids):
        if device_queries.take_slot(session, device_uuid, slot, worker_id, lease_s):
            return device_uuid
    return None


def renew_device(session: Session, worker_id: uuid.UUID, lease_s: float) -> None:
    """Keeps the worker's device for another ``lease_s`` seconds by the database's clock.

    Raises:
        StaleLeaseError: the lease ran out and another worker has the device.
    """
    if not device_queries.renew_slot(session, worker_id, lease_s):
        raise StaleLeaseError("Another worker has taken this worker's device.")


def give_back_device(session: Session, worker_id: uuid.UUID) -> None:
    """Frees the worker's device for the next one."""
    device_queries.delete_slot(session, worker_id)
