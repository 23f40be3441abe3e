"""From a hint to results in Postgres: claim a group, evaluate it, complete it."""

import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from sqlalchemy.orm import Session
from structlog.contextvars import bound_contextvars

from services.leasing import group_leases
from services.leasing.group_leases import Claim
from shared.domain.errors import DatasetMismatchError
from shared.domain.measurements import JobOutcome
from shared.domain.protocol import Protocol
from shared.domain.status import JobStatus
from shared.settings import Settings
from worker.device import Device
from worker.device_lock import ReportWaiting
from worker.engine.device_access import DeviceMeter
from worker.evaluation.request import Evaluate, GroupRequest
from worker.lease_runner import LeaseRunner, Released
from worker.metrics import WorkerMetrics, WorkKind
from worker.preparation import Preparation, PreparedSweep
from worker.references import References

log = structlog.get_logger(__name__)

TIME_AGAIN_S = 60.0  # a device that was too slow to be timed is tried again after this
FIRST_CLAIM_JOBS = 4  # before the first claim of a sweep the cost of its jobs is unknown


@dataclass
class GroupLease:
    """A lease of pending jobs of one group."""

    sweep_id: int
    group: int
    worker_id: uuid.UUID
    lease_s: float
    limit: int
    times: bool = True  # whether the worker times every network
    can_time: bool = True  # whether it times those that its device model is asked to
    token: uuid.UUID = field(default_factory=uuid.uuid4)
    kind: WorkKind = "group"
    permanent_errors: tuple[type[Exception], ...] = ()
    held: Claim = field(init=False)

    def __post_init__(self) -> None:
        self.held = Claim(self.token, self.sweep_id, self.group, ())

    @property
    def facts(self) -> dict[str, object]:
        return {"job_ids": [job.id for job in self.held.jobs]}

    def claim(self, session: Session) -> bool:
        claim = group_leases.claim_group(
            session,
            sweep_id=self.sweep_id,
            group=self.group,
            worker_id=self.worker_id,
            lease_s=self.lease_s,
            limit=self.limit,
            times=self.times,
            can_time=self.can_time,
            token=self.token,
        )
        if claim is None:
            return False
        self.held = claim
        return True

    def awaited_models(self, session: Session) -> list[str | None]:
        return group_leases.awaited_models(session, self.sweep_id, self.group)

    def decline(self, session: Session) -> None:
        group_leases.decline_group(session, self.sweep_id, self.group)

    def release(self, session: Session) -> None:
        group_leases.release_claim(session, self.held)

    def fail(self, session: Session, error: str, max_attempts: int) -> None:
        group_leases.fail_claim(session, self.held, error=error, max_attempts=max_attempts)


