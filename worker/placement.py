"""Assigning a device to a worker: the processor, or a GPU that no other worker uses."""

import signal
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import structlog
from sqlalchemy.orm import Session, sessionmaker

from services.leasing import device_leases
from services.monitoring import workers
from shared.db.availability import DATABASE_UNAVAILABLE, log_unavailable
from shared.settings import Settings
from worker.device import Device

log = structlog.get_logger(__name__)

LOOK_AGAIN_S = 1.0


def place_worker(
    session_factory: sessionmaker[Session],
    worker_id: uuid.UUID,
    devices: Sequence[Device],
    settings: Settings,
) -> Device | None:
    """Returns a device, or a share of one, for this worker; None after a signal to stop.

    Waits while other workers use every GPU and reports that with the worker. Any number of workers
    may use a processor.
    """
    by_uuid = {device.uuid: device for device in devices if device.uuid is not None}
    if not by_uuid:
        return devices[0]
    said = False
    with stop_signal() as stopped:
        while not stopped.is_set():
            try:
                taken = _take(session_factory, worker_id, list(by_uuid), settings)
                if taken is not None:
                    return _start_on(session_factory, worker_id, by_uuid[taken])
                if not said:
                    report_waiting(session_factory, worker_id, len(by_uuid), settings)
                said = True
            except DATABASE_UNAVAILABLE as error:
                log_unavailable(error)
            stopped.wait(LOOK_AGAIN_S)
    return None


def _take(
    session_factory: sessionmaker[Session],
    worker_id: uuid.UUID,
    device_uuids: Sequence[str],
    settings: Settings,
) -> str | None:
    with session_factory.begin() as session:
        return device_leases.take_device(
            session,
            worker_id,
            device_uuids,
            workers_per_device=settings.workers_per_device,
            lease_s=settings.lease_s,
        )


def _start_on(
    session_factory: sessionmaker[Session], worker_id: uuid.UUID, device: Device
) -> Device:
    with session_factory.begin() as session:
        workers.note_worker_device(session, worker_id, device.model)
    log.info("device_taken", uuid=device.uuid, device=device.model)
    return device


def report_waiting(
    session_factory: sessionmaker[Session], worker_id: uuid.UUID, gpus: int, settings: Settings
) -> None:
    problem = (
        f"No GPU is free: other workers have this machine's ({gpus}, up to "
        f"{settings.workers_per_device} on each). This one waits until one ends; "
        "CONVSWEEP_WORKERS_PER_DEVICE lets more of them share a GPU."
    )
    with session_factory.begin() as session:
        workers.note_worker_waiting(session, worker_id, problem)
    log.warning("waiting_for_device", problem=problem)


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """Yields an event that SIGTERM and SIGINT set; restores their handlers afterwards."""
    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
