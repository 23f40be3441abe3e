"""The worker's heartbeat: renews the current lease and shows that the worker is alive."""

import os
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from services.leasing import device_leases, group_leases
from services.monitoring import workers
from shared.domain.errors import StaleLeaseError

log = structlog.get_logger(__name__)

HUNG_STATUS = 75  # EX_TEMPFAIL, "try again": the supervisor restarts this process


class Heartbeat(threading.Thread):
    """Beats in a thread with its own database connection until stopped.

    A held lease is renewed only while the work makes progress. A hung device would keep its jobs
    forever, and a process that waits for one cannot recover, so the heartbeat ends the process. A
    lease that has ended makes the next ``check`` raise.
    """

    def __init__(
        self,
        session_factory: sessionmaker[Session],
        worker_id: uuid.UUID,
        *,
        lease_s: float,
        progress_deadline_s: float,
        alive_file: Path | None = None,
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._session_factory = session_factory
        self._worker_id = worker_id
        self._lease_s = lease_s
        self._progress_deadline_s = progress_deadline_s
        self._alive_file = alive_file
        self._on_device_lost: Callable[[], None] | None = None
        self._stopped = threading.Event()
        self._token: uuid.UUID | None = None
        self._lost: uuid.UUID | None = None
        self._progress_at = time.monotonic()

    def hold(self, token: uuid.UUID) -> None:
        """Starts renewing the lease ``token``."""
        self.progress()
        self._token = token

    def drop(self) -> None:
        """Stops renewing."""
        self._token = None

    def hold_device(self, on_lost: Callable[[], None]) -> None:
        """Starts renewing the worker's device; ``on_lost`` is called when another worker has it."""
        self._on_device_lost = on_lost

    def progress(self) -> None:
        """Records that the work makes progress."""
        self._progress_at = time.monotonic()

    def check(self) -> None:
        """Returns while the current lease is valid.

        Raises:
            StaleLeaseError: the lease is over; the work is in vain.
        """
        if self._token is not None and self._lost == self._token:
            raise StaleLeaseError("The lease ended while its work ran.")

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()
        self.join()

    def run(self) -> None:
        structlog.contextvars.bind_contextvars(worker_id=str(self._worker_id))
        self._show_life()
        while not self._stopped.wait(self._lease_s / 4):
            self._show_life()
            try:
                self._beat()
            except SQLAlchemyError as error:
                # the lease outlasts several beats; the next one uses a fresh connection
                log.warning("heartbeat_failed", error=str(error).splitlines()[0])
            except Exception:
                # a worker without a heartbeat loses every lease; a new process is better
                log.exception("heartbeat_broken")
                os._exit(HUNG_STATUS)

    def _beat(self) -> None:
        token = self._token
        idle_s = time.monotonic() - self._progress_at
        if token is not None and idle_s > self._progress_deadline_s:
            log.critical("no_progress", token=str(token), idle_s=round(idle_s))
            os._exit(HUNG_STATUS)
        with self._session_factory.begin() as session:
            workers.note_worker_seen(session, self._worker_id)
            self._renew_device(session)
            if token is None:
                return
            try:
                group_leases.renew_lease(session, token, self._lease_s)
            except StaleLeaseError:
                self._lost = token

    def _renew_device(self, session: Session) -> None:
        if self._on_device_lost is None:
            return
        try:
            device_leases.renew_device(session, self._worker_id, self._lease_s)
        except StaleLeaseError as error:
            log.critical("device_lost", error=error.message)
            self._on_device_lost()
            self._on_device_lost = None

    def _show_life(self) -> None:
        if self._alive_file is not None:
            self._alive_file.touch()