class Executor:
    """Evaluates groups on one device, one after another."""

    def __init__(
        self,
        settings: Settings,
        device: Device,
        worker_id: uuid.UUID,
        runner: LeaseRunner,
        preparation: Preparation,
        metrics: WorkerMetrics,
        evaluate: Evaluate,
        report_waiting: ReportWaiting,
        meter: DeviceMeter,
        references: References,
    ) -> None:
        self._settings = settings
        self._device = device
        self._worker_id = worker_id
        self._runner = runner
        self._preparation = preparation
        self._metrics = metrics
        self._evaluate = evaluate
        self._report_waiting = report_waiting
        self._meter = meter
        self._references = references
        self._throttled_at: float | None = None
        self._claim_limits: dict[int, int] = {}  # by sweep, once the cost of its jobs is known

    def execute_group(self, sweep_id: int, group: int) -> None:
        """Claims and evaluates the pending jobs of a group until none is left.

        A worker that cannot serve the sweep claims nothing, records the reason and yields to other
        workers.

        Raises:
            DevicePoisonedError: the process must end; the jobs returned and consumed an attempt.
        """
        with bound_contextvars(sweep_id=sweep_id, group=group):
            if self._preparation.is_hindered(sweep_id):
                self._runner.decline(self._lease(sweep_id, group))
                return
            requirements = self._preparation.find_requirements(sweep_id)
            if requirements is None:
                log.info("hint_ignored")
                return
            prepared = self._preparation.prepare(sweep_id, requirements)
            if prepared is None:
                self._runner.decline(self._lease(sweep_id, group))
            else:
                self._claim_all(sweep_id, group, prepared)

    def _claim_all(self, sweep_id: int, group: int, prepared: PreparedSweep) -> None:
        first, more = True, True
        while more and not self._runner.should_stop():
            can_time = prepared.protocol.timing is not None and not self._is_throttled()
            times = can_time and prepared.protocol.timing_model in (None, self._device.model)
            lease = self._lease(sweep_id, group, times=times, can_time=can_time)
            if not self._runner.claim(lease):
                if first:
                    self._pass_on(lease, prepared.protocol)
                return
            first = False
            with bound_contextvars(lease=str(lease.token)):
                self._runner.run(lease, lambda: self._evaluate_claim(lease, prepared))  # noqa: B023
            more = lease.held.leaves_some
            self._time_references()

    def _time_references(self) -> None:
        with suppress(Released):
            self._references.keep_up(self._check_stop)

    def _check_stop(self) -> None:
        if self._runner.should_stop():
            raise Released

    def _is_throttled(self) -> bool:
        """Returns whether the device was too slow to be timed a moment ago."""
        noticed = self._throttled_at
        return noticed is not None and time.monotonic() - noticed < TIME_AGAIN_S

    def _pass_on(self, lease: GroupLease, protocol: Protocol) -> None:
        """Leaves a group whose networks only have to be timed to the workers that do so."""
        models = self._runner.read(lease.awaited_models)
        if not models or (lease.times and None in models):
            return
        if protocol.timing is None:
            problem = (
                "All that is left waits to be timed, which is not possible on a shared device. "
                "Start a worker with CONVSWEEP_WORKERS_PER_DEVICE=1."
            )
        elif lease.can_time:
            if self._device.model in models:
                return  # another worker has just taken them
            names = ", ".join(model for model in models if model)
            problem = (
                f"All that is left waits to be timed on {names}; this worker has "
                f"{self._device.model}. Start a worker on such a device."
            )
        else:
            problem = (
                "All that is left waits to be timed, but this device runs below three quarters of "
                "its default clock. Check its cooling, its power limit and its clock limit "
                "(nvidia-smi -q -d PERFORMANCE,POWER,CLOCK)."
            )
        self._preparation.note_problem(lease.sweep_id, problem)
        self._runner.decline(lease)

    def _lease(
        self, sweep_id: int, group: int, *, times: bool = True, can_time: bool = True
    ) -> GroupLease:
        first = min(FIRST_CLAIM_JOBS, self._settings.claim_jobs)
        limit = self._claim_limits.get(sweep_id, first)
        return GroupLease(
            sweep_id, group, self._worker_id, self._settings.lease_s, limit, times, can_time
        )

    def _evaluate_claim(self, lease: GroupLease, prepared: PreparedSweep) -> None:
        started = time.monotonic()
        jobs = lease.held.jobs
        outcomes = self._evaluate(
            GroupRequest(
                [job.architecture for job in jobs],
                [job.trials for job in jobs],
                [job.timed for job in jobs],
                prepared.dataset,
                prepared.protocol,
                self._device,
                self._runner.report_progress,
                self._report_waiting,
                self._meter,
            )
        )
        if any(outcome.throttled for outcome in outcomes):
            log.warning("device_throttled", device=self._device.model)
            self._throttled_at = time.monotonic()
        self._complete(lease, outcomes, prepared)
        seconds = time.monotonic() - started
        self._fit_claims(lease.sweep_id, seconds / len(jobs))
        log.info("group_completed", jobs=len(jobs), seconds=round(seconds, 3))

    def _fit_claims(self, sweep_id: int, job_s: float) -> None:
        """Sizes a sweep's next claim by the time of its jobs on this device."""
        fitting = int(self._settings.claim_s / max(job_s, 1e-6))
        self._claim_limits[sweep_id] = max(1, min(self._settings.claim_jobs, fitting))

    def _complete(
        self, lease: GroupLease, outcomes: list[JobOutcome], prepared: PreparedSweep
    ) -> None:
        """Writes the results.

        Raises:
            StaleLeaseError: the lease ended before; nothing was written.
            Released: earlier trials used other images; nothing was written.
        """
        started, dataset = time.monotonic(), prepared.dataset
        environment = self._device.environment(dataset.name, dataset.content_hash)
        try:
            self._runner.complete(
                lease,
                lambda session: group_leases.complete_claim(
                    session, lease.held, outcomes, environment
                ),
            )
        except DatasetMismatchError as error:
            self._preparation.note_problem(lease.sweep_id, error.message)
            raise Released from error
        self._metrics.note_outcomes(outcomes, time.monotonic() - started)
        self._references.note(outcomes)
        for job, outcome in zip(lease.held.jobs, outcomes, strict=True):
            if outcome.status is JobStatus.FAILED:
                log.warning("job_failed", job_id=job.id, reason=outcome.reason, error=outcome.error)
