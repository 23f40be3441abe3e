"""When this worker times the reference networks: after its first timings, regularly, and last."""

import time
import uuid
from collections.abc import Sequence

import structlog
from sqlalchemy.orm import Session, sessionmaker

from services.calibration.references import note_reference_run
from shared.db.availability import DATABASE_UNAVAILABLE, log_unavailable
from shared.domain.measurements import JobOutcome
from shared.domain.reference_set import EVERY_S, EVERY_TIMINGS
from worker.device import Device
from worker.device_lock import DeviceLock
from worker.engine.device_access import DeviceMeter, Progress
from worker.engine.faults import classify
from worker.engine.references import time_references

log = structlog.get_logger(__name__)

IDLE_S = 5.0  # without timings for this long, the references are timed once more
LAST_S = 10.0  # the time limit of the last run, when the process ends


class _GaveUp(BaseException):
    """Raised between steps of a run that has no more time."""


class References:
    """Times the reference networks on one device, between other work."""

    def __init__(
        self,
        session_factory: sessionmaker[Session],
        worker_id: uuid.UUID,
        device: Device,
        meter: DeviceMeter,
    ) -> None:
        self._session_factory = session_factory
        self._worker_id = worker_id
        self._device = device
        self._meter = meter
        self._timings = 0  # since the last run
        self._timed_at = 0.0
        self._ran_at: float | None = None

    def note(self, outcomes: Sequence[JobOutcome]) -> None:
        """Counts timings that were written."""
        timings = [outcome.timing for outcome in outcomes]
        timings += [trial.throughput for outcome in outcomes for trial in outcome.trials]
        made = sum(timing is not None and timing.conditions is not None for timing in timings)
        if made:
            self._timings += made
            self._timed_at = time.monotonic()

    def keep_up(self, on_progress: Progress) -> None:
        """Times the references if it is time; ``on_progress`` may end that by raising."""
        if self._timings and (
            self._ran_at is None
            or self._timings >= EVERY_TIMINGS
            or time.monotonic() - self._ran_at > EVERY_S
        ):
            self._run(on_progress)

    def conclude_if_idle(self) -> None:
        """Times the references once more where nothing has been timed for a while."""
        if self._timings and time.monotonic() - self._timed_at > IDLE_S:
            self._run(_time_limit(EVERY_S))

    def conclude(self) -> None:
        """Times the references a last time, if anything was timed since the last one."""
        if self._timings:
            self._run(_time_limit(LAST_S))

    def _run(self, on_progress: Progress) -> None:
        """Times and records; whatever keeps it from that is logged, and the next run covers both.

        Raises:
            DevicePoisonedError: the process must end.
        """
        try:
            speeds, conditions = time_references(
                self._device.torch_device,
                DeviceLock(self._device.lock_path),
                self._meter,
                on_progress,
            )
        except _GaveUp:
            log.warning("references_not_timed", reason="no time was left")
            return
        except RuntimeError as error:
            fault = classify(error, self._device.torch_device)
            if fault is None:
                raise
            self._ran_at = time.monotonic()
            log.warning("references_not_timed", reason=fault.cause)
            return
        try:
            with self._session_factory.begin() as session:
                drift = note_reference_run(
                    session,
                    self._worker_id,
                    device_class=self._device.device_class,
                    device=self._device.model,
                    versions=self._device.versions,
                    images_per_s=speeds,
                    conditions=conditions,
                )
        except DATABASE_UNAVAILABLE as error:
            log_unavailable(error)
            return
        self._timings, self._ran_at = 0, time.monotonic()
        change = drift.speed_change and round(drift.speed_change, 4)
        log.info("references_timed", speed_change=change, invalidated=drift.invalidated)


def _time_limit(s: float) -> Progress:
    deadline = time.monotonic() + s

    def check() -> None:
        if time.monotonic() > deadline:
            raise _GaveUp

    return check
