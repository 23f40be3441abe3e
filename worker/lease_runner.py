"""Work under a lease: claiming it, doing it, and writing how it ended; for groups and trainings."""

import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol as Interface
from typing import TypeVar

import structlog
from sqlalchemy.orm import Session, sessionmaker

from services.leasing import group_leases
from shared.db.availability import DATABASE_UNAVAILABLE, retry_while_unavailable
from shared.domain.errors import DevicePoisonedError, StaleLeaseError
from shared.settings import Settings
from worker.heartbeat import Heartbeat
from worker.metrics import WorkerMetrics, WorkKind

log = structlog.get_logger(__name__)

Found = TypeVar("Found")

RETRY_PAUSE_S = 0.5


class Released(BaseException):
    """Raised inside the work to end it: what was claimed returns and consumes no attempt."""


class Lease(Interface):
    """One lease of one kind of work: how it begins and how it ends in the database."""

    @property
    def kind(self) -> WorkKind: ...

    @property
    def token(self) -> uuid.UUID: ...

    @property
    def facts(self) -> dict[str, object]:
        """What the log says about work that did not complete."""

    @property
    def permanent_errors(self) -> tuple[type[Exception], ...]:
        """Errors that another attempt would only repeat."""

    def claim(self, session: Session) -> bool:
        """Takes the work; False where there is nothing to take."""

    def decline(self, session: Session) -> None:
        """Defers the hint, because this worker cannot serve it."""

    def release(self, session: Session) -> None:
        """Returns the work; consumes no attempt."""

    def fail(self, session: Session, error: str, max_attempts: int) -> None:
        """Returns the work; consumes an attempt, and ends the work after the last one."""


class LeaseRunner:
    """Runs leased work on one device, one lease after another."""

    def __init__(
        self,
        settings: Settings,
        session_factory: sessionmaker[Session],
        heartbeat: Heartbeat,
        metrics: WorkerMetrics,
        should_stop: Callable[[], bool],
        *,
        retry_pause_s: float = RETRY_PAUSE_S,
    ) -> None:
        self._max_attempts = settings.max_attempts
        self._retry_s = settings.lease_s  # afterwards the lease is over anyway
        self._session_factory = session_factory
        self._heartbeat = heartbeat
        self._metrics = metrics
        self.should_stop = should_stop
        self._retry_pause_s = retry_pause_s

    def claim(self, lease: Lease) -> bool:
        """Takes the lease; False where there is nothing to take."""
        try:
            with self._session_factory.begin() as session:
                return lease.claim(session)
        except DATABASE_UNAVAILABLE:
            # The commit may have succeeded without an answer; only this worker knows the token.
            with suppress(*DATABASE_UNAVAILABLE), self._session_factory.begin() as again:
                lease.release(again)
                lease.decline(again)
            raise

    def read(self, look: Callable[[Session], Found]) -> Found:
        """Returns what ``look`` finds in the database."""
        with self._session_factory() as session:
            return look(session)

    def decline(self, lease: Lease) -> None:
        """Defers a hint that this worker cannot serve."""
        with self._session_factory.begin() as session:
            lease.decline(session)

    def run(self, lease: Lease, work: Callable[[], None]) -> None:
        """Does the work under a claimed lease and ends the lease in every case.

        ``work`` completes the lease by ``complete`` before it returns.

        Raises:
            DevicePoisonedError: the process must end; the work returned and consumed an attempt.
        """
        self._heartbeat.hold(lease.token)
        self._metrics.note_busy(True)
        try:
            work()
            self._metrics.note_end(lease.kind, "completed")
        except Released:
            self._release(lease)
        except StaleLeaseError as error:
            self._metrics.note_end(lease.kind, "stale")
            log.warning(f"{lease.kind}_dropped", **lease.facts, reason=error.message)
        except DevicePoisonedError as error:
            self._fail(lease, error, self._max_attempts)
            raise
        except Exception as error:
            log.exception(f"{lease.kind}_failed", **lease.facts)
            permanent = isinstance(error, lease.permanent_errors)
            self._fail(lease, error, 1 if permanent else self._max_attempts)
        finally:
            self._metrics.note_busy(False)
            self._heartbeat.drop()

    def report_progress(self) -> None:
        """Records that the work makes progress; to be called between its steps.

        Raises:
            StaleLeaseError: the lease is over.
            Released: the worker was asked to stop.
        """
        self._heartbeat.progress()
        self._heartbeat.check()
        if self.should_stop():
            raise Released

    def write(self, change: Callable[[Session], object]) -> None:
        """Commits a change; repeats it for the length of a lease while Postgres is unavailable."""
        self._retry(lambda: self._commit(change))

    def complete(self, lease: Lease, change: Callable[[Session], object]) -> None:
        """Commits the change that completes the lease, or finds that it was committed before.

        Raises:
            StaleLeaseError: the lease ended before; nothing was written.
        """
        self._retry(lambda: self._complete_once(lease, change))

    def _retry(self, call: Callable[[], None]) -> None:
        retry_while_unavailable(max_s=self._retry_s, pause_s=self._retry_pause_s)(call)

    def _commit(self, change: Callable[[Session], object]) -> None:
        with self._session_factory.begin() as session:
            change(session)

    def _complete_once(self, lease: Lease, change: Callable[[Session], object]) -> None:
        try:
            self._commit(change)
        except StaleLeaseError:
            with self._session_factory() as session:
                if not group_leases.has_completed(session, lease.token):
                    self._metrics.note_stale_completion()
                    raise
            log.info("completion_found_written")

    def _release(self, lease: Lease) -> None:
        self._metrics.note_end(lease.kind, "released")
        with self._session_factory.begin() as session:
            lease.release(session)
        log.info(f"{lease.kind}_released", **lease.facts)

    def _fail(self, lease: Lease, error: Exception, max_attempts: int) -> None:
        self._metrics.note_end(lease.kind, "failed")
        text = f"{type(error).__name__}: {error}"[:2000]
        with self._session_factory.begin() as session:
            lease.fail(session, text, max_attempts)
