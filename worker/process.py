"""The worker process: its device, its row in the workers table, its heartbeat, its Celery loop."""

import os
import socket
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog
from celery.worker import state
from sqlalchemy.orm import Session, sessionmaker

from services.leasing import device_leases
from services.monitoring import workers
from shared.db.availability import DATABASE_UNAVAILABLE
from shared.db.session import make_engine, make_session_factory
from shared.domain.errors import DeviceUnavailableError
from shared.logs import configure_logging
from shared.messaging.broker import connect_broker
from shared.messaging.queue import make_celery
from shared.settings import Settings
from shared.version import code_version
from worker.device import Device, list_devices
from worker.device_lock import DeviceLock
from worker.device_meter import meter_of
from worker.evaluation.executor import Executor
from worker.evaluation.request import Evaluate, evaluate_on_device
from worker.heartbeat import HUNG_STATUS, Heartbeat
from worker.lease_runner import LeaseRunner
from worker.metrics import WorkerMetrics, serve_metrics
from worker.placement import place_worker
from worker.preparation import Preparation, available_datasets
from worker.problems import Problems, WaitingReport
from worker.references import IDLE_S, References
from worker.refused_messages import MessageFilter
from worker.tasks import register_tasks
from worker.training.trainer import Trainer

log = structlog.get_logger(__name__)

BROKER_TIMEOUT_S = 1.0  # for keeping a refused message
STALLED_S = 10.0  # Postgres ends the transaction of an unreachable worker after this
PING_AFTER_S = 1.0  # a connection idle for less than this is not checked before use


def run_worker(
    settings: Settings,
    evaluate: Evaluate = evaluate_on_device,
    devices: Sequence[Device] | None = None,
) -> int:
    """Works until SIGTERM or SIGINT; returns the exit status.

    One process drives one device, in Celery's solo pool: CUDA does not survive a fork.

    Args:
        devices: the devices to choose from instead of the machine's own.

    Raises:
        DeviceUnavailableError: this machine lacks the device of the settings.
        UnavailableError: the metrics cannot be served at the address of the settings.
    """
    configure_logging(settings)
    candidates = devices or list_devices(
        settings.device, settings.runtime_dir, settings.memory_budget, settings.workers_per_device
    )
    worker_id = uuid.uuid4()
    structlog.contextvars.bind_contextvars(worker_id=str(worker_id))
    session_factory = make_session_factory(
        make_engine(
            settings, pool_size=2, idle_in_transaction_s=STALLED_S, ping_after_s=PING_AFTER_S
        )
    )
    _register(session_factory, worker_id, candidates[0], settings)
    heartbeat = _start_heartbeat(settings, worker_id)
    try:
        device = place_worker(session_factory, worker_id, candidates, settings)
        if device is None:
            return 0
        return _work_on(device, settings, session_factory, worker_id, heartbeat, evaluate)
    finally:
        heartbeat.stop()
        _sign_off(session_factory, worker_id)


def _work_on(
    device: Device,
    settings: Settings,
    session_factory: sessionmaker[Session],
    worker_id: uuid.UUID,
    heartbeat: Heartbeat,
    evaluate: Evaluate,
) -> int:
    """Takes messages for a device until a signal ends this process; returns the exit status."""
    if device.uuid is not None:
        heartbeat.hold_device(_request_shutdown)
    _try_lock(device, WaitingReport(session_factory, worker_id))
    metrics = WorkerMetrics(str(worker_id), device)
    runner = LeaseRunner(settings, session_factory, heartbeat, metrics, _should_stop)
    duties = make_duties(settings, session_factory, device, worker_id, runner, metrics, evaluate)
    log.info("worker_started", device=device.model)
    serve_metrics(metrics, settings)
    return _serve(settings, worker_id, duties, metrics)


def _sign_off(session_factory: sessionmaker[Session], worker_id: uuid.UUID) -> None:
    """Returns the device and ends the worker's row.

    Without this, the worker is listed for two minutes after its last beat.
    """
    with suppress(*DATABASE_UNAVAILABLE), session_factory.begin() as session:
        device_leases.give_back_device(session, worker_id)
        workers.note_worker_stopped(session, worker_id)


@dataclass(frozen=True, slots=True)
class Duties:
    """What a worker does: it evaluates groups and trains networks."""

    executor: Executor
    trainer: Trainer
    references: References


def make_duties(
    settings: Settings,
    session_factory: sessionmaker[Session],
    device: Device,
    worker_id: uuid.UUID,
    runner: LeaseRunner,
    metrics: WorkerMetrics,
    evaluate: Evaluate = evaluate_on_device,
) -> Duties:
    """Returns the duties of a worker on one device; they share its lease runner."""
    report = WaitingReport(session_factory, worker_id)
    meter = meter_of(device)
    references = References(session_factory, worker_id, device, meter)
    preparation = Preparation(
        session_factory,
        worker_id,
        device,
        settings.data_dir,
        # a hint that comes after the resend time finds the worker ready to look again
        Problems(session_factory, worker_id, settings.resend_s / 2),
        max_dataset_bytes=settings.max_dataset_bytes,
        shares_device=device.uuid is not None and settings.workers_per_device > 1,
    )
    return Duties(
        Executor(
            settings, device, worker_id, runner, preparation, metrics, evaluate, report, meter,
            references,
        ),
        Trainer(settings, session_factory, device, worker_id, runner, preparation, metrics, report),
        references,
    )  # fmt: skip


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


def _serve(settings: Settings, worker_id: uuid.UUID, duties: Duties, metrics: WorkerMetrics) -> int:
    """Takes messages until a signal ends this process; returns the exit status."""
    app = make_celery(settings)
    broker = connect_broker(settings, BROKER_TIMEOUT_S)
    MessageFilter(broker, metrics.note_refused_message).install(app)
    register_tasks(app, duties.executor, duties.trainer, _should_stop)
    celery_worker = app.Worker(
        pool="solo",
        concurrency=1,
        hostname=f"{worker_id}@{socket.gethostname()}",
        without_gossip=True,
        without_mingle=True,
        loglevel=settings.log_level.upper(),
    )
    # in the thread that does the work, between messages
    celery_worker.timer.call_repeatedly(IDLE_S, duties.references.conclude_if_idle)
    celery_worker.start()
    if not celery_worker.exitcode:
        duties.references.conclude()
    return int(celery_worker.exitcode or 0)


def _request_shutdown() -> None:
    """Lets this process release its lease and end; its supervisor starts it again.

    Celery checks this between messages, and the work between its steps.
    """
    state.should_stop = HUNG_STATUS


def _try_lock(device: Device, report: WaitingReport) -> None:
    try:
        with DeviceLock(device.lock_path, report).shared(lambda: None):
            pass
    except OSError as error:
        raise DeviceUnavailableError(
            f"The lock of this device cannot be opened: {error}. "
            "CONVSWEEP_RUNTIME_DIR names another folder for it."
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
            datasets=available_datasets(settings.data_dir, settings.max_dataset_bytes),
        )
