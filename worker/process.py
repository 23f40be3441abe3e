"""The worker process: its device, its row in the workers table, its heartbeat, its Celery loop."""

import os
import socket
import uuid
from collections.abc import Sequence
from contextlib import suppress

import structlog
from celery.worker import state
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from services.leasing import device_leases
from services.monitoring import workers
from shared.db.session import make_engine, make_session_factory
from shared.domain.errors import DeviceUnavailableError
from shared.logs import configure_logging
from shared.messaging.queue import make_celery
from shared.settings import Settings
from shared.version import code_version
from worker.device import Device, list_devices
from worker.engine.evaluate import evaluate_group
from worker.engine.timing import DeviceLock
from worker.evaluation.executor import Evaluate, Executor
from worker.heartbeat import HUNG_STATUS, Heartbeat
from worker.metrics import serve_metrics
from worker.placement import place_worker
from worker.preparation import available_datasets
from worker.tasks import register_tasks
from worker.training.trainer import Trainer

log = structlog.get_logger(__name__)

STALLED_S = 10.0  # a transaction whose worker is out of reach gives its locks back after this
PING_AFTER_S = 1.0  # between one group and the next the connection is taken for good


def run_worker(
    settings: Settings,
    evaluate: Evaluate = evaluate_group,
    devices: Sequence[Device] | None = None,
) -> int:
    """Works until told to stop by SIGTERM or SIGINT; returns the exit status.

    One process drives one device, in Celery's solo pool: CUDA does not survive a fork.

    Args:
        devices: those to choose from, where they are not the machine's own.

    Raises:
        DeviceUnavailableError: the device of the settings is not there.
        UnavailableError: its metrics cannot be served where the settings say.
    """
    configure_logging(settings)
    found = devices or list_devices(
        settings.device, settings.memory_budget, settings.workers_per_device
    )
    worker_id = uuid.uuid4()
    structlog.contextvars.bind_contextvars(worker_id=str(worker_id))
    engine = make_engine(
        settings, pool_size=2, idle_in_transaction_s=STALLED_S, ping_after_s=PING_AFTER_S
    )
    session_factory = make_session_factory(engine)
    _register(session_factory, worker_id, found[0], settings)
    heartbeat = _start_heartbeat(settings, worker_id)
    try:
        device = place_worker(session_factory, worker_id, found, settings)
        if device is None:
            return 0
        if device.uuid is not None:
            heartbeat.hold_device(_end_softly)
        _try_lock(device)
        executor = Executor(
            settings, session_factory, device, worker_id, heartbeat, _should_stop, evaluate
        )
        trainer = Trainer(
            settings, session_factory, device, worker_id, heartbeat, _should_stop,
            executor.readiness, executor.metrics,
        )  # fmt: skip
        return _serve(settings, executor, trainer, device)
    finally:
        heartbeat.stop()
        # without the note the worker counts as gone two minutes after its last beat
        with suppress(OperationalError, InterfaceError), session_factory.begin() as session:
            device_leases.give_back_device(session, worker_id)
            workers.note_worker_stopped(session, worker_id)


def _start_heartbeat(settings: Settings, worker_id: uuid.UUID) -> Heartbeat:
    heartbeat = Heartbeat(
        make_session_factory(make_engine(settings, pool_size=1)),
        worker_id,
        lease_s=settings.lease_s,
        progress_deadline_s=settings.progress_deadline_s,
        alive_file=settings.alive_file,
    )
    heartbeat.start()
    return heartbeat


def _serve(settings: Settings, executor: Executor, trainer: Trainer, device: Device) -> int:
    """Takes messages until told to stop; returns the exit status."""
    app = make_celery(settings)
    register_tasks(app, executor, trainer)
    log.info("worker_started", device=device.model)
    serve_metrics(executor.metrics, settings)
    celery_worker = app.Worker(
        pool="solo",
        concurrency=1,
        hostname=f"{executor.worker_id}@{socket.gethostname()}",
        without_gossip=True,
        without_mingle=True,
        loglevel=settings.log_level.upper(),
    )
    celery_worker.start()
    return int(celery_worker.exitcode or 0)


def _end_softly() -> None:
    """Lets this process hand back what it has in hand and end; whoever watches it starts it again.

    Celery looks at this between messages, and the engine between its steps.
    """
    state.should_stop = HUNG_STATUS


def _try_lock(device: Device) -> None:
    try:
        with DeviceLock(device.lock_path).shared(lambda: None):
            pass
    except OSError as error:
        raise DeviceUnavailableError(
            f"The lock of this device cannot be opened: {error}. Another user may have made it."
        ) from error


def _should_stop() -> bool:
    wishes = (state.should_stop, state.should_terminate)
    return any(wish is not None and wish is not False for wish in wishes)


def _register(
    session_factory: sessionmaker[Session],
    worker_id: uuid.UUID,
    device: Device,
    settings: Settings,
) -> None:
    with session_factory.begin() as session:
        workers.register_worker(
            session,
            worker_id,
            hostname=socket.gethostname(),
            pid=os.getpid(),
            device_class=device.device_class,
            device=device.model,
            code_version=code_version(),
            datasets=available_datasets(settings.data_dir),
        )
